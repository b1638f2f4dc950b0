//! The manifest of a backup: which files it has, and what they must hash to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use claviger_provider::{InstallationId, Node};
use serde::{Deserialize, Serialize};

use crate::audit::Timestamp;

/// Name of the file in a backup.
pub(super) const MANIFEST: &str = "manifest.json";
const FORMAT: &str = "claviger-backup/1";
/// Bytes of one read.
const CHUNK: usize = 1 << 20;

/// What a backup contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    /// When the copy of the store was made.
    pub created: Timestamp,
    /// The release that made it.
    pub release: String,
    /// The installation.
    pub installation: InstallationId,
    /// The node.
    pub node: Node,
    /// Length of the audit log, in bytes.
    pub log_bytes: u64,
    /// The time of the log's last record.
    pub last_record: Option<Timestamp>,
    /// The files, except for this one.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of its content, in hex.
    pub sha256: String,
}

/// Why a backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A backup that was not finished, or no backup.
    #[error("{} is not a complete backup: it has no {MANIFEST}. Name the folder of another one", .0.display())]
    Incomplete(PathBuf),
    /// The manifest is not one of this format.
    #[error("{} is no manifest of a backup that this release can read", .0.display())]
    Malformed(PathBuf),
    /// A file is missing, or is not the one that was backed up.
    #[error("{} is not the file that was backed up: its length or its SHA-256 differs. Use another backup", .0.display())]
    Differs(PathBuf),
}

/// An error of the file system at this path.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> ManifestError {
    let path = path.to_owned();
    |source| ManifestError::Io { path, source }
}

impl Manifest {
    /// Writes the manifest of the files with these names in a folder.
    pub(super) fn write(folder: &Path, names: &[&str], of: Self) -> Result<Self, ManifestError> {
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            files.push(BackupFile::read(folder, name)?);
        }
        let manifest = Self { files, ..of };
        let path = folder.join(MANIFEST);
        let written = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from).and_then(|mut text| {
            text.push(b'\n');
            write_synced(&path, &mut text.as_slice())
        });
        written.map_err(at(&path))?;
        Ok(manifest)
    }

    /// An empty manifest of this release.
    pub(super) fn new(installation: InstallationId, node: Node, log_bytes: u64, last_record: Option<Timestamp>) -> Self {
        Self {
            format: FORMAT.to_owned(),
            created: Timestamp::now(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            installation,
            node,
            log_bytes,
            last_record,
            files: Vec::new(),
        }
    }

    /// Reads the manifest of a backup, and compares every file with it.
    pub(super) fn verified(folder: &Path) -> Result<Self, ManifestError> {
        let path = folder.join(MANIFEST);
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder.is_dir() => {
                return Err(ManifestError::Incomplete(folder.to_owned()));
            }
            read => read.map_err(at(&path))?,
        };
        let manifest: Self = serde_json::from_slice(&text).map_err(|_| ManifestError::Malformed(path.clone()))?;
        let is_name = |file: &BackupFile| !file.name.contains('/') && file.name != MANIFEST && file.name != "..";
        if manifest.format != FORMAT || !manifest.files.iter().all(is_name) {
            return Err(ManifestError::Malformed(path));
        }
        for file in &manifest.files {
            if BackupFile::read(folder, &file.name)? != *file {
                return Err(ManifestError::Differs(folder.join(&file.name)));
            }
        }
        Ok(manifest)
    }

    /// Whether a file is part of the backup.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }
}

impl BackupFile {
    fn read(folder: &Path, name: &str) -> Result<Self, ManifestError> {
        let path = folder.join(name);
        let mut hashing = Hashing::of(File::open(&path).map_err(at(&path))?);
        io::copy(&mut hashing, &mut io::sink()).map_err(at(&path))?;
        Ok(hashing.end(name))
    }

    /// Copies the file to another folder, and compares what was copied.
    pub(super) fn copy(&self, from: &Path, to: &Path) -> Result<(), ManifestError> {
        let (source, target) = (from.join(&self.name), to.join(&self.name));
        let mut hashing = Hashing::of(File::open(&source).map_err(at(&source))?);
        write_synced(&target, &mut hashing).map_err(at(&target))?;
        if hashing.end(&self.name) == *self {
            Ok(())
        } else {
            Err(ManifestError::Differs(source))
        }
    }
}

/// Writes a new file of mode 0600, which is on stable storage when this returns.
pub(super) fn write_synced(path: &Path, content: &mut impl Read) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match content.read(&mut chunk)? {
            0 => return file.sync_all(),
            read => file.write_all(&chunk[..read])?,
        }
    }
}

/// Hashes what is read through it.
struct Hashing {
    file: File,
    bytes: u64,
    context: digest::Context,
}

impl Hashing {
    fn of(file: File) -> Self {
        Self {
            file,
            bytes: 0,
            context: digest::Context::new(&digest::SHA256),
        }
    }

    fn end(self, name: &str) -> BackupFile {
        BackupFile {
            name: name.to_owned(),
            bytes: self.bytes,
            sha256: hex::encode(self.context.finish()),
        }
    }
}

impl Read for Hashing {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.bytes += read as u64;
        self.context.update(&into[..read]);
        Ok(read)
    }
}
