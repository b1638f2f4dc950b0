//! The states of versions that were looked up because Google refused a call without a reason.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState as State;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::names::{KeyName, VersionNumber};

/// How long a state that was looked up is used again. Otherwise whoever sends ciphertexts that do not open
/// would double the calls to Google.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Maximum number of versions whose states are kept.
const CAPACITY: usize = 1024;

/// A state that was looked up at this time; `None` if Google did not return it.
type LookedUp = Option<(Instant, Option<State>)>;
/// One version's, held while it is looked up.
type Slot = Arc<tokio::sync::Mutex<LookedUp>>;

/// The states of versions that were looked up: one call at a time for each version.
#[derive(Default)]
pub(crate) struct VersionStates(Mutex<HashMap<(KeyName, VersionNumber), Slot>>);

impl VersionStates {
    /// The version's state as it was looked up within the last second, or as `look_up` returns it. Concurrent
    /// callers wait for the call under way.
    pub(crate) async fn get_or(
        &self,
        name: &KeyName,
        version: VersionNumber,
        look_up: impl Future<Output = Option<State>>,
    ) -> Option<State> {
        let kept = self.slot(name, version);
        let mut kept = kept.lock().await;
        match &*kept {
            Some((at, state)) if at.elapsed() < MAX_AGE => state.clone(),
            Some(_) | None => {
                let state = look_up.await;
                *kept = Some((Instant::now(), state.clone()));
                state
            }
        }
    }

    fn slot(&self, name: &KeyName, version: VersionNumber) -> Slot {
        let mut kept = self.0.lock();
        if kept.len() >= CAPACITY {
            // Those in use stay, at most as many as there are calls under way.
            kept.retain(|_, state| Arc::strong_count(state) > 1);
        }
        Arc::clone(kept.entry((name.clone(), version)).or_default())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::cell::Cell;

    use futures::future::join_all;

    use super::{CAPACITY, Duration, State, VersionStates};
    use crate::names::{KeyRing, VersionNumber};

    #[tokio::test(start_paused = true)]
    async fn a_version_is_looked_up_once_a_second_however_many_ask() {
        let ring = KeyRing::parse("projects/p/locations/global/keyRings/r").unwrap();
        let (key, version) = (ring.key("k").unwrap(), VersionNumber::parse("1").unwrap());
        let (states, calls) = (VersionStates::default(), Cell::new(0));
        let look_up = async || {
            calls.set(calls.get() + 1);
            tokio::time::sleep(Duration::from_millis(300)).await;
            (calls.get() > 1).then_some(State::Disabled)
        };
        // One that failed is not made again for each caller, either.
        for (expected, made) in [(None, 1), (Some(State::Disabled), 2)] {
            let asked = join_all((0..8).map(|_| states.get_or(&key, version, look_up()))).await;
            assert!(asked.iter().all(|state| *state == expected));
            assert_eq!(calls.get(), made);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test]
    async fn the_states_of_many_versions_take_no_more_room() {
        let ring = KeyRing::parse("projects/p/locations/global/keyRings/r").unwrap();
        let states = VersionStates::default();
        for number in 1..=3 * CAPACITY {
            let key = ring.key(&format!("k{number}")).unwrap();
            states.get_or(&key, VersionNumber::parse("1").unwrap(), async { None }).await;
        }
        assert!(states.0.lock().len() <= CAPACITY);
    }
}
