//! The state that callers and the group commit share: the log's health, and the count of lost
//! records.

use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::fields::{Cause, Lost};
use super::scalar::Timestamp;

/// The health of the log, as `/readyz` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Records become durable.
    Sound,
    /// A write or sync has been taking longer than [`super::Options::stall_after`].
    Stalled,
    /// Only the disk reserve is left, which is for revocations.
    DiskFull,
    /// A write or sync failed, and the file could not be repaired yet.
    WriteFailed,
    /// The file was removed, replaced or cut, and could not be brought back yet.
    LogLost,
    /// The log is closed, or its thread has ended.
    Closed,
}

impl Health {
    /// The word in `/readyz` and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Stalled => "stalled",
            Self::DiskFull => "disk_full",
            Self::WriteFailed => "write_failed",
            Self::LogLost => "log_lost",
            Self::Closed => "closed",
        }
    }
}

/// The record is not known to be durable. Only the log makes this value, so that a response
/// built from it (503) reports a real failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is not available: {}", .reason.as_str())]
pub struct Unavailable {
    pub(super) reason: Reason,
    pub(super) deferred: bool,
}

impl Unavailable {
    /// Creates an error and counts it.
    pub(super) fn counted(reason: Reason, deferred: bool) -> Self {
        count_refusal(reason);
        Self { reason, deferred }
    }

    /// The reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether the log keeps the record in memory and writes it once it can. The record is
    /// lost if this process ends before.
    pub fn deferred(&self) -> bool {
        self.deferred
    }
}

/// The reason of an [`Unavailable`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The caller's deadline passed first. The record may still become durable.
    Deadline,
    /// The disk is full except for the reserve.
    DiskFull,
    /// A write or a sync failed.
    WriteFailed,
    /// The log's file was removed, replaced or cut.
    LogLost,
    /// Too many records are queued.
    Overload,
    /// The record is longer than [`super::MAX_JSON`].
    TooLarge,
    /// The log is closed.
    Closed,
}

impl Reason {
    /// The word in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::DiskFull => "disk_full",
            Self::WriteFailed => "write_failed",
            Self::LogLost => "log_lost",
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
            Self::LogLost => Cause::LogLost,
        }
    }
}

/// Counts an append that ended without a receipt.
pub(super) fn count_refusal(reason: Reason) {
    metrics::counter!("claviger_audit_refused_total", "reason" => reason.as_str()).increment(1);
}

/// Records that will never be written although their operations may have had an effect. The
/// next `restarted` record reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) since: Timestamp,
    pub(super) cause: Cause,
    pub(super) records: u64,
}

/// The condition of the log after the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Condition {
    Sound,
    DiskFull,
    WriteFailed,
    LogLost,
    Closed,
}

/// In place of a number of seconds.
const UNKNOWN: u64 = u64::MAX;

/// State that callers and the group commit share. No lock in it is held across I/O.
#[derive(Debug)]
pub(super) struct Shared {
    condition: AtomicU8,
    begun: Instant,
    /// Microseconds from `begun` to the start of the current commit; 0 if there is none.
    busy_since: AtomicU64,
    gap: Mutex<Option<Gap>>,
    /// How many seconds the disk lasts; [`UNKNOWN`] if there is no forecast.
    disk_lasts: AtomicU64,
    /// The end of the last part that was lost since this process began; 0 if none was.
    lost_until: AtomicU64,
    /// How many deferred records the queue and the group commit have.
    pub(super) deferred: AtomicUsize,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            condition: AtomicU8::new(Condition::Sound as u8),
            begun: Instant::now(),
            busy_since: AtomicU64::new(0),
            gap: Mutex::new(None),
            disk_lasts: AtomicU64::new(UNKNOWN),
            lost_until: AtomicU64::new(0),
            deferred: AtomicUsize::new(0),
        }
    }

    /// The condition after the last commit.
    pub(super) fn condition(&self) -> Condition {
        let conditions = [Condition::Sound, Condition::DiskFull, Condition::WriteFailed, Condition::LogLost];
        let now = self.condition.load(Ordering::Acquire);
        conditions.into_iter().find(|c| *c as u8 == now).unwrap_or(Condition::Closed)
    }

    /// Sets the condition and returns the previous one.
    pub(super) fn set_condition(&self, condition: Condition) -> Condition {
        let before = self.condition();
        self.condition.store(condition as u8, Ordering::Release);
        before
    }

    pub(super) fn health(&self, stall_after: Duration) -> Health {
        match self.condition() {
            Condition::Closed => Health::Closed,
            Condition::WriteFailed => Health::WriteFailed,
            Condition::LogLost => Health::LogLost,
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
        // At least 1: 0 means that there is no commit.
        let now = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        self.busy_since.store(if busy { now } else { 0 }, Ordering::Release);
    }

    /// How long the disk lasts ([`super::Log::disk_lasts`]).
    pub(super) fn disk_lasts(&self) -> Option<Duration> {
        let seconds = self.disk_lasts.load(Ordering::Relaxed);
        (seconds != UNKNOWN).then(|| Duration::from_secs(seconds))
    }

    pub(super) fn set_disk_lasts(&self, lasts: Option<Duration>) {
        let gauge = || metrics::gauge!("claviger_audit_disk_lasts_seconds");
        let before = self
            .disk_lasts
            .swap(lasts.map_or(UNKNOWN, |lasts| lasts.as_secs()), Ordering::Relaxed);
        match lasts {
            Some(lasts) => gauge().set(lasts.as_secs_f64()),
            None if before != UNKNOWN => gauge().set(f64::INFINITY),
            // The gauge exists from the first forecast on.
            None => {}
        }
    }

    /// Where what was lost since this process began ends ([`super::Log::lost_until`]).
    pub(super) fn lost_until(&self) -> u64 {
        self.lost_until.load(Ordering::Acquire)
    }

    /// Notes lost parts.
    pub(super) fn add_lost(&self, lost: &[Lost]) {
        let until = lost.iter().map(|lost| lost.to.get()).max().unwrap_or(0);
        self.lost_until.fetch_max(until, Ordering::AcqRel);
    }

    /// Counts records as lost.
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

    /// Puts back a gap whose record could not be written.
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
