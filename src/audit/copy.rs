//! The files of a log, and a copy of them that is made while the log may be in use.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use claviger_provider::TenantId;

use super::file::{DiskFile, LOG_NAME, LogFile, private, sync_folder};
use super::frame::{self, Frames, Step};
use super::index::NAME as INDEX_NAME;
use super::kill_file::NAME as KILL_FILE_NAME;
use super::last_record::LastRecord;
use super::origin::{Origin, Position};
use super::scalar::Timestamp;
use super::scan::{OpenError, replay};
use super::state::State;

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPart {
    /// Its name in the log's folder.
    pub name: String,
    /// The offset in the log of its first byte.
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
    next: HashMap<TenantId, u64>,
}

impl LogCopy {
    /// How many records this tenant has: the number of the first one that is missing.
    pub fn records(&self, tenant: TenantId) -> u64 {
        self.next.get(&tenant).copied().unwrap_or(0)
    }
}

/// The files of the log in this folder, in their order. The only place that knows their names.
///
/// # Errors
/// The error of the file system.
pub fn log_files(folder: &Path) -> io::Result<Vec<LogPart>> {
    let name = LOG_NAME.to_owned();
    let exists = folder.join(&name).try_exists()?;
    Ok(exists.then_some(LogPart { name, begin: 0 }).into_iter().collect())
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

/// The offset after the last whole record of the log in this folder, which may be in use. Reads it from
/// this record on, or from its beginning.
///
/// # Errors
/// [`OpenError::Io`].
pub fn end_of_log(folder: &Path, from: Option<LastRecord>) -> Result<u64, OpenError> {
    let file = DiskFile::open_beside(folder).map_err(OpenError::io("opened"))?;
    let start = match from {
        Some(last) if last.is_in(&file).map_err(OpenError::io("read"))? => last.position.0,
        Some(_) | None => first_frame(&file)?.1,
    };
    let mut frames = Frames::from(&file, start);
    while let Step::Frame { .. } | Step::Skip(_) = frames.step().map_err(OpenError::io("read"))? {}
    Ok(frames.offset())
}

/// Copies the log to another folder, up to this offset and with these records. Each file is on stable
/// storage when this returns.
///
/// # Errors
/// [`OpenError::Io`].
pub fn copy_log(folder: &Path, to: &Path, until: u64, with: &[Position]) -> Result<LogCopy, OpenError> {
    let file = DiskFile::open_beside(folder).map_err(OpenError::io("opened"))?;
    let mut end = until;
    for position in with {
        let mut frames = Frames::from(&file, position.0);
        if let Step::Frame { .. } = frames.step().map_err(OpenError::io("read"))? {
            end = end.max(frames.offset());
        }
    }
    let copied = log_files(folder).and_then(|parts| {
        for part in parts.iter().filter(|part| part.begin < end) {
            let mut copy = private().write(true).create_new(true).open(to.join(&part.name))?;
            io::copy(&mut File::open(folder.join(&part.name))?.take(end - part.begin), &mut copy)?;
            copy.sync_all()?;
        }
        sync_folder(&to.join(LOG_NAME))
    });
    copied.map_err(OpenError::io("copied"))?;
    read_copy(to)
}

/// Reads a whole log that is not in use, and checks every record.
///
/// # Errors
/// [`OpenError`]; also for a record that is not whole at the end.
pub fn read_copy(folder: &Path) -> Result<LogCopy, OpenError> {
    let file = DiskFile::open_beside(folder).map_err(OpenError::io("opened"))?;
    let (origin, start) = first_frame(&file)?;
    let mut state = State::default();
    let bytes = replay(&file, &origin, start, &mut state)?;
    if bytes != file.len().map_err(OpenError::io("measured"))? {
        return Err(OpenError::damaged(Position(bytes), "the copy ends within a record"));
    }
    Ok(LogCopy {
        origin,
        bytes,
        last_time: state.last_time,
        next: state.next,
    })
}

fn first_frame(file: &DiskFile) -> Result<(Origin, u64), OpenError> {
    frame::read_header(file).map_err(OpenError::io("read"))?.ok_or(OpenError::NotALog)
}
