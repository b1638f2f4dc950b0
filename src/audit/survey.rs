//! What the log's thread does for those who remove the oldest files.

use tokio::sync::oneshot;

use super::history::ChangeHistory;
use super::numbers::Numbers;
use super::origin::Position;
use super::state::Begun;

/// The log at one moment.
#[derive(Debug)]
pub struct Survey {
    /// The changes up to that moment.
    pub history: ChangeHistory,
    /// The position of the first byte of each file, the oldest first.
    pub(super) starts: Vec<u64>,
    /// The position behind the last durable record.
    pub(super) end: u64,
    /// The position of the first intent without an outcome.
    pub(super) first_open: Option<Position>,
    /// Whether a lost part waits for its record.
    pub(super) unreported: bool,
    /// The last removal.
    pub(super) begun: Option<Begun>,
    /// The numbers of the next records, if parts of the log are lost.
    pub(super) numbers: Option<Numbers>,
}

/// A request to the log's thread.
#[derive(Debug)]
pub(super) enum Task {
    /// Look at the log.
    Survey(oneshot::Sender<Survey>),
    /// Go on without the files before that position, whose removal is recorded. Answers whether it is.
    Forget(u64, oneshot::Sender<bool>),
}
