//! Reads an existing log: checks every frame, rebuilds the state, and finds where the last whole
//! frame ends.

use std::io;

use super::file::LogFile;
use super::frame::{Frames, Step};
use super::origin::{Origin, Position};
use super::record::Record;
use super::role::RecordSummary;
use super::state::State;

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
    /// The file is not a log of this version.
    #[error("the audit log's file does not begin as a log of this version does")]
    NotALog,
    /// The file is the log of another installation or node.
    #[error("the audit log belongs to another installation or node")]
    Foreign,
    /// Acknowledged records are missing at the end.
    #[error(
        "the audit log has lost its end: {expected} bytes were durable, {found} are left. It was restored from an older copy, or truncated. \
         Restore the newer copy, or start once with --accept-rollback to go on without the lost records"
    )]
    Lost {
        /// Number of bytes that were durable.
        expected: u64,
        /// Number of bytes in the file.
        found: u64,
    },
    /// An acknowledged record is damaged.
    #[error("the audit log is damaged at byte {at}: {why}")]
    Damaged {
        /// The offset in the file.
        at: u64,
        /// The kind of damage.
        why: &'static str,
    },
    /// The store has a change that the log lacks, so the log is older than the store.
    #[error("the store has applied a change at byte {applied} of the audit log, but the log has no change there")]
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
pub(super) const NOT_A_RECORD: &str = "the record is not one of this version";

/// Reads from `offset` to the end, and adds every record to the state. Returns where the last whole
/// frame ends. What follows is a commit that a crash interrupted.
///
/// # Errors
/// [`OpenError::Damaged`], [`OpenError::Io`].
pub(super) fn replay(file: &dyn LogFile, origin: &Origin, offset: u64, state: &mut State) -> Result<u64, OpenError> {
    let mut frames = Frames::from(file, offset);
    loop {
        match frames.step().map_err(OpenError::io("read"))? {
            Step::End => return Ok(frames.offset()),
            Step::Frame { position, json } => {
                let damaged = |why| OpenError::damaged(position, why);
                let record: RecordSummary = serde_json::from_slice(json).map_err(|_| damaged(NOT_A_RECORD))?;
                if record.installation != origin.installation || record.node != origin.node {
                    return Err(damaged("the record belongs to another log"));
                }
                if record.sequence.get() != state.next(record.tenant) {
                    return Err(damaged("the tenant's sequence numbers have a gap"));
                }
                state.add(record.tenant, record.sequence.get(), record.role(), position, record.time);
            }
            Step::Damaged { position } => {
                if frames.commit_follows().map_err(OpenError::io("read"))? {
                    return Err(OpenError::damaged(
                        position,
                        "there is no whole record, and acknowledged ones follow",
                    ));
                }
                return Ok(position.0);
            }
        }
    }
}

/// Reads the record at that offset.
///
/// # Errors
/// [`OpenError::Damaged`], [`OpenError::Io`].
pub(super) fn read_record(file: &dyn LogFile, position: Position) -> Result<Record, OpenError> {
    match Frames::from(file, position.0).step().map_err(OpenError::io("read"))? {
        Step::Frame { json, .. } => serde_json::from_slice(json).map_err(|_| OpenError::damaged(position, NOT_A_RECORD)),
        Step::End | Step::Damaged { .. } => Err(OpenError::damaged(position, NO_FRAME)),
    }
}
