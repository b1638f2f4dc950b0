//! The lock on the data folder: one process at a time uses it, and only its owner may write in it.
//! Used by `boot`.
//!
//! Both the folder itself and a file in it are locked. The file can be removed beneath its lock, which a
//! second process then does not meet; the folder cannot. The file keeps earlier releases out, and is
//! enough where the file system cannot lock a folder.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::parent_folder;

/// The locked file.
pub const LOCK_FILE: &str = "lock";

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has locked it.
    #[error("another claviger process uses the data folder {0}; stop it, or give this one a data folder of its own")]
    Busy(PathBuf),
    /// Other users can write in it.
    #[error("the data folder {path} has mode {mode:04o}: others than its owner can write in it; run `chmod 700 {path}`")]
    TooWide {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user, who can write in it.
    #[error("the data folder {path} belongs to user {owner}, not to the user {user} that the gateway runs as")]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
        /// The gateway's user id.
        user: u32,
    },
    /// The path is not a folder.
    #[error("{0} is no folder")]
    NotAFolder(PathBuf),
    /// The file system failed.
    #[error("the data folder {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The data folder, held by this process until this value is dropped, or the process ends
/// in whatever way.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _locks: [File; 2],
}

impl DataDir {
    /// Makes the folder with mode 0700 if it is absent, and locks it.
    ///
    /// # Errors
    /// See [`LockError`]. It does not wait.
    pub fn lock(path: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let absent = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made: Vec<&Path> = path.ancestors().take_while(absent).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| {
            if path.exists() {
                LockError::NotAFolder(path.to_owned())
            } else {
                failed(source)
            }
        })?;
        // What is answered later is lost with the folder if its name does not reach the disk.
        for folder in made {
            parent_folder::sync(folder).map_err(failed)?;
        }
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            return Err(LockError::TooWide {
                path: path.to_owned(),
                mode,
            });
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user && owner != 0 {
            return Err(LockError::Foreign {
                path: path.to_owned(),
                owner,
                user,
            });
        }
        // First: a start that ends here has changed nothing.
        let folder = File::open(path).map_err(failed)?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => tracing::warn!(
                %error,
                "the file system cannot lock the data folder itself: do not remove the file {LOCK_FILE} in it while the gateway runs"
            ),
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _locks: [folder, lock],
            }),
            Err(TryLockError::WouldBlock) => Err(LockError::Busy(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Path of the locked folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
