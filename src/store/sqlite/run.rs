//! The run number: which run of the gateway the database's main file belongs to.
//!
//! SQLite merges any whole write-ahead log (`claviger.db-wal`) that it finds beside the database's
//! main file, also one of a newer state than the file. So a main file that was restored alone would
//! become a mixture of two states. Each run draws a number. It is stored in the main file (SQLite's
//! `user_version`, made part of the file by a checkpoint at the start) and in the file `store.run`,
//! whose name the copy of `claviger.db*` does not contain. [`check`] compares the two before SQLite
//! opens anything.
//!
//! ```text
//! store.run = "claviger-store-run/1 " number " " number " " ("open" | "closed") "\n"
//! ```
//!
//! The numbers differ while a start changes from the first to the second. After `closed`, there is no
//! log: SQLite removed it with its last connection.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;
use sqlx::{AssertSqlSafe, Row, SqlitePool, query, query_scalar};

use crate::parent_folder;
use crate::store::StoreError;

/// Name of the file in the data folder.
pub(super) const FILE: &str = "store.run";
const MAGIC: &str = "claviger-store-run/1";
/// Where the main file has the number: <https://www.sqlite.org/fileformat2.html>, offset 60.
const USER_VERSION: usize = 60;

/// The write-ahead log beside a database does not belong to it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} is not the log of {}: one of the two was restored without the other, and together they would be a mixture of two states. \
     Restore the whole data folder (`claviger restore`). If there is no newer copy, start once with --accept-rollback: the \
     database is used without this log, which is kept as {}. Only if neither was restored, and another program such as sqlite3 was \
     killed while it wrote to the database of the stopped gateway: open the database with that program once more and close it, which \
     completes what it had committed, then start",
    .log.display(), .database.display(), .aside.display()
)]
pub struct StaleLog {
    database: PathBuf,
    log: PathBuf,
    aside: PathBuf,
}

impl StaleLog {
    fn beside(database: &Path) -> Self {
        let log = beside(database, "-wal");
        Self {
            database: database.to_owned(),
            aside: beside(&log, ".replaced"),
            log,
        }
    }

    /// Gives the log another name, and removes SQLite's index of it.
    pub(super) fn put_aside(&self) -> io::Result<()> {
        std::fs::rename(&self.log, &self.aside)?;
        match std::fs::remove_file(beside(&self.database, "-shm")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        parent_folder::sync(&self.database)
    }
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    current: i32,
    next: i32,
    closed: bool,
}

impl Known {
    const fn open(current: i32, next: i32) -> Self {
        Self {
            current,
            next,
            closed: false,
        }
    }

    fn read(database: &Path) -> io::Result<Option<Self>> {
        let text = match std::fs::read_to_string(file(database)) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => return Ok(None),
            Err(error) => return Err(error),
        };
        let known = Self::parse(&text);
        if known.is_none() {
            tracing::warn!("the file {FILE} in the data folder is damaged: the database's log is not compared with it");
        }
        Ok(known)
    }

    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.strip_suffix('\n')?.split(' ').collect();
        let [MAGIC, current, next, state] = words[..] else { return None };
        Some(Self {
            current: current.parse().ok()?,
            next: next.parse().ok()?,
            closed: match state {
                "open" => false,
                "closed" => true,
                _ => return None,
            },
        })
    }

    /// Replaces the file, durably.
    fn write(self, database: &Path) -> io::Result<()> {
        let Self { current, next, closed } = self;
        let state = if closed { "closed" } else { "open" };
        let mut file = tempfile::Builder::new()
            .prefix(".claviger-")
            .tempfile_in(parent_folder::of(database))?;
        writeln!(file, "{MAGIC} {current} {next} {state}")?;
        file.as_file().sync_all()?;
        file.persist(self::file(database)).map_err(|error| error.error)?;
        parent_folder::sync(database)
    }

    /// As [`Known::write`]. Where that fails, as on a full disk, removes the file: without it, nothing is
    /// compared, while a wrong one would refuse the next start.
    fn write_or_remove(self, database: &Path) -> bool {
        let Err(error) = self.write(database) else { return true };
        tracing::warn!(%error, "the file {FILE} could not be written: the next start does not compare the database with its log");
        if let Err(error) = std::fs::remove_file(file(database)) {
            tracing::warn!(%error, "the old file {FILE} could not be removed");
        }
        false
    }
}

fn file(database: &Path) -> PathBuf {
    parent_folder::of(database).join(FILE)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Whether SQLite would merge a log into the main file.
fn has_log(database: &Path) -> io::Result<bool> {
    match std::fs::metadata(beside(database, "-wal")) {
        Ok(found) => Ok(found.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Compares the main file's number with the other file's, if there is a log. A database that this process
/// has open must not be read here: closing the file would end SQLite's locks on it (fcntl(2)).
///
/// # Errors
/// The file system's.
pub(super) fn check(database: &Path) -> io::Result<Result<(), StaleLog>> {
    let known = Known::read(database)?;
    let fits = match known {
        // A folder of an earlier build.
        None => true,
        Some(_) if !has_log(database)? => true,
        Some(Known { closed: true, .. }) => false,
        Some(Known { current, next, .. }) => {
            let number = number_in(database)?;
            number.is_none_or(|number| number == current || number == next)
        }
    };
    Ok(if fits { Ok(()) } else { Err(StaleLog::beside(database)) })
}

/// The number in the main file; `None` if it is too short for a database.
fn number_in(database: &Path) -> io::Result<Option<i32>> {
    let mut header = [0; USER_VERSION + 4];
    match File::open(database)?.read_exact(&mut header) {
        Ok(()) => Ok(header.last_chunk().map(|number| i32::from_be_bytes(*number))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// A number that no other copy of the database has.
fn draw() -> Result<i32, StoreError> {
    let mut bytes = [0; 4];
    rand::fill(&mut bytes).map_err(|_| StoreError::Damaged("no random numbers"))?;
    // 0 is the number of a database without one.
    Ok(i32::from_be_bytes(bytes).max(i32::MIN + 1).abs().max(1))
}

/// A run of the gateway on a database.
pub(super) struct Run {
    database: PathBuf,
    number: i32,
}

impl Run {
    /// Notes, before the database is opened, that it will have a log again.
    pub(super) fn reopen(database: &Path) {
        if let Ok(Some(Known {
            current,
            next,
            closed: true,
        })) = Known::read(database)
        {
            Known::open(current, next).write_or_remove(database);
        }
    }

    /// Begins a run: gives it a number. A start must be possible on a full disk, so what cannot be written
    /// is left as it was, with a warning.
    pub(super) async fn begin(database: &Path, pool: &SqlitePool) -> Result<Self, StoreError> {
        let current: i32 = query_scalar("PRAGMA user_version").fetch_one(pool).await?;
        let next = draw()?;
        let mut run = Self {
            database: database.to_owned(),
            number: current,
        };
        if !Known::open(current, next).write_or_remove(database) {
            return Ok(run);
        }
        match set(pool, next).await {
            Ok(true) => {
                run.number = next;
                Known::open(next, next).write_or_remove(database);
            }
            Ok(false) => tracing::warn!("the database is in use: a new run number could not be made part of its main file"),
            Err(error) => tracing::warn!(%error, "a new run number could not be written to the database"),
        }
        Ok(run)
    }

    /// Ends the run, once SQLite has removed its log.
    pub(super) fn close(&self) {
        // After a loss of power the log must not be back beside a file that says it is gone.
        if matches!(has_log(&self.database), Ok(false)) && parent_folder::sync(&self.database).is_ok() {
            let closed = Known {
                closed: true,
                ..Known::open(self.number, self.number)
            };
            closed.write_or_remove(&self.database);
        }
    }
}

/// Writes the number to the main file. `false` if it is in the log alone still.
async fn set(pool: &SqlitePool, number: i32) -> Result<bool, sqlx::Error> {
    query(AssertSqlSafe(format!("PRAGMA user_version = {number}")))
        .execute(pool)
        .await?;
    let row = query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(pool).await?;
    Ok(row.try_get::<i32, _>(0)? == 0)
}

/// Gives a closed copy of a database a number of its own: beside a log of the original it is another
/// database.
pub(super) async fn renumber(copy: &Path, pool: &SqlitePool) -> Result<Run, StoreError> {
    let number = draw()?;
    query(AssertSqlSafe(format!("PRAGMA user_version = {number}")))
        .execute(pool)
        .await?;
    Ok(Run {
        database: copy.to_owned(),
        number,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("claviger.db");
        assert_eq!(Known::read(&database).unwrap(), None);
        for known in [
            Known::open(1, i32::MAX),
            Known {
                closed: true,
                ..Known::open(7, 7)
            },
        ] {
            known.write(&database).unwrap();
            assert_eq!(Known::read(&database).unwrap(), Some(known));
        }
        for damaged in ["", "claviger-store-run/1 7 7 closed", "claviger-store-run/1 7 x open\n"] {
            std::fs::write(file(&database), damaged).unwrap();
            assert_eq!(Known::read(&database).unwrap(), None, "{damaged}");
        }
    }

    #[test]
    fn a_log_beside_another_main_file_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("claviger.db");
        let with = |number: i32, log: &[u8], known: Option<Known>| {
            let mut header = [0; 100];
            header[USER_VERSION..USER_VERSION + 4].copy_from_slice(&number.to_be_bytes());
            std::fs::write(&database, header).unwrap();
            std::fs::write(beside(&database, "-wal"), log).unwrap();
            match known {
                Some(known) => known.write(&database).unwrap(),
                None => drop(std::fs::remove_file(file(&database))),
            }
            check(&database).unwrap().is_ok()
        };
        let closed = Known {
            closed: true,
            ..Known::open(8, 8)
        };
        assert!(with(7, b"log", Some(Known::open(7, 8))));
        assert!(with(8, b"log", Some(Known::open(7, 8))));
        assert!(!with(6, b"log", Some(Known::open(7, 8))));
        assert!(!with(8, b"log", Some(closed)));
        // Without a log the main file is one state.
        assert!(with(6, b"", Some(closed)));
        // Of an earlier build.
        assert!(with(0, b"log", None));
        assert!(!with(6, b"log", Some(Known::open(7, 8))));
        check(&database).unwrap().unwrap_err().put_aside().unwrap();
        assert!(check(&database).unwrap().is_ok());
        assert_eq!(std::fs::read(folder.path().join("claviger.db-wal.replaced")).unwrap(), b"log");
    }
}
