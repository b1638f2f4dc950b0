//! Removes the log's oldest files, or moves them to the archive, by rule.
//!
//! A file goes in steps, and after a kill at any of them the next start or the next round goes on:
//!
//! 1. The file is copied to the archive, if there is one: whole, synced, renamed, the folder synced.
//! 2. The removal is recorded. The record is synced before anything else is done.
//! 3. The log's thread goes on without the file, and writes the sidecar.
//! 4. The file is removed, and the folder is synced.
//!
//! A start finds the records of step 2 in the log ([`super::beginning`]), and removes what step 4 left.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::archive::{self, ArchiveError};
use super::class::{Class, Refusal};
use super::fields::Window;
use super::file::{Disk, LogFile, RealDisk, private, remove_durably};
use super::frame::{Frames, Step};
use super::health::Unavailable;
use super::held_folder::HeldDisk;
use super::log::Log;
use super::origin::{Origin, Position};
use super::record::Record;
use super::removed::Removed;
use super::removed_part::{Content, lost_beginning};
use super::role::RecordSummary;
use super::scalar::{Digest, Number, Timestamp};
use super::scan::{OpenError, parse};
use super::segments::{Segments, names};
use super::state::Begun;
use super::survey::Survey;

/// The file whose lock a backup shares and a removal takes alone.
const LOCK_NAME: &str = "audit.keep";

/// The most numbers in one record: of 54 bytes each they stay below [`super::MAX_JSON`].
const NUMBERS: usize = 1000;

/// How long one record of a removal may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A removal frees room, so it may use the reserve. One that is refused is tried again.
const REMOVAL: Class = Class {
    reserve: true,
    refusal: Refusal::Harmless,
};

/// How much of the log stays in its folder. Without a limit all of it stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// A file is removed if the log has at least this many bytes after it.
    pub bytes: Option<u64>,
    /// A file is removed if its last record is older.
    pub age: Option<Duration>,
    /// Where files are copied to before they are removed.
    pub archive: Option<PathBuf>,
}

impl Keep {
    /// The least that can be kept, in bytes: so much always stays behind a file that is removed.
    /// `small`: of a binary for tests.
    pub const fn least_bytes(small: bool) -> u64 {
        if small { 64 << 10 } else { 64 << 20 }
    }

    /// Checks that the archive can be used, if there is one. Blocks on the file system.
    ///
    /// # Errors
    /// [`ArchiveError::Folder`].
    pub fn check_archive(&self) -> Result<(), ArchiveError> {
        self.archive.as_deref().map_or(Ok(()), archive::check)
    }

    /// The shortest age. `small`: of a binary for tests.
    pub const fn least_age(small: bool) -> Duration {
        Duration::from_secs(if small { 1 } else { 24 * 60 * 60 })
    }
}

/// Why the oldest files are not removed.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The file system returned an error.
    #[error("the audit log's oldest file cannot be {what}")]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The file is damaged.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The copy cannot be made.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The removal cannot be recorded.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// A step was aborted.
    #[error("a step was aborted")]
    Ended(#[from] tokio::task::JoinError),
}

impl KeepError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// The reason in one phrase, for the state of a job.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Io { .. } => "a file of the audit log cannot be read or removed",
            Self::Log(_) => "the oldest file of the audit log is damaged",
            Self::Archive(ArchiveError::Folder { .. }) => "the archive's folder cannot be used",
            Self::Archive(ArchiveError::Io { .. }) => "the archive cannot be written",
            Self::Archive(ArchiveError::Differs(_)) => "the archive has another file of the same name",
            Self::Unavailable(_) => "the audit log cannot be written",
            Self::Ended(_) => "a step was aborted",
        }
    }
}

/// Keeps the files of the log in that folder from being removed. Waits for a removal that is under way.
///
/// # Errors
/// Errors of the file system.
pub fn hold_files(folder: &Path) -> io::Result<HeldFiles> {
    let lock = lock_file(folder)?;
    lock.lock_shared()?;
    Ok(HeldFiles { _lock: lock })
}

/// While it exists, no file of the log is removed.
#[derive(Debug)]
pub struct HeldFiles {
    _lock: File,
}

fn lock_file(folder: &Path) -> io::Result<File> {
    private()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(folder.join(LOCK_NAME))
}

/// The oldest part of the log, which is due.
#[derive(Debug)]
pub struct Part {
    removed: Removed,
    window: Option<Window>,
    /// Its files, the oldest first, and the length of the contents of each.
    files: Vec<(PathBuf, u64)>,
    /// No backup copies the files meanwhile.
    _lock: File,
}

impl Part {
    /// The position at which the log will begin.
    pub fn end(&self) -> Position {
        Position(self.removed.to.get())
    }
}

/// Removes the oldest files of one log.
#[derive(Clone)]
pub struct Keeper {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    origin: Origin,
    keep: Keep,
    /// So many bytes always stay behind a file that is removed.
    least: u64,
}

impl Keeper {
    /// For the log in that folder.
    pub fn new(folder: &Path, origin: &Origin, keep: Keep, least: u64) -> Self {
        let disk: Arc<dyn Disk> = match HeldDisk::open(folder) {
            Ok(disk) => Arc::new(disk),
            // What follows will report it.
            Err(_) => Arc::new(RealDisk),
        };
        Self::on(disk, folder, origin, keep, least)
    }

    /// As [`Keeper::new`], on that disk.
    pub(super) fn on(disk: Arc<dyn Disk>, folder: &Path, origin: &Origin, keep: Keep, least: u64) -> Self {
        Self {
            disk,
            folder: folder.to_owned(),
            origin: origin.clone(),
            keep,
            least,
        }
    }

    /// The oldest part of the log, if it is due and the log itself needs it no more. If records of the last removal are
    /// lost, a part without files and content, whose removal says again where the log begins. `None` also while a
    /// backup is made. Removes what an earlier removal left. Reads the part.
    ///
    /// # Errors
    /// [`KeepError::Io`], [`KeepError::Log`]; [`KeepError::Archive`] if the archive's folder cannot be used, also while
    /// nothing is due.
    pub fn next_part(&self, survey: &Survey) -> Result<Option<Part>, KeepError> {
        let archive = self.keep.check_archive();
        let Some(from) = survey.starts.first().copied() else {
            return Ok(archive.map(|()| None)?);
        };
        metrics::gauge!("claviger_audit_log_bytes").set(survey.end.saturating_sub(from) as f64);
        if !self.disk.is_in_place().map_err(KeepError::io("looked for"))? {
            // The log reports it.
            return Ok(None);
        }
        archive?;
        let lock = lock_file(&self.folder).map_err(KeepError::io("locked"))?;
        match lock.try_lock().map_err(io::Error::from) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            locked => locked.map_err(KeepError::io("locked"))?,
        }
        self.remove_leftovers(from)?;
        let opened = Segments::open_beside(&self.folder, &self.origin, self.disk.clone());
        let file = opened.map_err(KeepError::io("opened"))?;
        if let Some((begun, numbers)) = lost_beginning(&file, survey)? {
            let sha256 = digest(&file, begun.to, begun.to).map_err(KeepError::io("read"))?;
            return Ok(Some(Part {
                removed: Removed {
                    changed: begun.changed().map(number),
                    ..Removed::between(begun.to, begun.to, numbers, sha256)
                },
                window: None,
                files: Vec::new(),
                _lock: lock,
            }));
        }
        let Some(first_end) = survey.starts.get(1).copied() else {
            return Ok(None);
        };
        if !self.is_due(&file, survey, first_end)? {
            return Ok(None);
        }
        let content = Content::read(&file, survey, from, first_end)?;
        // A lost part may lead beyond the file.
        let Some(to) = survey.starts.iter().copied().find(|start| *start >= content.end) else {
            return Ok(None);
        };
        if !self.may_go(survey, to) {
            return Ok(None);
        }
        let sha256 = digest(&file, from, to).map_err(KeepError::io("read"))?;
        let files = survey.starts.iter().filter(|start| (from..to).contains(*start));
        let files = files.filter_map(|start| file.closed_file(*start)).collect();
        let changed = survey.begun.and_then(Begun::changed);
        Ok(Some(Part {
            removed: Removed {
                archived: self.keep.archive.is_some(),
                changed: changed.max(survey.history.changed_in_losses(to)).map(number),
                ..Removed::between(from, to, content.numbers, sha256)
            },
            window: content.window,
            files,
            _lock: lock,
        }))
    }

    /// Archives the part, records its removal, and removes its files. `changed` is the position of the
    /// last change in it that took effect. The store has all of them.
    ///
    /// # Errors
    /// [`KeepError`]; the next round goes on.
    pub async fn remove(&self, log: &Log, part: Part, changed: Option<Position>) -> Result<(), KeepError> {
        let Part {
            mut removed,
            window,
            files,
            _lock,
        } = part;
        let files = match self.keep.archive.clone() {
            None => files,
            Some(archive) => {
                let this = self.clone();
                tokio::task::spawn_blocking(move || this.archive(&archive, files)).await??
            }
        };
        let (from, to) = (removed.from.get(), removed.to.get());
        removed.changed = removed.changed.max(changed.map(number));
        for record in records(&self.origin, removed, window) {
            log.append_one(record, REMOVAL, Instant::now() + PATIENCE).await?;
        }
        if !log.forget(to).await {
            return Ok(());
        }
        if from < to {
            tracing::info!(
                from,
                to,
                archived = self.keep.archive.is_some(),
                "the oldest files of the audit log are removed"
            );
        } else {
            tracing::warn!(
                to,
                "the record of a removal was lost, and is written again: the audit log begins at this position"
            );
        }
        metrics::counter!("claviger_audit_removed_bytes_total").increment(to - from);
        let disk = self.disk.clone();
        let remove = move || files.iter().try_for_each(|(path, _)| remove_durably(&*disk, path));
        tokio::task::spawn_blocking(remove).await?.map_err(KeepError::io("removed"))
    }

    fn archive(&self, archive: &Path, files: Vec<(PathBuf, u64)>) -> Result<Vec<(PathBuf, u64)>, ArchiveError> {
        for (path, length) in &files {
            archive::copy(&*self.disk, path, *length, archive, &self.origin)?;
        }
        Ok(files)
    }

    /// Removes files before the log's beginning: their removal is recorded, and was interrupted.
    fn remove_leftovers(&self, begin: u64) -> Result<(), KeepError> {
        let files = names(&self.folder).map_err(KeepError::io("listed"))?;
        for (name, _) in files.iter().filter(|(_, start)| *start < begin) {
            remove_durably(&*self.disk, &self.folder.join(name)).map_err(KeepError::io("removed"))?;
        }
        Ok(())
    }

    /// Whether the rule says that the part up to that position goes.
    fn is_due(&self, file: &Segments, survey: &Survey, to: u64) -> Result<bool, KeepError> {
        if !self.may_go(survey, to) {
            return Ok(false);
        }
        if self.keep.bytes.is_some_and(|bytes| survey.end - to >= bytes) {
            return Ok(true);
        }
        let Some(age) = self.keep.age else { return Ok(false) };
        // The next record is not older than the last one of the part.
        let Some(next) = first_time(file, to, survey.end)? else {
            return Ok(false);
        };
        let passed = Timestamp::now().micros().saturating_sub(next.micros());
        Ok(u128::try_from(passed).is_ok_and(|passed| passed >= age.as_micros()))
    }

    /// Whether the log itself needs nothing of what is before that position.
    fn may_go(&self, survey: &Survey, to: u64) -> bool {
        let last = survey.starts.last().copied().unwrap_or(0);
        let is_small = survey.end.saturating_sub(to) < self.least;
        let is_open = survey.first_open.is_some_and(|open| open.0 < to);
        to <= last && !is_small && !is_open && !survey.unreported
    }
}

const fn number(position: Position) -> Number {
    Number::saturating(position.0)
}

/// The records of a removal, of which the last one makes it complete.
fn records(origin: &Origin, removed: Removed, window: Option<Window>) -> impl Iterator<Item = Record> {
    let numbers: Vec<_> = removed.next.iter().map(|(tenant, next)| (*tenant, *next)).collect();
    let mut parts: Vec<_> = numbers.chunks(NUMBERS).map(|part| part.iter().copied().collect()).collect();
    if parts.is_empty() {
        parts.push(BTreeMap::new());
    }
    let last = parts.len() - 1;
    parts.into_iter().enumerate().map(move |(number, next)| {
        let removed = Removed {
            more: number < last,
            next,
            ..removed.clone()
        };
        Record::removed(origin, removed, window)
    })
}

/// The time of the first record at that position or behind it.
fn first_time(file: &Segments, from: u64, end: u64) -> Result<Option<Timestamp>, OpenError> {
    let mut frames = Frames::from(file, from);
    while frames.offset() < end {
        match frames.step().map_err(OpenError::io("read"))? {
            Step::Header | Step::Skip(_) => {}
            Step::Frame { position, json } => {
                let record: RecordSummary = parse(position, json)?;
                return Ok(Some(record.time));
            }
            Step::End | Step::Damaged { .. } => break,
        }
    }
    Ok(None)
}

/// SHA-256 of the contents between two positions.
fn digest(file: &Segments, from: u64, to: u64) -> io::Result<Digest> {
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut part = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let step = part.len().min(usize::try_from(to - at).unwrap_or(part.len()));
        let read = file.read_at(at, &mut part[..step])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hash.update(&part[..read]);
        at += read as u64;
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hash.finish().as_ref());
    Ok(Digest(digest))
}
