//! The files of a log, and a copy of them that is made while the log may be in use.

use std::io;
use std::path::Path;
use std::sync::Arc;

use claviger_provider::TenantId;

use super::beginning::{ReadLog, read_whole};
use super::file::{LogFile, RealDisk};
use super::frame::{Frames, Step, leading_zeros};
use super::index::NAME as INDEX_NAME;
use super::kill_file::NAME as KILL_FILE_NAME;
use super::last_record::LastRecord;
use super::numbers::Numbers;
use super::options::Options;
use super::origin::{Origin, Position};
use super::resume::lacks_known;
use super::scalar::Timestamp;
use super::scan::{FORKED, OpenError, end_of_frames};
use super::segments::{self, Segments, Unusable};
use crate::parent_folder;

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// Its name in the log's folder.
    pub name: String,
    /// The position of its first byte.
    begin: u64,
}

/// What a copy of a log contains.
#[derive(Debug)]
pub struct LogCopy {
    /// The owner of the log.
    pub origin: Origin,
    /// Its length in bytes.
    pub bytes: u64,
    /// The time of the last record.
    pub last_time: Option<Timestamp>,
    numbers: Numbers,
}

impl LogCopy {
    /// How many records this tenant has: the number of the first one that is missing.
    pub fn records(&self, tenant: TenantId) -> u64 {
        self.numbers.next.get(&tenant).copied().unwrap_or(0)
    }
}

/// The files of the log in this folder, in their order.
///
/// # Errors
/// The error of the file system.
pub fn log_files(folder: &Path) -> io::Result<Vec<LogPart>> {
    let names = segments::names(folder)?.into_iter();
    Ok(names.map(|(name, begin)| LogPart { name, begin }).collect())
}

/// The name of a file that a log has left in this folder, if there is one: of the log itself, its index, or the
/// kill file.
///
/// # Errors
/// The error of the file system.
pub fn left_in(folder: &Path) -> io::Result<Option<String>> {
    if let Some(part) = log_files(folder)?.into_iter().next() {
        return Ok(Some(part.name));
    }
    for name in [INDEX_NAME, KILL_FILE_NAME] {
        if folder.join(name).try_exists()? {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// The position after the last whole record of the log in this folder, which may be in use. Reads it from
/// this record on, or from its beginning.
///
/// # Errors
/// [`OpenError::PutBack`] if the log ends before this record; [`OpenError::Io`].
pub fn end_of_log(folder: &Path, from: Option<LastRecord>) -> Result<u64, OpenError> {
    let file = open_beside(folder)?.1;
    let start = match from {
        Some(last) if last.is_in(&file).map_err(OpenError::io("read"))? => last.position.0,
        Some(_) | None => file.start(),
    };
    let end = end_of_frames(&file, start).map_err(OpenError::io("read"))?;
    match from {
        // Not in a part that is marked as lost, nor in one that was removed.
        Some(last) if last.position.0 >= end => Err(OpenError::PutBack { at: last.position.0 }),
        Some(_) | None => Ok(end),
    }
}

/// Copies the log to another folder, up to this position, and with the last change and the last record that the store
/// knows of. Each file is on stable storage when this returns.
///
/// # Errors
/// [`OpenError`]; [`OpenError::PutBack`] if the log lacks one of the two, and does not say that it is lost.
pub fn copy_log(
    folder: &Path,
    to: &Path,
    until: u64,
    stored: Option<Position>,
    last_record: Option<LastRecord>,
) -> Result<LogCopy, OpenError> {
    let file = open_beside(folder)?.1;
    let mut end = until;
    for position in stored.into_iter().chain(last_record.map(|last| last.position)) {
        let mut frames = Frames::from(&file, position.0);
        if let Step::Frame { .. } = frames.step().map_err(OpenError::io("read"))? {
            end = end.max(frames.offset());
        }
    }
    let copied = log_files(folder).and_then(|mut parts| {
        parts.retain(|part| part.begin < end);
        let ends = parts.iter().skip(1).map(|next| next.begin).chain([end]);
        for (part, until) in parts.iter().zip(ends) {
            segments::copy_file(folder, to, &part.name, until - part.begin, until == end)?;
        }
        parent_folder::sync(&to.join(INDEX_NAME))
    });
    copied.map_err(OpenError::io("copied"))?;
    let known = Options {
        stored,
        last_record,
        ..Options::default()
    };
    read(to, &known)
}

/// Reads a whole log that is not in use, and checks every record.
///
/// # Errors
/// [`OpenError`]; also for a record that is not whole at the end.
pub fn read_copy(folder: &Path) -> Result<LogCopy, OpenError> {
    read(folder, &Options::default())
}

/// As [`read_copy`], of a log beside a store that knows this of it.
fn read(folder: &Path, known: &Options) -> Result<LogCopy, OpenError> {
    let (origin, file) = open_beside(folder)?;
    if let Some((lost, file)) = file.missing().map_err(OpenError::io("measured"))?.into_iter().next() {
        let (from, to) = (lost.from.get(), lost.to.get());
        return Err(OpenError::Missing { from, to, file });
    }
    if let Some(at) = file.forked().map_err(OpenError::io("measured"))? {
        return Err(OpenError::damaged(Position(at), FORKED));
    }
    let ReadLog { state, tip, .. } = read_whole(&file, &origin, 0)?;
    let end = tip.end;
    if !is_blank_from(&file, end).map_err(OpenError::io("read"))? {
        return Err(OpenError::damaged(Position(end), "the copy ends within a record"));
    }
    if file.lacks_next(end).map_err(OpenError::io("read"))? {
        return Err(OpenError::LacksNext { at: end });
    }
    if let Some(Position(at)) = lacks_known(&file, &state, tip, known)? {
        return Err(OpenError::PutBack { at });
    }
    Ok(LogCopy {
        origin,
        bytes: end,
        last_time: state.last_time,
        numbers: state.numbers,
    })
}

/// Opens the log in this folder, which may be in use, for reading.
fn open_beside(folder: &Path) -> Result<(Origin, Segments), OpenError> {
    let origin = segments::owner(folder).map_err(OpenError::io("opened"))?;
    let origin = origin.ok_or_else(|| OpenError::NotALog {
        at: 0,
        file: Segments::name_at(0),
        why: Unusable::FirstLine.as_str(),
    })?;
    let file = Segments::open_beside(folder, &origin, Arc::new(RealDisk)).map_err(OpenError::io("opened"))?;
    Ok((origin, file))
}

/// Whether the log has only zeros from there on.
fn is_blank_from(file: &Segments, position: u64) -> io::Result<bool> {
    let mut part = vec![0; 1 << 20];
    let mut at = position;
    loop {
        let read = file.read_at(at, &mut part)?;
        if read == 0 || leading_zeros(&part[..read]) < read {
            return Ok(read == 0);
        }
        at += read as u64;
    }
}
