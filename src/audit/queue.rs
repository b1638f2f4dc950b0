//! What callers send to the group commit, and what it sends back.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::health::Reason;
use super::origin::Position;
use super::stamp::Stamped;

/// What happens to a record that the log refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is lost. The next `restarted` record counts it.
    Lost,
    /// Nothing is lost: the operation has not begun, or the caller keeps the record.
    Harmless,
    /// The log keeps it and writes it once it can.
    Deferred,
}

/// How a record is treated while the log is not sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    /// Whether the disk reserve may be used for it.
    pub(super) reserve: bool,
    /// What happens to the record if the log refuses it.
    pub(super) refusal: Refusal,
}

/// The sequence number and the offset of a durable record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub(super) sequence: u64,
    pub(super) position: Position,
}

/// The result of a job.
pub(super) type JobResult = Result<Written, Reason>;

/// Durable records and their positions, in the same order. The records go back to the thread that
/// made them. If the group commit freed them, it would contend for the allocator with every thread
/// that records.
pub(super) struct Written {
    pub(super) records: Vec<Stamped>,
    pub(super) positions: Vec<LogPosition>,
}

/// Records that are written together: all or none.
pub(super) struct Job {
    pub(super) records: Vec<Stamped>,
    /// Allocated by the caller, for the reason given at [`Written`].
    pub(super) positions: Vec<LogPosition>,
    pub(super) class: Class,
    /// Receives the result, if somebody waits for it.
    pub(super) result: Option<oneshot::Sender<JobResult>>,
    /// The job's share of the queue, released when the job is done.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// A message to the group commit.
pub(super) enum Message {
    /// Write these records.
    Append(Job),
    /// Compare the file with what was written, and check whether a log that is not sound has
    /// recovered.
    Check,
    /// Write what is queued, then the sidecar, and end.
    Close(oneshot::Sender<()>),
}
