//! How long the disk will last if the log goes on growing as it did.

use std::time::{Duration, Instant};

/// The time over which growth is averaged. What is older counts ever less.
const WINDOW: Duration = Duration::from_secs(5 * 60);

/// Growth is averaged over at least this long, so that a burst after the start is not taken for the rule.
const SHORTEST: Duration = Duration::from_secs(60);

/// Longer forecasts mean nothing: 100 years.
const LONGEST: f64 = 100.0 * 365.0 * 86_400.0;

/// The recent growth of a log.
#[derive(Debug)]
pub(super) struct Growth {
    begun: Instant,
    /// The position of the log's end at that time.
    first: u64,
    looked: Instant,
    /// The position of the log's end at that time.
    end: u64,
    /// Bytes per second.
    rate: f64,
}

impl Growth {
    /// A log that ends at that position, of whose growth nothing is known.
    pub(super) fn new(end: u64, now: Instant) -> Self {
        Self {
            begun: now,
            first: end,
            looked: now,
            end,
            rate: 0.0,
        }
    }

    /// The log ends at that position now. To be called every second or so.
    pub(super) fn add(&mut self, end: u64, now: Instant) {
        let since = now.saturating_duration_since(self.looked).as_secs_f64();
        if since <= 0.0 {
            return;
        }
        let known = now.saturating_duration_since(self.begun);
        if known <= WINDOW {
            self.rate = end.saturating_sub(self.first) as f64 / known.max(SHORTEST).as_secs_f64();
        } else {
            let rate = end.saturating_sub(self.end) as f64 / since;
            self.rate += (rate - self.rate) * (since / WINDOW.as_secs_f64()).min(1.0);
        }
        (self.looked, self.end) = (now, end);
    }

    /// How long so many bytes last, in whole seconds; `None` if the log did not grow, or lasts longer than
    /// 100 years.
    pub(super) fn lasts(&self, bytes: u64) -> Option<Duration> {
        let seconds = bytes as f64 / self.rate;
        (self.rate > 0.0 && seconds < LONGEST).then(|| Duration::from_secs(seconds.round() as u64))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A log that grows by that many bytes in each of so many seconds.
    fn grow(growth: &mut Growth, bytes: u64, seconds: u32) {
        for _ in 0..seconds {
            growth.add(growth.end + bytes, growth.looked + SECOND);
        }
    }

    fn seconds(growth: &Growth, bytes: u64) -> u64 {
        growth.lasts(bytes).unwrap().as_secs()
    }

    #[test]
    fn a_log_that_did_not_grow_has_no_forecast() {
        let mut growth = Growth::new(1000, Instant::now());
        assert_eq!(growth.lasts(0), None);
        grow(&mut growth, 0, 60);
        assert_eq!(growth.lasts(0), None);
        // One record, and then nothing for a day.
        grow(&mut growth, 500, 1);
        assert!(growth.lasts(1_000_000).is_some());
        grow(&mut growth, 0, 86_400);
        assert_eq!(growth.lasts(1_000_000), None);
    }

    #[test]
    fn steady_growth_lasts_as_long_as_the_space_divided_by_it() {
        let mut growth = Growth::new(1 << 40, Instant::now());
        for minutes in [1, 4, 60] {
            grow(&mut growth, 1000, minutes * 60);
            assert_eq!(seconds(&growth, 10_000_000), 10_000, "after {minutes} more minutes");
        }
        assert_eq!(seconds(&growth, 0), 0);
        // Looks that come late or at once change nothing.
        growth.add(growth.end + 100_000, growth.looked + 100 * SECOND);
        growth.add(growth.end, growth.looked);
        assert_eq!(seconds(&growth, 10_000_000), 10_000);
    }

    #[test]
    fn a_burst_is_spread_over_a_minute_at_the_start_and_over_five_later() {
        let mut growth = Growth::new(0, Instant::now());
        grow(&mut growth, 60_000, 1);
        assert_eq!(seconds(&growth, 1_000_000), 1000);
        let mut growth = Growth::new(0, Instant::now());
        grow(&mut growth, 0, 3600);
        grow(&mut growth, 300_000, 1);
        assert_eq!(seconds(&growth, 1_000_000), 1000);
        // Five minutes later a third of it counts.
        grow(&mut growth, 0, 300);
        let lasts = seconds(&growth, 1_000_000);
        assert!((2_600..=2_800).contains(&lasts), "{lasts} s");
    }
}
