//! How fast somebody's bytes are taken: a number of bytes for each second, and a burst.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A rate that many share. Whoever exceeds it waits; nobody is refused.
///
/// The generic cell rate algorithm (ITU-T I.371): one number says until when the bytes that were taken
/// are paid for.
#[derive(Debug)]
pub struct ByteRate {
    began: Instant,
    /// Bytes for each second.
    rate: u64,
    /// How long bytes at this rate may come at once, in microseconds.
    burst: u64,
    /// Microseconds since `began`.
    paid_until: AtomicU64,
}

impl ByteRate {
    /// So many bytes for each second, and so many at once.
    pub fn new(rate: u64, burst: u64) -> Self {
        let rate = rate.max(1);
        Self {
            began: Instant::now(),
            rate,
            burst: micros(burst, rate),
            paid_until: AtomicU64::new(0),
        }
    }

    /// Takes so many bytes. Returns how long to wait before more are taken.
    pub fn take(&self, bytes: u64) -> Duration {
        let now = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.take_at(now, bytes)
    }

    fn take_at(&self, now: u64, bytes: u64) -> Duration {
        let cost = micros(bytes, self.rate);
        let until = |before: u64| before.max(now).saturating_add(cost);
        let before = self
            .paid_until
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(until(before)));
        // The update never refuses.
        let (Ok(before) | Err(before)) = before;
        Duration::from_micros(until(before).saturating_sub(now).saturating_sub(self.burst))
    }
}

/// How long so many bytes take at this rate.
fn micros(bytes: u64, rate: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 1_000_000 / u128::from(rate)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_comes_at_the_rate() {
        let rate = ByteRate::new(1000, 500);
        assert_eq!(rate.take_at(0, 500), Duration::ZERO);
        assert_eq!(rate.take_at(0, 100), Duration::from_millis(100));
        assert_eq!(
            rate.take_at(50_000, 100),
            Duration::from_millis(150),
            "the wait of all who share it"
        );
        assert_eq!(rate.take_at(200_000, 0), Duration::ZERO);
    }

    #[test]
    fn idle_time_gives_no_more_than_one_burst() {
        let rate = ByteRate::new(1000, 500);
        assert_eq!(rate.take_at(60_000_000, 500), Duration::ZERO);
        assert_eq!(rate.take_at(60_000_000, 1), Duration::from_millis(1));
    }
}
