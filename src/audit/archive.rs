//! Copies of closed files of the log in a folder, made before the files are removed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::file::{Disk, read_full};
use super::origin::Origin;

/// The end of a copy's name while it is made.
const PART: &str = "part";

/// Number of bytes of one read.
const STEP: usize = 1 << 20;

/// Why a file could not be archived.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file system returned an error.
    #[error("the archive cannot be written")]
    Io(#[from] io::Error),
    /// The archive has a file of that name with other content.
    #[error(
        "the archive has {} with other content than the audit log's file of that name. Find out which log it is of, and move it away; \
         the gateway never overwrites it", .0.display()
    )]
    Differs(PathBuf),
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
        disk.create_folder(level)?;
    }
    let name = file.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let target = folder.join(name);
    let source = File::open(file)?;
    match File::open(&target) {
        Ok(found) => {
            if !is_same(&source, length, &found)? {
                return Err(ArchiveError::Differs(target));
            }
            // Its name may not be durable yet.
            disk.sync_new(&found)?;
            Ok(disk.sync_folder(&folder)?)
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
            Ok(made?)
        }
        Err(error) => Err(error.into()),
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
