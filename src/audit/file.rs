//! The log's file, behind a small trait so that tests can make it slow, full or broken.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the log needs of a file. Every call may block; only the thread of the group commit
/// makes them.
pub(super) trait LogFile: Send {
    /// Reads at `offset`. Returns fewer bytes than asked for only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes at `offset`. After an error any part of them may be in the file.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the written bytes and the length durable (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Sets the length of the file, in bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// The free space of the file system, in bytes.
    fn available_space(&self) -> io::Result<u64>;
    /// Sets the size of the disk reserve, in bytes.
    fn hold_reserve(&mut self, bytes: u64) -> io::Result<()>;
}

/// The name of the log's file in its folder.
pub(super) const LOG_NAME: &str = "audit.log";
const RESERVE_NAME: &str = "audit.reserve";

/// The real file. A lock keeps other processes out while it is open.
pub(super) struct DiskFile {
    file: File,
    folder: PathBuf,
    reserve: File,
}

impl DiskFile {
    /// Opens the log in the folder, or creates one that begins with `header`.
    ///
    /// # Errors
    /// Errors of the file system; [`io::ErrorKind::WouldBlock`] if another process has the
    /// log open.
    pub(super) fn open(folder: &Path, header: &str) -> io::Result<Self> {
        let path = folder.join(LOG_NAME);
        if !path.try_exists()? {
            replace(&path, header.as_bytes())?;
        }
        let file = private().read(true).write(true).open(&path)?;
        file.try_lock()?;
        let reserve = private().write(true).create(true).truncate(false).open(folder.join(RESERVE_NAME))?;
        Ok(Self {
            file,
            folder: folder.to_owned(),
            reserve,
        })
    }

    /// Opens an existing log for reading, without the lock.
    pub(super) fn open_beside(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(folder.join(LOG_NAME))?,
            folder: folder.to_owned(),
            reserve: File::open(folder.join(RESERVE_NAME))?,
        })
    }
}

impl LogFile for DiskFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < into.len() {
            match self.file.read_at(&mut into[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(n) => read += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn available_space(&self) -> io::Result<u64> {
        fs4::available_space(&self.folder)
    }

    fn hold_reserve(&mut self, bytes: u64) -> io::Result<()> {
        if self.reserve.metadata()?.len() > bytes {
            return self.reserve.set_len(bytes);
        }
        match fs4::FileExt::allocate(&self.reserve, bytes) {
            // A file system without fallocate: write zeros instead.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                let mut rest = bytes;
                let zeros = vec![0; 1 << 20];
                while rest > 0 {
                    let part = zeros.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                    self.reserve.write_all_at(&zeros[..part], bytes - rest)?;
                    rest -= part as u64;
                }
                self.reserve.sync_data()
            }
            other => other,
        }
    }
}

/// Options for files that only their owner may read and write.
pub(super) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// Replaces the file at `path` atomically: after a crash it has either the old or the new
/// content, complete.
///
/// # Errors
/// Errors of the file system; the old file is unchanged then.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = private().write(true).create(true).truncate(true).open(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder(path)
}

/// Makes the directory entries of the folder of `path` durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
