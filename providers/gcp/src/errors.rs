//! Errors of calls to Cloud KMS and to the token services. Google's messages are never formatted
//! with `Debug`, which would print key material.

use std::time::Duration;

use claviger_provider::egress::SendError;
use claviger_provider::kit::meaning::Meaning;
use claviger_provider::kit::scrub::scrubbed;
use claviger_provider::kit::{call_error, http as kit_http};
use claviger_provider::{Error, ErrorKind, ProviderKind, innermost};
use google_cloud_gax::error::Error as GaxError;
use google_cloud_gax::error::rpc::{Code, StatusDetails};
use http::HeaderMap;

use crate::codes::{of_code, of_foreign_status, of_reason};

/// Why a call failed.
pub(crate) type CallError = call_error::CallError<Refusal>;

/// A response that is no usable result.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// An error response of a Google service.
    Service(ServiceError),
    /// An error response of another server, such as a proxy, with this HTTP status.
    Foreign(u16),
    /// The response's data does not match its checksum.
    Corrupt(&'static str),
}

/// An error response of a Google service.
#[derive(Debug, Clone)]
pub(crate) struct ServiceError {
    code: Code,
    /// Types of violated preconditions and reasons of `ErrorInfo`.
    reasons: Vec<String>,
    message: String,
    retry_after: Option<Duration>,
}

impl ServiceError {
    /// An OAuth error of a token service (RFC 6749, section 5.2), which has no status code.
    pub(crate) fn of_oauth(error: &str) -> Self {
        Self {
            code: Code::Unauthenticated,
            reasons: vec![error.to_owned()],
            message: String::new(),
            retry_after: None,
        }
    }

    /// An error with a status code.
    pub(crate) fn of_status(code: Code, message: String, retry_after: Option<Duration>) -> Self {
        Self {
            code,
            reasons: Vec::new(),
            message,
            retry_after,
        }
    }

    fn meaning(&self) -> Meaning {
        let mut known = self.reasons.iter().filter_map(|reason| of_reason(reason));
        // Of Cloud EKM's two violations, the first only says that the version is disabled.
        let meaning = known.next_back().unwrap_or_else(|| of_code(&self.code));
        meaning.after(self.retry_after)
    }
}

impl call_error::Refusal for Refusal {
    const PROVIDER: ProviderKind = ProviderKind::Gcp;
    const LOGIN: &'static str = "get an access token";

    fn meaning(&self) -> Meaning {
        match self {
            Self::Service(error) => error.meaning(),
            Self::Foreign(status) => of_foreign_status(*status),
            // Data is corrupted in one transmission, so another attempt can help.
            Self::Corrupt(_) => Meaning::of(ErrorKind::UpstreamProtocol).retryable(),
        }
    }

    fn login_meaning(&self) -> Meaning {
        match self {
            Self::Service(error) => match error.code {
                Code::PermissionDenied | Code::NotFound => error.meaning().advice(
                    "Google does not let the connection's base identity impersonate the service account: grant it \
                     roles/iam.serviceAccountTokenCreator on that account.",
                ),
                Code::Unauthenticated | Code::InvalidArgument => error.meaning().advice(
                    "Google does not exchange the connection's credentials for a token: the workload's token has expired, or the pool's \
                     provider trusts another issuer, audience or subject.",
                ),
                _ => error.meaning(),
            },
            Self::Foreign(_) | Self::Corrupt(_) => self.meaning(),
        }
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::Foreign(status) => Some(*status),
            // As google.rpc.Code maps them to HTTP.
            Self::Service(error) => match error.code {
                Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => Some(400),
                Code::Unauthenticated => Some(401),
                Code::PermissionDenied => Some(403),
                Code::NotFound => Some(404),
                Code::AlreadyExists | Code::Aborted => Some(409),
                Code::ResourceExhausted => Some(429),
                _ => None,
            },
            Self::Corrupt(_) => None,
        }
    }

    fn code(&self) -> Option<String> {
        match self {
            Self::Service(error) => Some(match error.reasons.last() {
                Some(reason) => format!("{}/{reason}", error.code.name()),
                None => error.code.name().to_owned(),
            }),
            Self::Foreign(status) => Some(status.to_string()),
            Self::Corrupt(_) => None,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Self::Service(error) if error.message.is_empty() => None,
            // A message about the form of a request may repeat what was sent. All others name
            // permissions, states and keys.
            Self::Service(error) => Some(match error.code {
                Code::InvalidArgument | Code::OutOfRange | Code::Internal | Code::Unknown => scrubbed(&error.message),
                _ => error.message.clone(),
            }),
            Self::Foreign(_) => None,
            Self::Corrupt(why) => Some((*why).to_owned()),
        }
    }
}

/// The pause that a service asks for.
pub(crate) fn retry_after(headers: Option<&HeaderMap>) -> Option<Duration> {
    kit_http::retry_after(headers?)
}

/// The cause of an error that Google's client returned.
pub(crate) fn call_error(error: &GaxError) -> CallError {
    if let Some(status) = error.status() {
        let reasons = |detail: &StatusDetails| match detail {
            StatusDetails::PreconditionFailure(failure) => failure.violations.iter().map(|violation| violation.r#type.clone()).collect(),
            StatusDetails::ErrorInfo(info) => vec![info.reason.clone()],
            // Google's enum is non-exhaustive.
            _ => Vec::new(),
        };
        return CallError::Refused(Refusal::Service(ServiceError {
            code: status.code,
            reasons: status.details.iter().flat_map(reasons).collect(),
            message: status.message.clone(),
            retry_after: retry_after(error.http_headers()),
        }));
    }
    match error.http_status_code() {
        Some(429) => CallError::Refused(Refusal::Service(ServiceError::of_status(
            Code::ResourceExhausted,
            String::new(),
            retry_after(error.http_headers()),
        ))),
        Some(status) => CallError::Refused(Refusal::Foreign(status)),
        None if error.is_timeout() || error.is_exhausted() => CallError::Timeout,
        None if error.is_deserialization() => CallError::MalformedResponse("body"),
        None if error.is_connect() => CallError::Unsent(SendError::Unreachable(innermost(error))),
        None if error.is_io() || error.is_transport() => CallError::Unreachable(innermost(error)),
        None => CallError::Unbuilt(innermost(error)),
    }
}

fn service_error(error: &CallError) -> Option<&ServiceError> {
    match error.refusal()? {
        Refusal::Service(error) => Some(error),
        Refusal::Foreign(_) | Refusal::Corrupt(_) => None,
    }
}

/// Whether Google did not accept the access token.
pub(crate) fn token_refused(error: &CallError) -> bool {
    service_error(error).is_some_and(|error| error.code == Code::Unauthenticated)
}

/// Whether a refused decryption can mean that the ciphertext, its key or its context is not right.
/// Google reports a ciphertext of another algorithm as a failed precondition without a known
/// type, like a state that does not permit the call.
pub(crate) fn rejects_ciphertext(error: &CallError) -> bool {
    service_error(error).is_some_and(|error| match error.code {
        Code::InvalidArgument => true,
        Code::FailedPrecondition => error.reasons.iter().all(|reason| of_reason(reason).is_none()),
        _ => false,
    })
}

/// Whether Google says only that the state of something does not permit the call.
pub(crate) fn is_unexplained(error: &CallError) -> bool {
    service_error(error).is_some_and(|error| error.code == Code::FailedPrecondition)
}

/// Whether a refusal is a failed precondition without a reason.
pub(crate) fn names_no_cause(error: &Error) -> bool {
    error.upstream_code.as_deref() == Some(Code::FailedPrecondition.name())
}

/// An error that no response caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Gcp)
}
