//! The clock of a fake.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The system's time plus an offset that only grows, to test what a service does after hours or
/// days.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_seconds: AtomicU64,
}

impl Clock {
    /// The largest offset: ten years.
    pub const MAX_AHEAD: Duration = Duration::from_secs(10 * 365 * 86_400);

    /// The current time of the fake.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.ahead_seconds.load(Ordering::SeqCst))
    }

    /// The current time of the fake, in Unix seconds.
    pub fn unix(&self) -> i64 {
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    /// Advances the clock, up to [`Clock::MAX_AHEAD`] ahead of the system's.
    pub fn advance(&self, by: Duration) {
        let most = Self::MAX_AHEAD.as_secs();
        let further = |ahead: u64| Some(ahead.saturating_add(by.as_secs()).min(most));
        // The closure always returns a value, so this cannot fail.
        let _always = self.ahead_seconds.fetch_update(Ordering::SeqCst, Ordering::SeqCst, further);
    }
}
