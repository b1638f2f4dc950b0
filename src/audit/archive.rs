//! Copies of closed files of the log in a folder, made before the files are removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::file::{Disk, read_full};
use super::origin::Origin;

/// The end of a copy's name while it is made.
const PART: &str = "part";

/// Number of bytes of one read.
const STEP: usize = 1 << 20;

/// Why a file could not be archived.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Its folder is missing, is no folder, or cannot be written to.
    #[error("the archive's folder {} cannot be used: {source}. Mount or make it, for the gateway's user to write to", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system returned an error.
    #[error("the archive cannot be written: {}: {source}", path.display())]
    Io {
        /// The file or folder that the error is of.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The archive has a file of that name with other content.
    #[error(
        "the archive has {} with other content than the audit log's file of that name. Find out which log it is of, and move it away; \
         the gateway never overwrites it", .0.display()
    )]
    Differs(PathBuf),
}

impl ArchiveError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

/// Checks that the archive's folder exists, and that this process may write to it.
///
/// # Errors
/// [`ArchiveError::Folder`].
pub(super) fn check(archive: &Path) -> Result<(), ArchiveError> {
    let check = || match fs::metadata(archive)?.is_dir() {
        true => Ok(access(archive, Access::WRITE_OK | Access::EXEC_OK)?),
        false => Err(io::ErrorKind::NotADirectory.into()),
    };
    check().map_err(|source| ArchiveError::Folder {
        path: archive.to_owned(),
        source,
    })
}

/// The folder in the archive for the files of that log.
pub(super) fn folder_of(archive: &Path, origin: &Origin) -> PathBuf {
    archive.join(origin.installation.to_string()).join(origin.node.as_str())
}

/// Copies the first `length` bytes of a closed file to the archive, whole and durably, under the same
/// name. A copy that is there already is compared and synced.
///
/// # Errors
/// [`ArchiveError`]. The archive has no file of that name then, or the one that it had.
pub(super) fn copy(disk: &dyn Disk, file: &Path, length: u64, archive: &Path, origin: &Origin) -> Result<(), ArchiveError> {
    let folder = folder_of(archive, origin);
    for level in folder.parent().into_iter().chain([&*folder]) {
        disk.create_folder(level).map_err(ArchiveError::at(level))?;
    }
    let name = file.file_name().ok_or_else(|| io::ErrorKind::InvalidFilename.into());
    let target = folder.join(name.map_err(ArchiveError::at(file))?);
    let source = File::open(file).map_err(ArchiveError::at(file))?;
    match File::open(&target) {
        Ok(found) => {
            if !is_same(&source, length, &found).map_err(ArchiveError::at(&target))? {
                return Err(ArchiveError::Differs(target));
            }
            // Its name may not be durable yet.
            let synced = disk.sync_new(&found).and_then(|()| disk.sync_folder(&folder));
            synced.map_err(ArchiveError::at(&target))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut part = target.clone().into_os_string();
            part.push(".");
            part.push(PART);
            let part = PathBuf::from(part);
            let made = make(disk, &source, length, &part, &target);
            if made.is_err() {
                // It would take room that is scarce.
                let _ = disk.remove(&part);
            }
            made.map_err(ArchiveError::at(&target))
        }
        Err(error) => Err(ArchiveError::at(&target)(error)),
    }
}

fn make(disk: &dyn Disk, source: &File, length: u64, part: &Path, target: &Path) -> io::Result<()> {
    let copy = disk.create(part)?;
    disk.copy(source, &copy, length)?;
    disk.sync_new(&copy)?;
    if !is_same(source, length, &copy)? {
        return Err(io::Error::other("the copy is not what was written"));
    }
    disk.rename(part, target)
}

/// Whether the other file has the first `length` bytes of this one, and nothing else.
fn is_same(file: &File, length: u64, other: &File) -> io::Result<bool> {
    if other.metadata()?.len() != length {
        return Ok(false);
    }
    let (mut own, mut found) = (vec![0; STEP], vec![0; STEP]);
    let mut at = 0;
    while at < length {
        let step = STEP.min(usize::try_from(length - at).unwrap_or(STEP));
        let whole = read_full(file, at, &mut own[..step])? == step && read_full(other, at, &mut found[..step])? == step;
        if !whole || own[..step] != found[..step] {
            return Ok(false);
        }
        at += step as u64;
    }
    Ok(true)
}
