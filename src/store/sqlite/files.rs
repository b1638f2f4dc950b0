//! The database's files while the gateway runs: something else may remove or replace them.
//!
//! The connections then go on with the files that they have open, and the next start finds others, or
//! none. So the paths are compared with the files that were opened: before a change and after its commit,
//! when a connection is opened, and twice a second. Reads go on through the open connections. The files are
//! compared by their names only: opening and closing one would end SQLite's locks on it (fcntl(2)).

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::store::StoreError;

/// A file by its device and inode.
type FileId = (u64, u64);

/// The files of an open database.
pub(super) struct Files {
    database: PathBuf,
    log: PathBuf,
    /// Of the main file and the log; a file that is not known yet is not compared.
    opened: Mutex<(Option<FileId>, Option<FileId>)>,
    /// Whether the last comparison found another file, or none.
    lost: AtomicBool,
}

fn id_at(path: &Path) -> io::Result<Option<FileId>> {
    let id = |found: Metadata| (found.dev(), found.ino());
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(id(found))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Files {
    /// The files of a database that is about to be opened.
    pub(super) fn of(database: &Path) -> Self {
        let mut log = database.as_os_str().to_owned();
        log.push("-wal");
        Self {
            database: database.to_owned(),
            log: log.into(),
            opened: Mutex::default(),
            lost: AtomicBool::new(false),
        }
    }

    /// Takes the files at the paths for those that were opened.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn note(&self) -> io::Result<()> {
        let found = (id_at(&self.database)?, id_at(&self.log)?);
        *self.opened.lock() = found;
        Ok(())
    }

    /// As [`Files::note`] of the log, which SQLite makes anew after its last connection was closed.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn note_log(&self) -> io::Result<()> {
        let found = id_at(&self.log)?;
        self.opened.lock().1 = found;
        Ok(())
    }

    /// The files are about to be closed: SQLite removes the log with its last connection.
    pub(super) fn forget(&self) {
        *self.opened.lock() = (None, None);
    }

    /// Whether a connection that was opened now has the main file that the others have.
    ///
    /// # Errors
    /// [`StoreError::FilesLost`]; the file system's as [`StoreError::Database`].
    pub(super) fn check_database(&self) -> Result<(), StoreError> {
        let opened = self.opened.lock().0;
        let found = id_at(&self.database).map_err(|error| StoreError::Database(Box::new(error)))?;
        match opened.is_none() || found == opened {
            true => Ok(()),
            false => Err(StoreError::FilesLost),
        }
    }

    /// Compares the paths with the files that were opened.
    ///
    /// # Errors
    /// [`StoreError::FilesLost`]; the file system's as [`StoreError::Database`].
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let opened = *self.opened.lock();
        let is_at = |path: &Path, opened: Option<FileId>| {
            let found = id_at(path).map_err(|error| StoreError::Database(Box::new(error)))?;
            Ok::<_, StoreError>(opened.is_none() || found == opened)
        };
        let (database, log) = (is_at(&self.database, opened.0)?, is_at(&self.log, opened.1)?);
        let lost = !(database && log);
        let file = if database { &self.log } else { &self.database };
        if lost != self.lost.swap(lost, Ordering::AcqRel) {
            match lost {
                true => tracing::error!(
                    file = %file.display(),
                    "a file of the store was removed, moved or replaced by something else than the gateway: it takes no change until the file \
                     is at its path again. Move it back. If it is gone, stop the gateway and restore the store from the newest copy"
                ),
                false => tracing::warn!("the store's files are at their paths again"),
            }
        }
        if lost { Err(StoreError::FilesLost) } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_moved_or_replaced_is_found_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("claviger.db");
        let log = folder.path().join("claviger.db-wal");
        let files = Files::of(&database);
        files.check().unwrap();
        for path in [&database, &log] {
            std::fs::write(path, "opened").unwrap();
        }
        files.note().unwrap();
        files.check().unwrap();
        for path in [&database, &log] {
            let away = path.with_extension("away");
            std::fs::rename(path, &away).unwrap();
            assert!(matches!(files.check(), Err(StoreError::FilesLost)));
            std::fs::write(path, "another").unwrap();
            assert!(matches!(files.check(), Err(StoreError::FilesLost)));
            std::fs::rename(&away, path).unwrap();
            files.check().unwrap();
        }
        std::fs::write(folder.path().join("new"), "made by SQLite").unwrap();
        std::fs::rename(folder.path().join("new"), &log).unwrap();
        files.note_log().unwrap();
        files.check().unwrap();
    }
}
