//! The settings of a log.

use std::time::Duration;

use super::durability::Durability;
use super::last_record::LastRecord;
use super::origin::Position;
use super::segments::SegmentSizes;

/// How the log uses disk, memory and time.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a record survives from its response on.
    pub durability: Durability,
    /// How long [`Durability::ProcessCrash`] leaves a record without a sync.
    pub sync_every: Duration,
    /// The disk reserve, in bytes: room for revocations (disable, sever, revoke, suspend, delete a principal) when
    /// the disk is full.
    pub reserve_bytes: u64,
    /// Ordinary records are refused when the file system has fewer free bytes than this beside the
    /// reserve, because the sidecar and the file system itself need room, too.
    pub floor_bytes: u64,
    /// The lengths of the log's files.
    pub segments: SegmentSizes,
    /// How many bytes of records may be queued. Further callers wait for room.
    pub queue_bytes: u32,
    /// The sidecar is rewritten after this many bytes of records.
    pub snapshot_bytes: u64,
    /// The pause before the file is used again after a failed write or sync.
    pub retry_after: Duration,
    /// A commit that takes longer makes the log [`super::Health::Stalled`].
    pub stall_after: Duration,
    /// Open the log although a part of it was removed, put back to an older state, cut or damaged, with all that is
    /// left of it. What is lost is recorded.
    pub accept_lost_log: bool,
    /// Forget that records are later than the clock.
    pub accept_clock: bool,
    /// The last position in this log that the store has. A lost log goes on after it.
    pub stored: Option<Position>,
    /// The last record that the store knows of. A log without it was put back to an older state.
    pub last_record: Option<LastRecord>,
    /// The position in this log up to which an earlier start has compared the store.
    pub compared: Option<Position>,
}

impl Options {
    /// The last position that the store knows of.
    pub(super) fn last_stored(&self) -> Option<Position> {
        self.stored.max(self.last_record.map(|last| last.position))
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            durability: Durability::PowerLoss,
            sync_every: Duration::from_millis(50),
            reserve_bytes: 16 << 20,
            floor_bytes: 1 << 20,
            segments: SegmentSizes {
                first: 1 << 20,
                most: 64 << 20,
            },
            queue_bytes: 32 << 20,
            snapshot_bytes: 64 << 20,
            retry_after: Duration::from_secs(1),
            stall_after: Duration::from_secs(2),
            accept_lost_log: false,
            accept_clock: false,
            stored: None,
            last_record: None,
            compared: None,
        }
    }
}
