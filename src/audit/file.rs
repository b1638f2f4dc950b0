//! The log's file, behind a small trait so that tests can make it slow, full or broken.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
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
    /// How the file was found now, beside the path under which the log is kept.
    fn look(&self) -> io::Result<Look>;
    /// Puts a copy of the first `length` bytes, or of all if there are fewer, in the file's place
    /// and goes on with the copy.
    fn put_back(&mut self, length: u64) -> io::Result<()>;
    /// Sets the length of the file, in bytes.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// The free space of the file system, in bytes.
    fn available_space(&self) -> io::Result<u64>;
    /// Sets the size of the disk reserve, in bytes.
    fn hold_reserve(&mut self, bytes: u64) -> io::Result<()>;
}

/// How the open file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look {
    /// Whether any path leads to the file.
    pub(super) linked: bool,
    /// Whether the log's own path leads to it.
    pub(super) in_place: bool,
    /// The length in bytes.
    pub(super) length: u64,
}

/// The name of the log's file in its folder.
pub(super) const LOG_NAME: &str = "audit.log";
/// The name of a file that was found in the place of the log's.
const REPLACED_NAME: &str = "audit.log.replaced";
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
        Ok(Self {
            file,
            folder: folder.to_owned(),
            reserve: own_reserve(folder)?,
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

    /// Gives a file that was put in the log's place another name: it may be somebody's only copy
    /// of an older log.
    fn keep_replaced(&self, path: &Path) {
        let replaced = self.folder.join(REPLACED_NAME);
        if path.exists() {
            let _ = fs::remove_file(&replaced);
            match fs::hard_link(path, &replaced) {
                Ok(()) => tracing::warn!(file = %replaced.display(), "the file in the audit log's place is kept under another name"),
                Err(error) => tracing::warn!(%error, "the file in the audit log's place could not be kept"),
            }
        }
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

    fn look(&self) -> io::Result<Look> {
        let open = self.file.metadata()?;
        let in_place = match fs::metadata(self.folder.join(LOG_NAME)) {
            Ok(found) => (found.dev(), found.ino()) == (open.dev(), open.ino()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => false,
            Err(error) => return Err(error),
        };
        Ok(Look {
            linked: open.nlink() > 0,
            in_place,
            length: open.len(),
        })
    }

    fn put_back(&mut self, length: u64) -> io::Result<()> {
        let path = self.folder.join(LOG_NAME);
        let beside = self.folder.join("audit.log.new");
        let mut copy = private().read(true).write(true).create(true).truncate(true).open(&beside)?;
        // Before it has its name, so that no other process can open it in between.
        copy.try_lock()?;
        let mut source = &self.file;
        source.seek(SeekFrom::Start(0))?;
        io::copy(&mut source.take(length), &mut copy)?;
        copy.sync_all()?;
        self.keep_replaced(&path);
        fs::rename(&beside, &path)?;
        sync_folder(&path)?;
        self.file = copy;
        Ok(())
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

/// Makes the disk reserve anew, because a copy of the folder may share the blocks of the old one:
/// giving those back would make no room. Where the disk has no room for both, the old one stays.
fn own_reserve(folder: &Path) -> io::Result<File> {
    let (path, beside) = (folder.join(RESERVE_NAME), folder.join("audit.reserve.new"));
    let renewed = || {
        let bytes = fs::metadata(&path).map_or(0, |old| old.len());
        let file = private().write(true).create(true).truncate(true).open(&beside)?;
        if bytes > 0 {
            fs4::FileExt::allocate(&file, bytes)?;
        }
        fs::rename(&beside, &path)?;
        sync_folder(&path)?;
        Ok(file)
    };
    renewed().or_else(|error: io::Error| {
        tracing::warn!(%error, "the disk reserve could not be made anew; a copy of the data folder may share its blocks");
        let _ = fs::remove_file(&beside);
        private().write(true).create(true).truncate(false).open(&path)
    })
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
