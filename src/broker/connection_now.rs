//! A connection as its readers see it now, with what its calls meet.

use claviger_provider::layers::BreakerState;
use claviger_provider::{Error, HealthState, HealthStatus, Pipeline, ProviderKind};

use super::Failure;
use super::session_state::{SessionState, micros};
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
    /// How the service behind it is; `None` where that is not known.
    pub health: Option<ServiceHealth>,
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
            health: pipeline.health().map(|status| ServiceHealth::of(status, provider)),
            connection,
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
