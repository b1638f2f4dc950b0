//! A connection as its readers see it now, with what its calls meet.

use claviger_provider::layers::{BreakerState, CallFailure};
use claviger_provider::{Error, HealthState, HealthStatus, Pipeline, ProviderKind};

use super::check_report::{advice_of_check, detail_of};
use super::session_state::{SessionState, micros};
use super::{Code, Failure};
use crate::store::model::Connection;

/// A connection, and what the gateway knows without calling its provider.
#[derive(Debug, Clone)]
pub struct ConnectionNow {
    /// The connection.
    pub connection: Connection,
    /// Its login; `None` for a severed connection, and a provider without logins.
    pub login: Option<SessionState>,
    /// Its circuit.
    pub circuit: BreakerState,
    /// Why the last call failed; `None` while the circuit is closed.
    pub circuit_failure: Option<FailedCall>,
    /// How the service behind it is; `None` where that is not known.
    pub health: Option<ServiceHealth>,
}

/// Why a call failed, in the words of a check.
#[derive(Debug, Clone)]
pub struct FailedCall {
    /// When it failed, in microseconds since 1970.
    pub at: i64,
    /// The code of the request's error.
    pub code: Code,
    /// What failed, with what the provider says, or why it says nothing.
    pub detail: String,
    /// What to do about it.
    pub advice: Option<&'static str>,
}

/// How a service was at the last check.
#[derive(Debug, Clone)]
pub struct ServiceHealth {
    /// The state.
    pub state: HealthState,
    /// When it was first found so, in microseconds since 1970.
    pub since: i64,
    /// When it was checked last, in microseconds since 1970.
    pub checked: i64,
    /// The failure that a call would get.
    pub failure: Option<Failure>,
    /// What to do about it.
    pub advice: Option<&'static str>,
}

impl ConnectionNow {
    pub(super) fn of(connection: Connection, pipeline: &Pipeline) -> Self {
        let provider = connection.provider;
        Self {
            login: pipeline.login().map(|status| SessionState::of(status, provider)),
            circuit: pipeline.breaker(),
            circuit_failure: pipeline.last_failure().map(|failed| FailedCall::of(&failed, provider)),
            health: pipeline.health().map(|status| ServiceHealth::of(status, provider)),
            connection,
        }
    }
}

impl FailedCall {
    fn of(failed: &CallFailure, provider: ProviderKind) -> Self {
        // The call itself was logged.
        let failure = Failure::from(Error::new(failed.kind, "a call").provider(provider).repeated());
        Self {
            at: micros(failed.at),
            code: failure.code,
            detail: detail_of(&failure, failed.responded, &failed.word),
            advice: failed.advice.or_else(|| advice_of_check(failed.kind, failure.advice)),
        }
    }
}

impl ServiceHealth {
    fn of(status: HealthStatus, provider: ProviderKind) -> Self {
        let failure = status.kind.map(|kind| {
            let error = Error::new(kind, "check the service").provider(provider);
            Failure::from(match status.advice {
                Some(advice) => error.advice(advice),
                None => error,
            })
        });
        Self {
            state: status.state,
            since: micros(status.since),
            checked: micros(status.checked),
            advice: failure.as_ref().map_or(status.advice, |failure| failure.advice),
            failure,
        }
    }
}
