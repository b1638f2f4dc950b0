//! What callers and the writer share: the log's health, and what went unrecorded.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fields::{Cause, Timestamp};

/// How the log is; `/readyz` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Records are being made durable.
    Sound,
    /// The disk has not answered for longer than [`super::Options::stall_after`].
    Stalled,
    /// Only the reserve is left, and that is for cuts.
    DiskFull,
    /// A write or sync failed, and what was durable before could not be secured yet.
    WriteFailed,
    /// The log is closed, or its writer has ended.
    Closed,
}

impl Health {
    /// The word that `/readyz` and metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Stalled => "stalled",
            Self::DiskFull => "disk_full",
            Self::WriteFailed => "write_failed",
            Self::Closed => "closed",
        }
    }
}

/// Why a record is not known to be durable. Only this module's log makes one, so that an
/// answer built from it (503) tells of a real failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is not available: {}", .reason.as_str())]
pub struct Unavailable {
    pub(super) reason: Reason,
    pub(super) follows: bool,
}

impl Unavailable {
    /// The reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the record is kept and written as soon as the log is able to, for as long as
    /// this process lives.
    pub fn follows(&self) -> bool {
        self.follows
    }
}

/// The reasons of [`Unavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The caller's deadline passed first. The record may still become durable.
    Deadline,
    /// The disk is full but for the reserve.
    DiskFull,
    /// A write or a sync failed.
    WriteFailed,
    /// Too many records wait for the log.
    Overload,
    /// The record is larger than an entry may be.
    TooLarge,
    /// The log is closed.
    Closed,
}

impl Reason {
    /// The word that logs and metrics use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::DiskFull => "disk_full",
            Self::WriteFailed => "write_failed",
            Self::Overload => "overload",
            Self::TooLarge => "too_large",
            Self::Closed => "closed",
        }
    }

    const fn cause(self) -> Cause {
        match self {
            Self::Deadline | Self::Overload | Self::TooLarge => Cause::Overload,
            Self::DiskFull => Cause::DiskFull,
            Self::WriteFailed | Self::Closed => Cause::WriteFailed,
        }
    }
}

/// Records that will never be written, although something may have happened: what the next
/// `restarted` record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) since: Timestamp,
    pub(super) cause: Cause,
    pub(super) records: u64,
}

/// The log's condition as the writer last saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Condition {
    Sound,
    DiskFull,
    WriteFailed,
    Closed,
}

/// Shared between the callers and the writer; nothing here is held across I/O.
#[derive(Debug)]
pub(super) struct Shared {
    condition: AtomicU8,
    begun: Instant,
    /// Microseconds from `begun` to the start of the commit under way; 0 where none is.
    busy_since: AtomicU64,
    gap: Mutex<Option<Gap>>,
    /// Records that will be written even though their callers may have been refused.
    pub(super) following: AtomicUsize,
    /// Whether the writer was asked to look after itself and has not yet.
    pub(super) check_asked: AtomicBool,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            condition: AtomicU8::new(Condition::Sound as u8),
            begun: Instant::now(),
            busy_since: AtomicU64::new(0),
            gap: Mutex::new(None),
            following: AtomicUsize::new(0),
            check_asked: AtomicBool::new(false),
        }
    }

    /// The condition that the writer saw last.
    pub(super) fn condition(&self) -> Condition {
        let conditions = [Condition::Sound, Condition::DiskFull, Condition::WriteFailed];
        let now = self.condition.load(Ordering::Acquire);
        conditions.into_iter().find(|c| *c as u8 == now).unwrap_or(Condition::Closed)
    }

    /// Sets it and gives back the one before.
    pub(super) fn set_condition(&self, condition: Condition) -> Condition {
        let before = self.condition();
        self.condition.store(condition as u8, Ordering::Release);
        before
    }

    pub(super) fn health(&self, stall_after: Duration) -> Health {
        match self.condition() {
            Condition::Closed => Health::Closed,
            Condition::WriteFailed => Health::WriteFailed,
            Condition::DiskFull => Health::DiskFull,
            Condition::Sound => {
                let since = Duration::from_micros(self.busy_since.load(Ordering::Acquire));
                let busy = self.begun.elapsed().saturating_sub(since);
                if since.is_zero() || busy < stall_after {
                    Health::Sound
                } else {
                    Health::Stalled
                }
            }
        }
    }

    pub(super) fn set_busy(&self, busy: bool) {
        // The process is older than one microsecond here, so a start never looks like none.
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        self.busy_since.store(if busy { now } else { 0 }, Ordering::Release);
    }

    /// Counts records that nobody will write.
    pub(super) fn add_gap(&self, records: u64, reason: Reason) {
        let mut gap = self.gap.lock();
        let before = gap.take();
        *gap = Some(Gap {
            since: before.map_or_else(Timestamp::now, |gap| gap.since),
            cause: reason.cause(),
            records: before.map_or(0, |gap| gap.records).saturating_add(records),
        });
    }

    pub(super) fn take_gap(&self) -> Option<Gap> {
        self.gap.lock().take()
    }

    /// Gives back a gap that could not be told yet.
    pub(super) fn return_gap(&self, older: Gap) {
        let mut gap = self.gap.lock();
        let newer = gap.take();
        *gap = Some(Gap {
            since: older.since,
            cause: newer.map_or(older.cause, |gap| gap.cause),
            records: older.records.saturating_add(newer.map_or(0, |gap| gap.records)),
        });
    }
}
