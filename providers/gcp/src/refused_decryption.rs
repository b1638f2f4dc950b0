//! Refused decryptions. Google may refuse one without a reason, for the ciphertext's sake or for the
//! version's: the version's state is looked up before the refusal is called the caller's mistake.

use claviger_provider::{Error, OpContext};
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState as State;

use crate::client::Client;
use crate::codes::of_reason;
use crate::errors::{CallError, is_unexplained, rejects_ciphertext};
use crate::names::{KeyName, VersionNumber};

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

    /// A version's state, looked up at most once a second; `None` if Google did not return it.
    async fn state_of(&self, cx: &OpContext, name: &KeyName, version: VersionNumber) -> Option<State> {
        let look_up = async { self.api.get_version(cx, name, version).await.ok().map(|version| version.state) };
        self.version_states.get_or((name.clone(), version), look_up).await
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
