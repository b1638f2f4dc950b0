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

/// The states of versions that were looked up: one call at a time for each version.
#[derive(Default)]
pub(crate) struct VersionStates(Mutex<HashMap<(KeyName, VersionNumber), Arc<tokio::sync::Mutex<LookedUp>>>>);

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

    fn slot(&self, name: &KeyName, version: VersionNumber) -> Arc<tokio::sync::Mutex<LookedUp>> {
        let mut kept = self.0.lock();
        if kept.len() >= CAPACITY {
            // Those in use stay, at most as many as there are calls under way.
            kept.retain(|_, state| Arc::strong_count(state) > 1);
        }
        Arc::clone(kept.entry((name.clone(), version)).or_default())
    }
}
