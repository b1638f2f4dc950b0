//! The check of a connection: reports on rights, and the canary, random bytes that are wrapped and
//! unwrapped again.

use super::call_error::MalformedResponse;
use crate::error::{Error, ErrorKind};
use crate::ids::ProviderKind;
use crate::probe::{Finding, RightReport};
use crate::provider::Kek;
use crate::secret::Secret;

/// Why a right that is granted key by key cannot be tried yet.
pub const NO_KEY_YET: &str = "the connection has no key yet; make or adopt one and check again";

/// The length of a canary, in bytes.
const CANARY: usize = 32;

impl RightReport {
    /// A report without advice.
    pub fn new(operation: &'static str, finding: Finding, how: impl Into<String>) -> Self {
        Self {
            operation,
            finding,
            how: how.into(),
            advice: None,
        }
    }

    /// Says what to grant or revoke.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// The report on a canary through a key.
    ///
    /// # Errors
    /// An error that says nothing about the key, such as a server that cannot be reached.
    pub fn canary(kek: &Kek, result: Result<(), Error>) -> Result<Self, Error> {
        let how = format!("random bytes wrapped and unwrapped with {}", kek.key.id);
        let Err(error) = result else {
            return Ok(Self::new("canary", Finding::Granted, how));
        };
        match error.kind {
            ErrorKind::InvalidInput
            | ErrorKind::KeyNotFound
            | ErrorKind::KeyState
            | ErrorKind::CiphertextRejected
            | ErrorKind::ProviderDenied
            | ErrorKind::Misconfigured => {
                let advice = error.advice.map_or_else(|| error.to_string(), str::to_owned);
                Ok(Self::new("canary", Finding::Denied, how).advise(advice))
            }
            ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::RateLimited
            | ErrorKind::ExternalDenied
            | ErrorKind::UpstreamUnavailable
            | ErrorKind::CircuitOpen
            | ErrorKind::Severed
            | ErrorKind::UpstreamProtocol
            | ErrorKind::UpstreamTimeout
            | ErrorKind::Unsupported
            | ErrorKind::Internal => Err(error),
        }
    }
}

/// Wraps and unwraps random bytes by `round_trip`, and compares.
///
/// # Errors
/// Those of `round_trip`, and `UpstreamProtocol` when other bytes come back.
pub async fn canary(provider: ProviderKind, round_trip: impl AsyncFnOnce(&Secret) -> Result<Secret, Error>) -> Result<(), Error> {
    let canary = Secret::random(CANARY);
    if round_trip(&canary).await? == canary {
        return Ok(());
    }
    let error = Error::new(ErrorKind::UpstreamProtocol, "unwrap a canary").provider(provider);
    Err(error.source(MalformedResponse("plaintext")))
}

/// What the trial of a right on one key showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// The right is granted.
    Granted,
    /// The right is missing.
    Denied,
    /// It could not be tried, for this reason.
    NotTestable(&'static str),
}

impl Trial {
    /// Why a call that failed in this way shows nothing about a right.
    pub const fn inconclusive(kind: ErrorKind) -> Self {
        Self::NotTestable(match kind {
            ErrorKind::KeyState => "the key's state forbids it",
            ErrorKind::KeyNotFound => "the key does not exist, or the identity may not see it",
            ErrorKind::Unsupported => "the service has no such call for the key",
            ErrorKind::RateLimited => "the service throttles",
            ErrorKind::InvalidInput
            | ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::CiphertextRejected
            | ErrorKind::ProviderDenied
            | ErrorKind::ExternalDenied
            | ErrorKind::UpstreamUnavailable
            | ErrorKind::CircuitOpen
            | ErrorKind::Severed
            | ErrorKind::UpstreamProtocol
            | ErrorKind::UpstreamTimeout
            | ErrorKind::Misconfigured
            | ErrorKind::Internal => "the call failed",
        })
    }
}

/// One report for a right that is granted key by key: the worst of its trials, which are in the
/// order of the keys. `how` says how it was tried, `advice` what to do about a key without the
/// right. `None` where the right was tried on no key.
pub fn worst<'k>(
    operation: &'static str,
    how: &str,
    trials: impl IntoIterator<Item = (&'k Kek, Trial)>,
    advice: impl FnOnce(&Kek) -> String,
) -> Option<RightReport> {
    let trials: Vec<(&Kek, Trial)> = trials.into_iter().collect();
    if let Some((kek, _)) = trials.iter().find(|(_, trial)| *trial == Trial::Denied) {
        let report = RightReport::new(operation, Finding::Denied, format!("{how}: refused"));
        return Some(report.advise(advice(kek)));
    }
    let inconclusive = trials.iter().find_map(|(_, trial)| match trial {
        Trial::NotTestable(why) => Some(*why),
        Trial::Granted | Trial::Denied => None,
    });
    if let Some(why) = inconclusive {
        return Some(RightReport::new(operation, Finding::NotTestable, format!("{how}: {why}")));
    }
    match trials.len() {
        0 => None,
        keys => Some(RightReport::new(
            operation,
            Finding::Granted,
            format!("{how}, with {keys} of the connection's keys"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use super::{Trial, canary, worst};
    use crate::{ErrorKind, Finding, Kek, KeyId, KeySpec, ProviderKeyRef, ProviderKind, RightReport, Secret};

    fn kek(id: &str) -> Kek {
        Kek {
            key: ProviderKeyRef {
                id: id.to_owned(),
                version: String::new(),
            },
            spec: KeySpec::Aes256,
            id: KeyId::from_bytes([1; 16]),
        }
    }

    #[tokio::test]
    async fn a_canary_must_come_back_as_it_was() {
        canary(ProviderKind::Vault, async |canary| Ok(Secret::copy_from(canary.expose())))
            .await
            .unwrap();
        let other = canary(ProviderKind::Vault, async |_| Ok(Secret::random(32))).await;
        assert_eq!(other.unwrap_err().kind, ErrorKind::UpstreamProtocol);
    }

    #[test]
    fn the_worst_trial_is_reported() {
        let (a, b, c) = (kek("a"), kek("b"), kek("c"));
        let inconclusive = Trial::inconclusive(ErrorKind::RateLimited);
        let report = |trials: &[(&Kek, Trial)]| {
            worst("wrap_key", "Encrypt", trials.iter().copied(), |kek| {
                format!("Grant it on {}.", kek.key.id)
            })
        };
        let denied = report(&[(&a, Trial::Granted), (&b, inconclusive), (&c, Trial::Denied)]);
        let expected = RightReport::new("wrap_key", Finding::Denied, "Encrypt: refused").advise("Grant it on c.");
        assert_eq!(denied, Some(expected));
        assert_eq!(
            report(&[(&a, Trial::Granted), (&b, inconclusive)]).unwrap().how,
            "Encrypt: the service throttles"
        );
        assert_eq!(
            report(&[(&a, Trial::Granted), (&b, Trial::Granted)]).unwrap().finding,
            Finding::Granted
        );
        assert_eq!(report(&[]), None);
    }
}
