//! The time as a fake sees it: the system's, and ahead of it by as much as a test wants.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A clock that can be put forward, for what a service does after hours or days. It never
/// goes back.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_seconds: AtomicU64,
}

impl Clock {
    /// The longest way ahead of the system's clock: ten years.
    pub const MAX_AHEAD: Duration = Duration::from_secs(10 * 365 * 86_400);

    /// The time now.
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_secs(self.ahead_seconds.load(Ordering::SeqCst))
    }

    /// The same in Unix seconds.
    pub fn unix(&self) -> i64 {
        let since = self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    }

    /// Puts it forward, at most to [`Clock::MAX_AHEAD`].
    pub fn advance(&self, by: Duration) {
        let most = Self::MAX_AHEAD.as_secs();
        let further = |ahead: u64| Some(ahead.saturating_add(by.as_secs()).min(most));
        // The closure always gives a value, so there is no failure to look at.
        let _always = self.ahead_seconds.fetch_update(Ordering::SeqCst, Ordering::SeqCst, further);
    }
}
