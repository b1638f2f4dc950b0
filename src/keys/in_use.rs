//! When a key was last used at its provider.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long after its last call to a provider a key counts as in use: a data key is cached for 5 minutes at
/// most, so a key that was asked for in the last 10 minutes had a call in the last 15. Cached unwraps, the
/// most frequent requests, therefore note nothing.
const IN_USE: Duration = Duration::from_secs(15 * 60);

/// The use of one key: the last call, `None` for one that is not in use.
#[derive(Default)]
pub struct KeyUse(Mutex<Option<Instant>>);

impl KeyUse {
    /// Notes that a request calls the key's provider. `true` if it was not in use.
    pub fn note(&self, now: Instant) -> bool {
        self.0.lock().replace(now).is_none()
    }

    /// Whether it is in use; ends the use of one that is not any more.
    pub fn lasts(&self, now: Instant) -> bool {
        let mut called = self.0.lock();
        *called = called.filter(|called| now.saturating_duration_since(*called) <= IN_USE);
        called.is_some()
    }

    /// Has the next call noted as the first one.
    pub fn end(&self) {
        *self.0.lock() = None;
    }
}

/// How often something may be done: `most` times at once, and then once in `every`.
pub struct Allowance {
    most: u32,
    every: Duration,
    left: Mutex<(u32, Instant)>,
}

impl Allowance {
    /// All of it is left.
    pub fn new(most: u32, every: Duration) -> Self {
        let left = Mutex::new((most, Instant::now()));
        Self { most, every, left }
    }

    /// Takes one; `false` if none is left.
    pub fn take(&self, now: Instant) -> bool {
        let mut left = self.left.lock();
        let (count, since) = &mut *left;
        let passed = now.saturating_duration_since(*since).as_micros() / self.every.as_micros().max(1);
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed > 0 {
            // What is over of the last interval does not count.
            (*count, *since) = (count.saturating_add(passed).min(self.most), now);
        }
        let taken = *count > 0;
        *count = count.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_key_is_in_use_until_15_minutes_after_its_last_call() {
        let (key, begin) = (KeyUse::default(), Instant::now());
        assert!(!key.lasts(begin), "never used");
        assert!(key.note(begin) && !key.note(begin + 5 * MINUTE));
        assert!(key.lasts(begin + 20 * MINUTE));
        assert!(!key.lasts(begin + 20 * MINUTE + Duration::from_secs(1)));
        assert!(key.note(begin + 20 * MINUTE), "the first call again");
        key.end();
        assert!(key.note(begin + 20 * MINUTE));
    }

    #[test]
    fn an_allowance_fills_again() {
        let allowance = Allowance::new(3, MINUTE);
        let begin = Instant::now();
        let take = |at: Duration| allowance.take(begin + at);
        let at_once: Vec<bool> = (0..5).map(|_| take(Duration::ZERO)).collect();
        assert_eq!(at_once, [true, true, true, false, false]);
        let later = MINUTE + Duration::from_secs(1);
        assert_eq!([take(later), take(later)], [true, false]);
        let at_last: Vec<bool> = (0..5).map(|_| take(60 * MINUTE)).collect();
        assert_eq!(at_last, [true, true, true, false, false]);
    }
}
