//! A file that takes another one's place when it is complete.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A temporary file beside its target. It is removed unless it is finished.
pub(super) struct Replacement {
    file: NamedTempFile,
    target: PathBuf,
    /// Of the file that it replaces.
    permissions: Option<Permissions>,
}

impl Replacement {
    /// Opens the source and a temporary file for the target.
    pub(super) fn begin(source: &Path, target: &Path) -> Result<(File, Self)> {
        let failed = |what: &str, path: &Path| {
            let what = format!("{} cannot be {what}", path.display());
            move |error| Error::io(&what, error)
        };
        let (target, permissions) = replaceable(target).map_err(failed("replaced", target))?;
        let source = File::open(source).map_err(failed("read", source))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".claviger-").suffix(".part");
        let file = builder.tempfile_in(folder(&target)).map_err(failed("written", &target))?;
        let replacement = Self { file, target, permissions };
        Ok((source, replacement))
    }

    /// Syncs it and puts it in the target's place.
    pub(super) fn finish(self, canceled: &AtomicBool) -> Result<()> {
        let replaced = || -> io::Result<()> {
            self.file.as_file().sync_all()?;
            if let Some(permissions) = self.permissions {
                self.file.as_file().set_permissions(permissions)?;
            }
            if canceled.load(Ordering::Relaxed) {
                return Err(io::Error::other("the caller canceled it"));
            }
            self.file.persist(&self.target)?;
            Ok(())
        };
        let folder = folder(&self.target).to_owned();
        let what = format!("{} cannot be written", self.target.display());
        replaced().map_err(|error| Error::io(&what, error))?;
        // The target is replaced already. Some file systems sync no folders.
        drop(File::open(folder).and_then(|folder| folder.sync_all()));
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_file_mut().flush()
    }
}

fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Where a target is, and its permissions if it exists. A symbolic link stays one: what it leads to is replaced.
fn replaceable(target: &Path) -> io::Result<(PathBuf, Option<Permissions>)> {
    let found = match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((target.to_owned(), None)),
        found => found?,
    };
    let (target, found) = match found.is_symlink() {
        true => {
            let target = fs::canonicalize(target)?;
            let found = fs::symlink_metadata(&target)?;
            (target, found)
        }
        false => (target.to_owned(), found),
    };
    match found.is_file() {
        true => Ok((target, Some(found.permissions()))),
        false => Err(io::Error::other("it is not a regular file")),
    }
}
