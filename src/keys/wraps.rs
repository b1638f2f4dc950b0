//! The wraps of a key's versions that are reserved in the store and not used yet.
//!
//! A version whose nonces are random must not wrap more than [`crate::store::rules::MAX_WRAPS`] times. Each
//! wrap takes one that the store has reserved before, so the store's number is never too small, and most
//! wraps write nothing. What an entry has left is lost with it, at an eviction or a crash. Reservations
//! begin with a single wrap and double: however often an entry is evicted, the store never counts
//! twice as many as there were, so no load on memory, another tenant's included, brings a version to
//! its limit before half of it is used.

use parking_lot::Mutex;

/// The most wraps of one reservation.
const LARGEST: u64 = 1 << 16;

/// The reserved wraps of one key, by version.
#[derive(Default)]
pub struct ReservedWraps {
    versions: Mutex<Vec<Version>>,
    reserving: tokio::sync::Mutex<()>,
}

/// The reserved wraps of one version.
#[derive(Default)]
struct Version {
    number: u32,
    /// Below 0 where retries took more than was reserved.
    left: i64,
    /// How many the last reservation asked for.
    last: u64,
    /// The store has no more.
    is_exhausted: bool,
}

impl Version {
    /// How many the next reservation asks for.
    fn next(&self) -> u64 {
        let missing = self.left.min(0).unsigned_abs() + 1;
        self.last.saturating_mul(2).clamp(1, LARGEST).max(missing)
    }
}

/// Whether a wrap may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenWrap {
    /// It was reserved before, and counts now.
    Reserved,
    /// The store is to reserve this many first.
    NeedsMore(u64),
    /// The version has no wraps left.
    LimitReached,
}

impl ReservedWraps {
    /// Takes one wrap of a version.
    pub fn take(&self, version: u32) -> TakenWrap {
        self.with(version, |version| {
            if version.left > 0 {
                version.left -= 1;
                TakenWrap::Reserved
            } else if version.is_exhausted {
                TakenWrap::LimitReached
            } else {
                TakenWrap::NeedsMore(version.next())
            }
        })
    }

    /// Takes the wraps that were sent beyond the one taken before, as retries. The next reservation
    /// includes those that are not reserved yet.
    pub fn take_retries(&self, version: u32, retries: u64) {
        let retries = i64::try_from(retries).unwrap_or(i64::MAX);
        self.with(version, |version| version.left = version.left.saturating_sub(retries));
    }

    /// Adds what the store reserved of the `asked` wraps.
    pub fn add(&self, version: u32, asked: u64, granted: u64) {
        self.with(version, |version| {
            version.left = version.left.saturating_add(i64::try_from(granted).unwrap_or(i64::MAX));
            version.last = asked.min(LARGEST);
            version.is_exhausted = granted < asked;
        });
    }

    /// Held while the store reserves, so that callers that find nothing left do not each reserve.
    pub const fn reserving(&self) -> &tokio::sync::Mutex<()> {
        &self.reserving
    }

    fn with<R>(&self, number: u32, act: impl FnOnce(&mut Version) -> R) -> R {
        let mut versions = self.versions.lock();
        // From the end: the primary version is mostly the last one used.
        let at = versions.iter().rposition(|version| version.number == number).unwrap_or_else(|| {
            versions.push(Version {
                number,
                ..Version::default()
            });
            versions.len() - 1
        });
        act(&mut versions[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wraps this many times with a new entry; returns how many were reserved, and in how many steps.
    fn load(wraps: u64) -> (u64, u64) {
        let entry = ReservedWraps::default();
        let (mut reserved, mut steps) = (0, 0);
        for _ in 0..wraps {
            if let TakenWrap::NeedsMore(count) = entry.take(1) {
                entry.add(1, count, count);
                reserved += count;
                steps += 1;
                assert_eq!(entry.take(1), TakenWrap::Reserved);
            }
        }
        (reserved, steps)
    }

    #[test]
    fn an_entry_never_reserves_twice_as_many_as_it_wraps_and_soon_seldom() {
        for wraps in (1..300).chain([65_535, 65_536, 200_000]) {
            let (reserved, _) = load(wraps);
            assert!((wraps..2 * wraps).contains(&reserved), "{reserved} for {wraps}");
        }
        assert_eq!(load(65_535), (65_535, 16));
        assert_eq!(load(65_535 + 3 * LARGEST), (65_535 + 3 * LARGEST, 19));
    }

    #[test]
    fn retries_count_before_the_next_wrap() {
        let entry = ReservedWraps::default();
        entry.add(1, 1, 1);
        assert_eq!(entry.take(1), TakenWrap::Reserved);
        entry.take_retries(1, 4);
        assert_eq!(entry.take(1), TakenWrap::NeedsMore(5));
        entry.add(1, 5, 5);
        assert_eq!(entry.take(1), TakenWrap::Reserved);
        assert!(matches!(entry.take(1), TakenWrap::NeedsMore(_)));
    }

    #[test]
    fn the_last_ones_are_used_and_none_after_them() {
        let entry = ReservedWraps::default();
        entry.add(1, 4, 2);
        let taken: Vec<TakenWrap> = (0..4).map(|_| entry.take(1)).collect();
        use TakenWrap::{LimitReached, Reserved};
        assert_eq!(taken, [Reserved, Reserved, LimitReached, LimitReached]);
        // Another version has its own.
        assert_eq!(entry.take(2), TakenWrap::NeedsMore(1));
    }
}
