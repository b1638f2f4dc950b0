//! When a key was last used at its provider, and when it is to be looked at there next.

use std::time::{Duration, Instant};

use claviger_provider::fill_random;
use parking_lot::Mutex;

/// How often a key that is in use is looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);
/// How long after its last call to a provider a key counts as in use: a data key is cached for 5 minutes at
/// most, so a key that was asked for in the last 10 minutes had a call in the last 15. Cached unwraps, the
/// most frequent requests, therefore note nothing.
const IN_USE: Duration = Duration::from_secs(15 * 60);
/// The least time between two looks.
const LEAST: Duration = Duration::from_secs(60);

/// The use of one key.
#[derive(Default)]
pub struct KeyUse(Mutex<Option<Times>>);

/// Of a key that is in use.
struct Times {
    called: Instant,
    /// The last look, or the first call.
    looked: Instant,
    next_look: Instant,
}

impl KeyUse {
    /// Notes that a request calls the key's provider.
    pub fn note(&self, now: Instant) {
        let mut times = self.0.lock();
        match times.as_mut() {
            Some(times) => times.called = now,
            None => {
                *times = Some(Times {
                    called: now,
                    looked: now,
                    next_look: now + pause(),
                });
            }
        }
    }

    /// For how long the key was to be looked at, if it is in use and the time has come.
    pub fn overdue(&self, now: Instant) -> Option<Duration> {
        let mut times = self.0.lock();
        if times
            .as_ref()
            .is_some_and(|times| now.saturating_duration_since(times.called) > IN_USE)
        {
            *times = None;
        }
        now.checked_duration_since(times.as_ref()?.next_look)
    }

    /// Notes that the key was looked at, or could not be.
    pub fn looked(&self, now: Instant) {
        if let Some(times) = self.0.lock().as_mut() {
            (times.looked, times.next_look) = (now, now + pause());
        }
    }

    /// Has a key that is in use looked at a minute after the last look.
    pub fn look_soon(&self) {
        if let Some(times) = self.0.lock().as_mut() {
            times.next_look = times.next_look.min(times.looked + LEAST);
        }
    }
}

/// Until the next look: 3 to 5 minutes at random, so that the keys that are used after a start are not all
/// looked at at once.
fn pause() -> Duration {
    let mut draw = [0; 1];
    fill_random(&mut draw);
    LOOK_EVERY - LOOK_EVERY * 2 / 5 * u32::from(draw[0]) / u32::from(u8::MAX)
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
    fn a_key_is_looked_at_every_5_minutes_while_it_is_in_use() {
        for _ in 0..100 {
            let (key, begin) = (KeyUse::default(), Instant::now());
            assert_eq!(key.overdue(begin + 5 * MINUTE), None, "never used");
            key.note(begin);
            let mut looks = Vec::new();
            for second in 0..3600 {
                let now = begin + Duration::from_secs(second);
                // Used until 20 minutes after the begin, which does not put looks off.
                if second < 1200 {
                    key.note(now);
                }
                if key.overdue(now).is_some() {
                    looks.push(second);
                    key.looked(now);
                }
            }
            assert!((180..=300).contains(&looks[0]), "{looks:?}");
            let pauses = looks.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(pauses.clone().all(|pause| (180..=300).contains(&pause)), "{looks:?}");
            // The last look is in the 15 minutes after the last use.
            assert!((1800..=2100).contains(looks.last().unwrap_or(&0)), "{looks:?}");
        }
    }

    #[test]
    fn looks_are_spread() {
        let begin = Instant::now();
        let keys: Vec<KeyUse> = (0..1000).map(|_| KeyUse::default()).collect();
        keys.iter().for_each(|key| key.note(begin));
        let due = |second: u64| {
            let now = begin + Duration::from_secs(second);
            keys.iter().filter(|key| key.overdue(now).is_some()).count()
        };
        assert_eq!((due(179), due(300)), (0, 1000));
        assert!((300..700).contains(&due(240)), "{}", due(240));
    }

    #[test]
    fn a_look_can_be_brought_forward() {
        let (key, begin) = (KeyUse::default(), Instant::now());
        key.look_soon();
        assert_eq!(key.overdue(begin), None, "not in use");
        key.note(begin);
        for now in [begin, begin + MINUTE] {
            key.look_soon();
            assert_eq!(key.overdue(now + MINUTE - Duration::from_millis(1)), None);
            assert_eq!(key.overdue(now + MINUTE), Some(Duration::ZERO));
            key.looked(now + MINUTE);
        }
        assert_eq!(key.overdue(begin + 4 * MINUTE), None);
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
