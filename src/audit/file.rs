//! The disk under the log, behind a small trait so that tests can make it slow, full or broken.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use crate::parent_folder;

/// The log as readers see it: the contents of its files in a row.
pub(super) trait LogFile {
    /// Reads at that position. Returns fewer bytes than asked for only at the end of the last
    /// file. A missing byte before it reads as zero.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
}

/// What the log does to the disk. Every call may block; no request's thread makes them.
pub(super) trait Disk: Send + Sync {
    /// Whether the path of the log's folder still leads to the folder that was opened.
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }
    /// Creates an empty file, or empties one, that only its owner may read and write, and locks it.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes all bytes at `offset` of a file of the log. After an error any part of them may be
    /// in the file.
    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes what was written to a file of the log durable (`fdatasync`).
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Writes at `offset` of a file that is being made, and so is no part of the log yet.
    fn fill(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file that is being made durable, with its length (`fsync`).
    fn sync_new(&self, file: &File) -> io::Result<()>;
    /// Sets the length of a file, in bytes.
    fn set_len(&self, file: &File, length: u64) -> io::Result<()>;
    /// Copies the first bytes of a file, or all if there are fewer, to an empty one.
    fn copy(&self, from: &File, to: &File, length: u64) -> io::Result<()>;
    /// Gives a file another name in its folder, durably.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Replaces a file, durably: after a crash it has either the old or the new content, complete. After an
    /// error it has the old one.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;
    /// Removes a file if it exists.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Creates a folder that only its owner may use, durably. One that exists is fine.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// The free space of the file system, in bytes.
    fn available_space(&self, folder: &Path) -> io::Result<u64>;
}

/// The real disk.
#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = private().read(true).write(true).create(true).truncate(false).open(path)?;
        // Before it is emptied: another process may be using it.
        file.try_lock()?;
        file.set_len(0)?;
        Ok(file)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn fill(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync_new(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn copy(&self, mut from: &File, mut to: &File, length: u64) -> io::Result<()> {
        from.seek(SeekFrom::Start(0))?;
        io::copy(&mut from.take(length), &mut to).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        parent_folder::sync(to)
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("new");
        let mut file = private().write(true).create(true).truncate(true).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        self.rename(&beside, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => parent_folder::sync(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => parent_folder::sync(path),
            Err(error) => Err(error),
        }
    }

    fn available_space(&self, folder: &Path) -> io::Result<u64> {
        fs4::available_space(folder)
    }
}

/// Whether the error means that the disk is full, or a limit on files of the process is reached (`ulimit -f`).
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The error with the name of its file.
pub(super) fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Reads at that offset of a file. Returns fewer bytes than asked for only at its end.
pub(super) fn read_full(file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Options for files that only their owner may read and write.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Removes a file, and syncs its folder.
///
/// # Errors
/// Errors of the file system; the file may be gone.
pub(super) fn remove_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    disk.remove(path)?;
    path.parent().map_or(Ok(()), |folder| disk.sync_folder(folder))
}
