//! Refused decryptions. Google may refuse one without a reason, for the ciphertext's sake or for the
//! version's: the version's state is looked up before the refusal is called the caller's mistake.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::{Error, OpContext};
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState as State;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::client::Client;
use crate::codes::of_reason;
use crate::errors::{CallError, is_unexplained, rejects_ciphertext};
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
    fn of(&self, name: &KeyName, version: VersionNumber) -> Arc<tokio::sync::Mutex<LookedUp>> {
        let mut kept = self.0.lock();
        if kept.len() >= CAPACITY {
            // Those in use stay, at most as many as there are calls under way.
            kept.retain(|_, state| Arc::strong_count(state) > 1);
        }
        Arc::clone(kept.entry((name.clone(), version)).or_default())
    }
}

impl Client {
    /// The error of a refused decryption with a version.
    pub(crate) async fn refused_decryption(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: VersionNumber,
        error: CallError,
        operation: &'static str,
    ) -> Error {
        if !rejects_ciphertext(&error) {
            return error.into_error(operation);
        }
        if !is_unexplained(&error) {
            return error.into_rejection(operation);
        }
        let state = self.state_of(cx, name, version).await;
        if state == Some(State::Enabled) {
            return error.into_rejection(operation);
        }
        let refused = error.into_error(operation);
        match state.as_ref().and_then(reason).and_then(of_reason) {
            Some(meaning) => Error {
                kind: meaning.kind,
                retry: meaning.retry,
                advice: meaning.advice,
                ..refused
            },
            // Another state, or Google did not return it: then nothing shows that the caller is at fault.
            None => refused,
        }
    }

    async fn state_of(&self, cx: &OpContext, name: &KeyName, version: VersionNumber) -> Option<State> {
        let kept = self.version_states.of(name, version);
        let mut kept = kept.lock().await;
        match &*kept {
            Some((at, state)) if at.elapsed() < MAX_AGE => state.clone(),
            Some(_) | None => {
                let described = self.api.get_version(cx, name, version).await;
                let state = described.ok().map(|described| described.state);
                *kept = Some((Instant::now(), state.clone()));
                state
            }
        }
    }
}

/// The reason that Google gives elsewhere for a version in this state.
const fn reason(state: &State) -> Option<&'static str> {
    match state {
        State::Disabled => Some("KEY_DISABLED"),
        State::DestroyScheduled | State::Destroyed => Some("KEY_DESTROYED"),
        State::PendingGeneration => Some("KEY_PENDING_GENERATION"),
        State::PendingImport => Some("KEY_PENDING_IMPORT"),
        // Google's enum is non-exhaustive.
        _ => None,
    }
}
