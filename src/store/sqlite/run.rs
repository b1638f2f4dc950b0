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
//!
//! Where `store.run` is missing, the log itself may tell: its copies of the main file's first page have the number.
//! Each run writes that page to the log once. Later ones may not be in it any more, and then nothing shows that
//! the two belong together.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
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

/// The write-ahead log beside a database does not belong to it, or nothing shows that it does.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
pub struct StaleLog {
    database: PathBuf,
    log: PathBuf,
    aside: PathBuf,
    /// Whether nothing shows to what the log belongs.
    unknown: bool,
}

impl StaleLog {
    fn beside(database: &Path, unknown: bool) -> Self {
        let log = beside(database, "-wal");
        Self {
            database: database.to_owned(),
            aside: beside(&log, ".replaced"),
            log,
            unknown,
        }
    }

    fn message(&self) -> String {
        let (log, database, aside) = (self.log.display(), self.database.display(), self.aside.display());
        let restore = format!(
            "Restore the whole data folder (`claviger restore`). If there is no newer copy, start once with --accept-rollback: the \
             database is used without this log, which is kept as {aside}."
        );
        match self.unknown {
            false => format!(
                "{log} is not the log of {database}: one of the two was restored without the other, and together they would be a mixture of \
                 two states. {restore} Only if neither was restored, and another program such as sqlite3 was killed while it wrote to the \
                 database of the stopped gateway: open the database with that program once more and close it, which completes what it had \
                 committed, then start"
            ),
            true => format!(
                "the file {FILE} is missing beside {database} or damaged, so nothing shows that {log} is the log of this database: if one of \
                 the two was restored without the other, together they would be a mixture of two states. {restore} Only if nothing was \
                 restored, and {FILE} alone is gone: open the database with sqlite3 once and close it, which completes what the gateway had \
                 committed, then start"
            ),
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
        // More follows while `closed` is written over.
        let words: Vec<&str> = text.split_once('\n')?.0.split(' ').collect();
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

    /// As [`Known::write`]. Where that fails, as on a full disk, the file stays as it was: it must not be wrong then.
    fn write_or_leave(self, database: &Path) -> bool {
        let written = self.write(database);
        if let Err(error) = &written {
            tracing::warn!(%error, "the file {FILE} could not be written and stays as it was");
        }
        written.is_ok()
    }

    /// Replaces `closed` by `open`, durably: also on a full disk, since it needs no new block.
    fn write_open(self, database: &Path) -> io::Result<()> {
        let Self { current, next, .. } = self;
        if Self::open(current, next).write(database).is_ok() {
            return Ok(());
        }
        let file = File::options().write(true).open(file(database))?;
        let state = format!("{MAGIC} {current} {next} ").len() as u64;
        file.write_all_at(b"open\n", state)?;
        file.sync_all()
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
    if !has_log(database)? {
        return Ok(Ok(()));
    }
    let number = number_in(database)?;
    let stale = |unknown| Ok(Err(StaleLog::beside(database, unknown)));
    match Known::read(database)? {
        Some(Known { closed: true, .. }) => stale(false),
        Some(Known { current, next, .. }) => match number.is_none_or(|number| number == current || number == next) {
            true => Ok(Ok(())),
            false => stale(false),
        },
        None => match (number.unwrap_or(0), number_in_log(database)?) {
            (_, LogNumber::NothingToMerge) => Ok(Ok(())),
            (number, LogNumber::Known(logged)) if number == logged => Ok(Ok(())),
            (_, LogNumber::Known(_)) => stale(false),
            // A folder of a build without numbers.
            (0, LogNumber::Unknown) => Ok(Ok(())),
            (_, LogNumber::Unknown) => stale(true),
        },
    }
}

/// What a log says of the run that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogNumber {
    /// SQLite would merge none of its frames.
    NothingToMerge,
    /// It has the main file's first page, with this number.
    Known(i32),
    /// It does not have that page.
    Unknown,
}

/// Looks for the number in a database's log (<https://www.sqlite.org/fileformat2.html#walformat>).
fn number_in_log(database: &Path) -> io::Result<LogNumber> {
    const HEADER: usize = 32;
    const FRAME: usize = 24;
    let log = File::open(beside(database, "-wal"))?;
    let mut header = [0; HEADER];
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
    if !read_whole(&log, &mut header, 0)? || word(&header, 0) & !1 != 0x377f_0682 {
        return Ok(LogNumber::NothingToMerge);
    }
    let (page_size, salts) = (u64::from(word(&header, 8)), &header[16..24]);
    let mut found = LogNumber::NothingToMerge;
    let (mut at, mut frame) = (HEADER as u64, [0; FRAME]);
    // A frame with other salts is left of an older content of the file.
    while read_whole(&log, &mut frame, at)? && frame[8..16] == *salts {
        let mut number = [0; 4];
        if word(&frame, 0) == 1 && read_whole(&log, &mut number, at + (FRAME + USER_VERSION) as u64)? {
            found = LogNumber::Known(i32::from_be_bytes(number));
        } else if found == LogNumber::NothingToMerge {
            found = LogNumber::Unknown;
        }
        at += FRAME as u64 + page_size;
    }
    Ok(found)
}

/// Fills the buffer from that offset on; `false` if the file ends before.
fn read_whole(file: &File, into: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(into, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
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
        let Ok(Some(known @ Known { closed: true, .. })) = Known::read(database) else {
            return;
        };
        let Err(error) = known.write_open(database) else { return };
        // A wrong one would refuse the next start.
        tracing::warn!(%error, "the file {FILE} could not be written and is removed");
        if let Err(error) = std::fs::remove_file(file(database)) {
            tracing::warn!(%error, "the old file {FILE} could not be removed");
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
        if !Known::open(current, next).write_or_leave(database) {
            return Ok(run);
        }
        match set(pool, next).await {
            Ok(true) => {
                run.number = next;
                Known::open(next, next).write_or_leave(database);
            }
            Ok(false) => tracing::warn!("the database is in use: a new run number could not be made part of its main file"),
            Err(error) => tracing::warn!(%error, "a new run number could not be written to the database"),
        }
        Ok(run)
    }

    /// Writes the main file's first page to the log as it is, so that the log has the number.
    pub(super) async fn mark_log(&self, pool: &SqlitePool) {
        let statement = AssertSqlSafe(format!("PRAGMA user_version = {}", self.number));
        if let Err(error) = query(statement).execute(pool).await {
            tracing::warn!(%error, "the run's number could not be written to the database's log");
        }
    }

    /// Ends the run, once SQLite has removed its log.
    pub(super) fn close(&self) {
        // After a loss of power the log must not be back beside a file that says it is gone.
        if matches!(has_log(&self.database), Ok(false)) && parent_folder::sync(&self.database).is_ok() {
            let closed = Known {
                closed: true,
                ..Known::open(self.number, self.number)
            };
            closed.write_or_leave(&self.database);
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
        // As on a full disk: in place.
        Known {
            closed: true,
            ..Known::open(7, 7)
        }
        .write(&database)
        .unwrap();
        let text = std::fs::read_to_string(file(&database)).unwrap();
        std::fs::write(file(&database), text.replace("closed\n", "open\nd\n")).unwrap();
        assert_eq!(Known::read(&database).unwrap(), Some(Known::open(7, 7)));
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
        // Without the file, the log may tell.
        let log_of = |page: u32, number: i32, salt: u8| {
            let mut log = vec![0; 32 + 24 + 512];
            log[..4].copy_from_slice(&0x377f_0683_u32.to_be_bytes());
            log[8..12].copy_from_slice(&512_u32.to_be_bytes());
            log[16..24].fill(1);
            log[32..36].copy_from_slice(&page.to_be_bytes());
            log[40..48].fill(salt);
            log[56 + USER_VERSION..56 + USER_VERSION + 4].copy_from_slice(&number.to_be_bytes());
            log
        };
        assert!(with(7, &log_of(1, 7, 1), None));
        assert!(!with(6, &log_of(1, 7, 1), None));
        assert!(!with(0, &log_of(1, 7, 1), None));
        assert!(!with(7, &log_of(2, 0, 1), None), "the log does not tell");
        assert!(with(0, &log_of(2, 0, 1), None));
        assert!(with(6, &log_of(1, 7, 2), None), "nothing is merged");
        assert!(!with(6, b"log", Some(Known::open(7, 8))));
        check(&database).unwrap().unwrap_err().put_aside().unwrap();
        assert!(check(&database).unwrap().is_ok());
        assert_eq!(std::fs::read(folder.path().join("claviger.db-wal.replaced")).unwrap(), b"log");
    }
}
