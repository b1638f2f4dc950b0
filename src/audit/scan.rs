//! Reads an existing log: checks every frame, rebuilds the state, and finds where the last whole
//! frame ends.

use std::io;

use serde::Deserialize;

use super::fields::Lost;
use super::file::LogFile;
use super::frame::{Frames, SKIP_LENGTH, Step};
use super::index::Tip;
use super::lost_numbers::LostNumbers;
use super::origin::{Origin, Position};
use super::record::Record;
use super::role::RecordSummary;
use super::state::State;
use super::state_change::Verb;

/// How to go on where a part of the log is missing, and what it costs.
macro_rules! go_on {
    () => {
        "Put the newest copy of the log back. If there is none, first copy from the newest backup each file audit-*.log that the data folder \
         lacks, or has damaged or shorter than there. Then start once with --accept-lost-log: it goes on with all that is left, and records \
         what is lost. The lost records stay lost, and a revocation that only they have is not applied again"
    };
}

/// Why a log could not be opened. No damage is ever repaired silently.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system returned an error.
    #[error("the audit log cannot be {what}")]
    Io {
        /// The operation that failed.
        what: &'static str,
        /// The error of the file system.
        #[source]
        source: io::Error,
    },
    /// Another process has the log open.
    #[error("the audit log is in use by another process")]
    InUse,
    /// What has the name of a file of the log cannot be read as one.
    #[error(
        "{file} in the data folder cannot be read as a file of the audit log: {why}. Restore it from a copy, or move it away if it is none of \
         this log. If there is no copy, start once with --accept-lost-log: it is kept as {file}.damaged, and the log goes on with all that \
         is left, and records what is lost"
    )]
    NotALog {
        /// The position at which the file begins.
        at: u64,
        /// Its name.
        file: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The last record that the store knows of is missing.
    #[error(
        "the audit log lacks the record at byte {at} that the store knows as one of its last: the log was restored from an older copy, or \
         removed. {}",
        go_on!()
    )]
    PutBack {
        /// The record's position.
        at: u64,
    },
    /// The file is the log of another installation or node.
    #[error(
        "the audit log belongs to another installation or node ({file}). Restore the log of this gateway. If only this file is another's, \
         or its first line is damaged, --accept-lost-log starts once and keeps it as {file}.damaged"
    )]
    Foreign {
        /// The name of its file.
        file: String,
    },
    /// Acknowledged records are missing at the end.
    #[error(
        "the audit log has lost its end: {expected} bytes were durable, {found} are left. It was restored from an older copy, truncated or \
         removed. {}",
        go_on!()
    )]
    Lost {
        /// Number of bytes that were durable.
        expected: u64,
        /// Number of bytes in the file.
        found: u64,
    },
    /// A file of the log is missing, or shorter than it was.
    #[error(
        "the audit log lacks bytes {from} to {to}: the file that had them was removed or truncated ({file}). {}",
        go_on!()
    )]
    Missing {
        /// The position of the first byte that is missing.
        from: u64,
        /// The position of the next byte that exists.
        to: u64,
        /// The name of the file that should have the first byte.
        file: String,
    },
    /// The log's last file ends like one that another file follows.
    #[error(
        "the audit log has lost its end: something was at byte {at}, behind the last file. A file was removed, or the last one truncated. {}",
        go_on!()
    )]
    LacksNext {
        /// The position at which the last file ends.
        at: u64,
    },
    /// An acknowledged record is damaged.
    #[error("the audit log is damaged at byte {at}: {why}")]
    Damaged {
        /// The offset in the file.
        at: u64,
        /// The kind of damage.
        why: &'static str,
    },
    /// The log has a change of a kind that this release does not know.
    #[error(
        "the audit log has a change at byte {at} that this release does not know (`{verb}`): a newer release wrote it. Start that release \
         again; an older one cannot tell what the change did. To go back to this release, restore a backup that it made"
    )]
    UnknownVerb {
        /// The record's position.
        at: u64,
        /// The word in the record.
        verb: String,
    },
    /// The store lacks a change whose record is removed.
    #[error(
        "the store lacks a change at byte {at} of the audit log, whose file was removed or archived since (`audit.keep`): the store was \
         restored from an older copy. {}",
        WITHOUT_CHANGES
    )]
    ChangeRemoved {
        /// The position of the last change before the log's beginning.
        at: u64,
    },
    /// The store lacks a change whose record is lost.
    #[error(
        "the store lacks a change at byte {at} of the audit log, in a part of the log that is lost: the store was restored from an older \
         copy. {}",
        WITHOUT_CHANGES
    )]
    ChangeLost {
        /// The position of the last change.
        at: u64,
    },
    /// The store has a change that the log lacks: the log is older than the store, or another copy of it went on.
    #[error(
        "the store knows of a change at byte {applied} of the audit log, where the log has none: the log was restored from an older copy. {}",
        go_on!()
    )]
    StoreAhead {
        /// The position of the store's last change.
        applied: u64,
    },
}

impl OpenError {
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    pub(super) fn damaged(at: Position, why: &'static str) -> Self {
        Self::Damaged { at: at.0, why }
    }
}

/// The kinds of [`OpenError::Damaged`] that several readers report.
pub(super) const NO_FRAME: &str = "there is no whole record";
const NOT_A_RECORD: &str = "the record is not one that this release knows. If a newer release wrote it, start that one";
pub(super) const CUT: &str = concat!("there is no whole record, and acknowledged ones were after it. ", go_on!());
pub(super) const GONE: &str = concat!("the log is missing, and its sidecar cannot be read. ", go_on!());

/// How to go on with an older store whose missing changes nothing names, and what it costs.
const WITHOUT_CHANGES: &str = "Restore the newer copy of the store. If there is none, start once with --accept-rollback: it goes on without all \
                               that was changed since, revocations too. What was wrapped under a key or version made since does not open";

pub(super) const FORKED: &str = "audit.log goes on there, and so does the next file: an earlier release was started after this one, and wrote to \
                                 audit.log. Restore the data folder from a copy, or truncate audit.log there to go on without what that release wrote";

/// Reads from the tip to the end, and adds every record to the state, and what is lost to the numbers. Returns
/// where the last whole frame ends. What follows is nothing, or a commit that a crash interrupted.
///
/// # Errors
/// [`OpenError::Damaged`], [`OpenError::Io`].
pub(super) fn replay(
    file: &dyn LogFile,
    origin: &Origin,
    mut tip: Tip,
    state: &mut State,
    numbers: &mut LostNumbers,
) -> Result<Tip, OpenError> {
    let mut frames = Frames::from(file, tip.end);
    loop {
        let at = frames.offset();
        match frames.step().map_err(OpenError::io("read"))? {
            Step::End => return Ok(tip),
            Step::Header => {}
            Step::Skip(lost) => {
                state.lose(lost);
                numbers.lose(lost);
            }
            Step::Frame { position, json } => {
                let damaged = |why| OpenError::damaged(position, why);
                let record: RecordSummary = parse(position, json)?;
                if record.installation != origin.installation || record.node != origin.node {
                    return Err(damaged("the record belongs to another log"));
                }
                let next = state.next(record.tenant);
                if record.sequence.get() != next && !(numbers.may_jump(record.tenant) && record.sequence.get() > next) {
                    return Err(damaged("the tenant's sequence numbers have a gap"));
                }
                numbers.found(record.tenant);
                state.add(record.tenant, record.sequence.get(), record.role(), position, record.time);
            }
            Step::Damaged { position } => {
                if frames.commit_follows().map_err(OpenError::io("read"))? {
                    return Err(OpenError::damaged(position, CUT));
                }
                return Ok(tip);
            }
        }
        tip = Tip {
            end: frames.offset(),
            commit: Some(at),
        };
    }
}

/// Whether whole frames lead to the tip, as far as that is known.
///
/// # Errors
/// The error of reading the file.
pub(super) fn reaches(file: &dyn LogFile, tip: Tip) -> io::Result<bool> {
    Ok(end_of_frames_until(file, tip.commit.unwrap_or(tip.end), tip.end)? == tip.end)
}

/// Returns where the whole frames from `offset` on end.
///
/// # Errors
/// The error of reading the file.
pub(super) fn end_of_frames(file: &dyn LogFile, offset: u64) -> io::Result<u64> {
    end_of_frames_until(file, offset, u64::MAX)
}

/// Returns where the whole frames from `offset` on end, or the first end of one at `limit` or behind it.
///
/// # Errors
/// The error of reading the file.
pub(super) fn end_of_frames_until(file: &dyn LogFile, offset: u64, limit: u64) -> io::Result<u64> {
    let mut frames = Frames::from(file, offset);
    while frames.offset() < limit {
        match frames.step()? {
            Step::Frame { .. } | Step::Skip(_) | Step::Header => {}
            Step::End | Step::Damaged { .. } => break,
        }
    }
    Ok(frames.offset())
}

/// Returns the parts of the file before `end` that have no whole frame, and those after it that
/// have one behind them: what was there is lost. A torn commit at the end is none.
///
/// # Errors
/// The error of reading the file.
pub(super) fn find_losses(file: &dyn LogFile, start: u64, end: u64) -> io::Result<Vec<Lost>> {
    let mut losses = Vec::new();
    let mut frames = Frames::from(file, start);
    loop {
        match frames.step()? {
            Step::Frame { .. } | Step::Skip(_) | Step::Header => continue,
            Step::End | Step::Damaged { .. } => {}
        }
        let from = frames.offset();
        if from >= end && !Frames::from(file, from).commit_follows()? {
            return Ok(losses);
        }
        // At least as long as a skip, which takes the place of its beginning.
        match Frames::from(file, from + SKIP_LENGTH - 1).next_whole()? {
            Some(to) => {
                losses.push(Lost::new(from, to));
                frames = Frames::from(file, to);
            }
            None => {
                losses.extend((from < end).then(|| Lost::new(from, end.max(from + SKIP_LENGTH))));
                return Ok(losses);
            }
        }
    }
}

/// Reads the JSON of a record.
///
/// # Errors
/// [`OpenError::UnknownVerb`], [`OpenError::Damaged`].
pub(super) fn parse<'a, T: Deserialize<'a>>(position: Position, json: &'a [u8]) -> Result<T, OpenError> {
    serde_json::from_slice(json).map_err(|_| match serde_json::from_slice(json) {
        Ok(Foreign { change: Some(change) }) if change.verb.parse::<Verb>().is_err() => OpenError::UnknownVerb {
            at: position.0,
            // It is shown, and nothing says how long it is.
            verb: change.verb.chars().take(MAX_VERB).flat_map(char::escape_default).collect(),
        },
        Ok(Foreign { .. }) | Err(_) => OpenError::damaged(position, NOT_A_RECORD),
    })
}

/// The most characters of an unknown verb that are shown.
const MAX_VERB: usize = 32;

/// A record that this release does not know.
#[derive(Deserialize)]
struct Foreign {
    #[serde(default)]
    change: Option<ForeignChange>,
}

#[derive(Deserialize)]
struct ForeignChange {
    verb: String,
}

/// Reads the record at that offset.
///
/// # Errors
/// [`OpenError::Damaged`], [`OpenError::Io`].
pub(super) fn read_record(file: &dyn LogFile, position: Position) -> Result<Record, OpenError> {
    match Frames::from(file, position.0).step().map_err(OpenError::io("read"))? {
        Step::Frame { json, .. } => parse(position, json),
        Step::Skip(_) | Step::Header | Step::End | Step::Damaged { .. } => Err(OpenError::damaged(position, NO_FRAME)),
    }
}
