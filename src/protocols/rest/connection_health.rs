//! What the calls of a connection meet, in the response that shows the connection.

use claviger_provider::HealthState;
use claviger_provider::layers::BreakerState;
use serde::Serialize;
use utoipa::ToSchema;

use super::errors::ErrorCode;
use super::types::Timestamp;
use crate::broker::{FailedCall, ServiceHealth};

/// The circuit of a connection that is not closed.
///
/// - `open`: the provider did not respond or failed, and requests fail at once with `circuit_open`
/// - `half_open`: one request at a time is tried
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum ConnectionCircuit {
    Open,
    HalfOpen,
}

impl ConnectionCircuit {
    /// `None` for a closed circuit.
    pub const fn of(state: BreakerState) -> Option<Self> {
        match state {
            BreakerState::Closed => None,
            BreakerState::Open => Some(Self::Open),
            BreakerState::HalfOpen => Some(Self::HalfOpen),
        }
    }
}

/// Why the last call of a connection failed.
#[derive(Serialize, ToSchema)]
pub struct CircuitFailure {
    /// When it failed.
    pub at: Timestamp,
    /// The code of the error that its request got.
    #[schema(value_type = ErrorCode)]
    pub code: &'static str,
    /// What failed: in parentheses the provider's code, or why there is no response.
    pub detail: String,
    /// What to do. Absent if the code says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<&'static str>,
}

impl From<&FailedCall> for CircuitFailure {
    fn from(failed: &FailedCall) -> Self {
        Self {
            at: Timestamp(failed.at),
            code: failed.code.as_str(),
            detail: failed.detail.clone(),
            what_to_do: failed.advice,
        }
    }
}

/// How the service behind the connection was at the last health check.
#[derive(Serialize, ToSchema)]
pub struct ConnectionHealth {
    /// The state.
    pub state: ConnectionHealthState,
    /// When it was first found so.
    pub since: Timestamp,
    /// When it was checked last.
    pub checked: Timestamp,
    /// The `code` of a request that fails because of it. Absent for a service that serves calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ErrorCode>)]
    pub code: Option<&'static str>,
    /// How to correct it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<&'static str>,
}

/// How a service is.
///
/// - `ok`: it serves calls
/// - `degraded`: it serves calls, and says that a part of it does not work
/// - `failing`: it serves no calls
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum ConnectionHealthState {
    Ok,
    Degraded,
    Failing,
}

impl From<HealthState> for ConnectionHealthState {
    fn from(state: HealthState) -> Self {
        match state {
            HealthState::Ok => Self::Ok,
            HealthState::Degraded => Self::Degraded,
            HealthState::Failing => Self::Failing,
        }
    }
}

impl From<&ServiceHealth> for ConnectionHealth {
    fn from(health: &ServiceHealth) -> Self {
        Self {
            state: health.state.into(),
            since: Timestamp(health.since),
            checked: Timestamp(health.checked),
            code: health.failure.as_ref().map(|failure| failure.code.as_str()),
            what_to_do: health.advice,
        }
    }
}
