//! The data folder by its descriptor: what is made in it stays in it, wherever its path leads later.
//!
//! A folder that was moved away or replaced while the gateway runs must not get files of the gateway
//! under its old path: another installation, or a restored copy, may be there.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, linkat, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::file::{Disk, RealDisk};

/// An open folder.
#[derive(Debug)]
pub(super) struct HeldFolder {
    path: PathBuf,
    folder: File,
}

/// Whether two files are one: by device and inode.
pub(super) fn is_same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether the path leads to this open file.
///
/// # Errors
/// Errors of the file system, except for a missing file.
pub(super) fn is_at(path: &Path, file: &File) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(is_same(&found, &file.metadata()?)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

impl HeldFolder {
    /// Opens the folder at that path.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            folder: File::open(path)?,
        })
    }

    /// Whether the path still leads to the folder.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        is_at(&self.path, &self.folder)
    }

    /// Opens a file in the folder for reading and writing; creates it, if there is none, for its owner only.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn open_file(&self, name: &Path) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.folder, name, flags, Mode::RUSR | Mode::WUSR)?))
    }

    /// Gives a file another name in the folder. [`HeldFolder::sync`] makes it durable.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat(&self.folder, from, &self.folder, to)?)
    }

    /// Gives a file another name, in place of what has that. The file also keeps its own, so that another can
    /// take its place at once; a folder does not.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn keep(&self, name: &Path, other: &Path) -> io::Result<()> {
        let link = || linkat(&self.folder, name, &self.folder, other, AtFlags::empty());
        match link() {
            // Of a folder.
            Err(Errno::PERM) => self.rename(name, other),
            Err(Errno::EXIST) => {
                self.remove(other)?;
                Ok(link()?)
            }
            linked => Ok(linked?),
        }
    }

    /// Removes a file if it exists.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn remove(&self, name: &Path) -> io::Result<()> {
        match unlinkat(&self.folder, name, AtFlags::empty()).map_err(io::Error::from) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Makes the names in the folder durable.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.folder.sync_all()
    }

    /// The name of a file in the folder; `None` of a path elsewhere.
    fn name<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        path.strip_prefix(&self.path).ok().filter(|name| name.components().count() == 1)
    }
}

/// The real disk, whose files in one folder are made, renamed and removed by its descriptor.
#[derive(Debug)]
pub(super) struct HeldDisk(HeldFolder);

impl HeldDisk {
    /// For the files in that folder.
    ///
    /// # Errors
    /// Errors of the file system.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self(HeldFolder::open(folder)?))
    }
}

impl Disk for HeldDisk {
    fn is_in_place(&self) -> io::Result<bool> {
        self.0.is_in_place()
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        let Some(name) = self.0.name(path) else {
            return RealDisk.create(path);
        };
        let file = self.0.open_file(name)?;
        // Before it is emptied: another process may be using it.
        file.try_lock()?;
        file.set_len(0)?;
        Ok(file)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        RealDisk.write_at(file, offset, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }

    fn fill(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        RealDisk.fill(file, offset, bytes)
    }

    fn sync_new(&self, file: &File) -> io::Result<()> {
        RealDisk.sync_new(file)
    }

    fn set_len(&self, file: &File, length: u64) -> io::Result<()> {
        RealDisk.set_len(file, length)
    }

    fn copy(&self, from: &File, to: &File, length: u64) -> io::Result<()> {
        RealDisk.copy(from, to, length)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match (self.0.name(from), self.0.name(to)) {
            (Some(from), Some(to)) => {
                self.0.rename(from, to)?;
                self.0.sync()
            }
            _ => RealDisk.rename(from, to),
        }
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("new");
        let (Some(_), Some(new)) = (self.0.name(path), self.0.name(&beside)) else {
            return RealDisk.replace(path, content);
        };
        let file = self.0.open_file(new)?;
        file.set_len(0)?;
        self.write_at(&file, 0, content)?;
        file.sync_all()?;
        self.rename(&beside, path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match self.0.name(path) {
            Some(name) => self.0.remove(name),
            None => RealDisk.remove(path),
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        match folder == self.0.path {
            true => self.0.sync(),
            false => RealDisk.sync_folder(folder),
        }
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_folder(path)
    }

    fn available_space(&self, folder: &Path) -> io::Result<u64> {
        RealDisk.available_space(folder)
    }
}
