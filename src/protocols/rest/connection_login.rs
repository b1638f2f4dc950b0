//! The login of a connection, in the response that shows the connection.

use claviger_provider::LoginState;
use serde::Serialize;
use utoipa::ToSchema;

use super::errors::ErrorCode;
use super::types::Timestamp;
use crate::broker::{FailingLogin, SessionState};

/// The connection's login at its provider, as this gateway knows it.
#[derive(Serialize, ToSchema)]
pub struct ConnectionLogin {
    /// The state.
    pub state: ConnectionLoginState,
    /// When the credential ends. Null if it does not end, or none is held.
    #[schema(required)]
    pub expires: Option<Timestamp>,
    /// Since when the login or renewal fails in this way. Absent, as all members below, if it does not fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// When it is tried again at the earliest; `checkConnection` tries at once, unless the provider would lock the
    /// identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// The `code` of a request that fails because of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ErrorCode>)]
    pub code: Option<&'static str>,
    /// The provider's own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<String>,
    /// How to correct it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<&'static str>,
}

/// The state of a connection's login.
///
/// - `none`: no credential is held; the next request logs in
/// - `not_tried`: the connection was given its credential, and no request shows yet whether the provider accepts it
/// - `ok`: the provider accepted the connection's credential
/// - `renewal_failing`: the connection has a credential, and its renewal failed
/// - `failing`: there is no credential, and the last login failed; the next request tries again
/// - `refused`: the provider refused the login; requests fail without another login until the secret changes, the
///   pause is over, or `checkConnection` tries. Or it does not accept the credential that the connection was given
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum ConnectionLoginState {
    None,
    NotTried,
    Ok,
    RenewalFailing,
    Failing,
    Refused,
}

impl From<LoginState> for ConnectionLoginState {
    fn from(state: LoginState) -> Self {
        match state {
            LoginState::None => Self::None,
            LoginState::NotTried => Self::NotTried,
            LoginState::Ok => Self::Ok,
            LoginState::RenewalFailing => Self::RenewalFailing,
            LoginState::Failing => Self::Failing,
            LoginState::Refused => Self::Refused,
        }
    }
}

impl From<&SessionState> for ConnectionLogin {
    fn from(login: &SessionState) -> Self {
        let failing = login.failing.as_ref();
        let of = |pick: fn(&FailingLogin) -> Option<i64>| failing.and_then(pick).map(Timestamp);
        Self {
            state: login.state.into(),
            expires: login.expires.map(Timestamp),
            failing_since: of(|failing| Some(failing.since)),
            next_attempt: of(|failing| failing.next_attempt),
            code: failing.map(|failing| failing.failure.code.as_str()),
            provider_code: failing.and_then(|failing| failing.provider_code.clone()),
            what_to_do: failing.and_then(|failing| failing.failure.advice),
        }
    }
}
