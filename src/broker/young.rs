//! Keys that were made a moment ago. Cloud key services are eventually consistent: for some seconds, some of their
//! servers answer that there is no such key, or that it has no material yet. So a young key is never called gone.

use std::time::{Duration, Instant};

use chrono::Utc;
use claviger_provider::kit::pauses::Pauses;
use claviger_provider::{Error, ErrorKind, ProviderKind, Retry};

use super::context::Behalf;
use super::reach::permitted;
use super::{Broker, Code, Failure};
use crate::keys::KeyEntry;
use crate::store::model::{KeyState, KeyVersion};

/// How long after its creation a version may be unknown to some servers of a cloud.
const YOUNG: Duration = Duration::from_secs(60);
/// The same of a vault, whose replicas are seconds behind at most.
const YOUNG_IN_A_VAULT: Duration = Duration::from_secs(6);
/// What of the request's time is left for its answer.
const ANSWER: Duration = Duration::from_millis(500);

/// Whether a version was made so short a time ago that its provider may not show it everywhere.
pub(super) fn is_young(version: &KeyVersion, now: i64) -> bool {
    u128::from(now.abs_diff(version.created)) < young_for(version.provider).as_micros()
}

/// How long a version of a provider is young.
const fn young_for(provider: ProviderKind) -> Duration {
    match provider {
        // Its keys are in the gateway's own store.
        ProviderKind::Local => Duration::ZERO,
        // The gateway makes no keys there, and used this one before it adopted it.
        ProviderKind::Xks => Duration::ZERO,
        ProviderKind::Vault | ProviderKind::Azure => YOUNG_IN_A_VAULT,
        ProviderKind::Aws | ProviderKind::Gcp | ProviderKind::Kmip | ProviderKind::Pkcs11 => YOUNG,
    }
}

/// Whether an error can be of a key that is not there yet.
fn may_be_early(error: &Error) -> bool {
    match error.kind {
        ErrorKind::KeyNotFound => true,
        // Its material is still made, say. An owner's disable is not to be retried.
        ErrorKind::KeyState => error.retry != Retry::Never,
        _ => false,
    }
}

/// The calls with one version whose key may be too young for its provider to know it.
pub(super) struct WhileYoung {
    pauses: Pauses,
}

impl WhileYoung {
    /// No call has failed yet.
    pub(super) const fn new() -> Self {
        Self { pauses: Pauses::new() }
    }

    /// After a call with a version failed with `error`: waits until it can be repeated before `deadline`. Much can have
    /// changed meanwhile: see [`Broker::still_permitted`].
    ///
    /// # Errors
    /// The call's own, where the version is not young, or the error does not come from that; `provider_unavailable`
    /// for a young key that is not there before the deadline.
    pub(super) async fn wait(&mut self, deadline: Instant, version: &KeyVersion, error: Error) -> Result<(), Failure> {
        let now = Utc::now().timestamp_micros();
        if !is_young(version, now) || !may_be_early(&error) {
            return Err(error.into());
        }
        let pause = self.pauses.draw();
        if Instant::now() + pause + ANSWER >= deadline {
            return Err(not_there_yet(&error));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

impl Broker {
    /// Refuses another call with a key after a pause in which it was disabled, or the caller's credential ended. (A
    /// severed connection sends nothing anyway.)
    ///
    /// # Errors
    /// `key_disabled`, `key_state`, `not_found`, and those of [`Broker::in_force`].
    pub(super) fn still_permitted(&self, behalf: Behalf<'_>, key: &KeyEntry, permits: impl Fn(KeyState) -> bool) -> Result<(), Failure> {
        if let Behalf::Request(cx) = behalf {
            self.in_force(cx)?;
        }
        permitted(&key.view()?, permits)
    }
}

/// The failure of a young key that its provider does not know yet.
fn not_there_yet(error: &Error) -> Failure {
    let failure = Failure::from(error);
    Failure {
        code: Code::ProviderUnavailable,
        detail: "The provider does not know the key yet, which was made a moment ago.".into(),
        advice: Some("Repeat the request. If it fails for longer than a minute, look for the key at the provider."),
        retry_after: Some(Duration::from_secs(1)),
        of_request_alone: true,
        ..failure
    }
}

#[cfg(test)]
mod tests {
    use claviger_provider::{ProviderKind, TenantId};

    use super::is_young;
    use crate::keys::fixture::{connection, row};
    use crate::store::model::KeyVersion;

    const SECOND: i64 = 1_000_000;

    /// As long as the provider's servers may be behind, and no longer: a key that is gone is told as gone after that.
    #[test]
    fn a_version_is_young_for_as_long_as_its_provider_may_be_behind() {
        let (_, made) = row(&connection(TenantId::random(), "c"), "k");
        for (provider, seconds) in [
            (ProviderKind::Local, 0),
            (ProviderKind::Xks, 0),
            (ProviderKind::Vault, 6),
            (ProviderKind::Azure, 6),
            (ProviderKind::Aws, 60),
            (ProviderKind::Gcp, 60),
            (ProviderKind::Kmip, 60),
            (ProviderKind::Pkcs11, 60),
        ] {
            let version = KeyVersion {
                provider,
                created: 1_000 * SECOND,
                ..made.clone()
            };
            let end = version.created + seconds * SECOND;
            assert_eq!(is_young(&version, end - 1), seconds > 0, "{provider}");
            assert!(!is_young(&version, end), "{provider}");
        }
    }
}
