//! The clock of a fake.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// The system's time plus an offset, to test what a service does after hours or days, and while its clock and the
/// gateway's differ.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_seconds: AtomicI64,
}

impl Clock {
    /// The largest offset, in both directions: ten years.
    pub const MAX_AHEAD: Duration = Duration::from_secs(10 * 365 * 86_400);

    /// The current time of the fake.
    pub fn now(&self) -> SystemTime {
        let ahead = self.ahead_seconds.load(Ordering::SeqCst);
        let by = Duration::from_secs(ahead.unsigned_abs());
        if ahead < 0 {
            SystemTime::now() - by
        } else {
            SystemTime::now() + by
        }
    }

    /// The current time of the fake, in Unix seconds.
    pub fn unix(&self) -> i64 {
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    /// Advances the clock, up to [`Clock::MAX_AHEAD`] ahead of the system's.
    pub fn advance(&self, by: Duration) {
        self.change(i64::saturating_add, by);
    }

    /// Sets the clock back, down to [`Clock::MAX_AHEAD`] behind the system's: as if the gateway's was fast.
    pub fn set_back(&self, by: Duration) {
        self.change(i64::saturating_sub, by);
    }

    fn change(&self, change: fn(i64, i64) -> i64, by: Duration) {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let most = seconds(Self::MAX_AHEAD);
        let changed = |ahead: i64| Some(change(ahead, seconds(by)).clamp(-most, most));
        // The closure always returns a value, so this cannot fail.
        let _always = self.ahead_seconds.fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed);
    }
}
