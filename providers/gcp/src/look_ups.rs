//! What was looked up about keys and versions because Google refused a call without a reason.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState as State;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::names::{KeyName, VersionNumber};

/// How long the state of a version is used again. Otherwise whoever sends ciphertexts that do not open
/// would double the calls to Google.
const MAX_AGE_OF_STATE: Duration = Duration::from_secs(1);
/// The same of the version that wraps under a key without a primary one, which would cost two calls for each wrap, and
/// where none was found.
const MAX_AGE_OF_NEWEST: Duration = Duration::from_secs(30);
const MAX_AGE_OF_NONE: Duration = Duration::from_secs(1);
/// Maximum number of keys or versions of which something is kept.
const CAPACITY: usize = 1024;

/// What was looked up at this time.
type LookedUp<V> = Option<(Instant, V)>;
/// That of one key or version, held while it is looked up.
type Slot<V> = Arc<tokio::sync::Mutex<LookedUp<V>>>;

/// What was looked up: one call at a time for each `K`.
pub(crate) struct LookUps<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    max_age: fn(&V) -> Duration,
}

/// The states of versions; `None` if Google did not return it.
pub(crate) type VersionStates = LookUps<(KeyName, VersionNumber), Option<State>>;
/// The versions that wrap under keys without a primary version; `None` where there is none, or a primary one.
pub(crate) type NewestVersions = LookUps<KeyName, Option<VersionNumber>>;

impl VersionStates {
    pub(crate) fn of_versions() -> Self {
        Self::new(|_| MAX_AGE_OF_STATE)
    }
}

impl NewestVersions {
    pub(crate) fn of_keys() -> Self {
        Self::new(|newest| if newest.is_some() { MAX_AGE_OF_NEWEST } else { MAX_AGE_OF_NONE })
    }
}

impl<K: Eq + Hash, V: Clone> LookUps<K, V> {
    fn new(max_age: fn(&V) -> Duration) -> Self {
        Self {
            slots: Mutex::default(),
            max_age,
        }
    }

    /// What was looked up a moment ago, or what `look_up` returns. Concurrent callers wait for the call under way.
    pub(crate) async fn get_or(&self, key: K, look_up: impl Future<Output = V>) -> V {
        let kept = self.slot(key);
        let mut kept = kept.lock().await;
        match &*kept {
            Some((at, value)) if at.elapsed() < (self.max_age)(value) => value.clone(),
            Some(_) | None => {
                let value = look_up.await;
                *kept = Some((Instant::now(), value.clone()));
                value
            }
        }
    }

    /// Has it looked up anew the next time.
    pub(crate) fn forget(&self, key: &K) {
        self.slots.lock().remove(key);
    }

    fn slot(&self, key: K) -> Slot<V> {
        let mut kept = self.slots.lock();
        if kept.len() >= CAPACITY {
            // Those in use stay, at most as many as there are calls under way.
            kept.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(kept.entry(key).or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::cell::Cell;

    use futures::future::join_all;

    use super::{CAPACITY, Duration, MAX_AGE_OF_NEWEST, NewestVersions, State, VersionStates};
    use crate::names::{KeyRing, VersionNumber};

    #[tokio::test(start_paused = true)]
    async fn a_version_is_looked_up_once_a_second_however_many_ask() {
        let ring = KeyRing::parse("projects/p/locations/global/keyRings/r").unwrap();
        let (key, version) = (ring.key("k").unwrap(), VersionNumber::parse("1").unwrap());
        let (states, calls) = (VersionStates::of_versions(), Cell::new(0));
        let look_up = async || {
            calls.set(calls.get() + 1);
            tokio::time::sleep(Duration::from_millis(300)).await;
            (calls.get() > 1).then_some(State::Disabled)
        };
        // One that failed is not made again for each caller, either.
        for (expected, made) in [(None, 1), (Some(State::Disabled), 2)] {
            let asked = join_all((0..8).map(|_| states.get_or((key.clone(), version), look_up()))).await;
            assert!(asked.iter().all(|state| *state == expected));
            assert_eq!(calls.get(), made);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test]
    async fn the_states_of_many_versions_take_no_more_room() {
        let ring = KeyRing::parse("projects/p/locations/global/keyRings/r").unwrap();
        let states = VersionStates::of_versions();
        for number in 1..=3 * CAPACITY {
            let key = ring.key(&format!("k{number}")).unwrap();
            states.get_or((key, VersionNumber::parse("1").unwrap()), async { None }).await;
        }
        assert!(states.slots.lock().len() <= CAPACITY);
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_version_is_remembered_until_it_is_refused() {
        let key = KeyRing::parse("projects/p/locations/global/keyRings/r").unwrap().key("k").unwrap();
        let (newest, calls) = (NewestVersions::of_keys(), Cell::new(0));
        let look_up = async || {
            calls.set(calls.get() + 1);
            VersionNumber::parse(&calls.get().to_string())
        };
        let get = async || newest.get_or(key.clone(), look_up()).await.map(|version| version.to_string());
        for expected in ["1", "1"] {
            assert_eq!(get().await.as_deref(), Some(expected));
        }
        newest.forget(&key);
        assert_eq!(get().await.as_deref(), Some("2"));
        tokio::time::advance(MAX_AGE_OF_NEWEST).await;
        assert_eq!(get().await.as_deref(), Some("3"));
    }
}
