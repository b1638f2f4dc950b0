//! The login of a connection, as its readers see it.

use std::time::{SystemTime, UNIX_EPOCH};

use claviger_provider::{Error, LoginState, LoginStatus, ProviderKind};

use super::Failure;

/// The state of a connection's login.
#[derive(Debug, Clone)]
pub struct SessionState {
    /// The state.
    pub state: LoginState,
    /// When the credential ends, in microseconds since 1970; `None` if it does not, or none is held.
    pub expires: Option<i64>,
    /// Why the last login or renewal failed; `None` if it succeeded.
    pub failing: Option<FailingLogin>,
}

/// Why a login fails.
#[derive(Debug, Clone)]
pub struct FailingLogin {
    /// The failure that calls get.
    pub failure: Failure,
    /// The provider's own code.
    pub provider_code: Option<String>,
    /// When it began to fail in this way, in microseconds since 1970.
    pub since: i64,
    /// When it is tried again at the earliest, in microseconds since 1970, where that is known.
    pub next_attempt: Option<i64>,
}

impl SessionState {
    pub(super) fn of(status: LoginStatus, provider: ProviderKind) -> Self {
        let failing = status.failure.map(|failed| {
            let error = Error::new(failed.kind, "log in").provider(provider).repeated();
            let error = match failed.advice {
                Some(advice) => error.advice(advice),
                None => error,
            };
            FailingLogin {
                failure: error.into(),
                provider_code: failed.upstream_code.map(String::from),
                since: micros(failed.since),
                next_attempt: failed.next_attempt.map(micros),
            }
        });
        Self {
            state: status.state,
            expires: status.expires.map(micros),
            failing,
        }
    }
}

/// Microseconds since 1970.
pub(super) fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
