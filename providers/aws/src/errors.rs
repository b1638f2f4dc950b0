//! From an answer of KMS or STS to the one error.

use std::error::Error as StdError;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_kms::config::http::HttpResponse;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;
use claviger_provider::egress::SendError;
use claviger_provider::{Error, ErrorKind, ProviderKind, Retry, UpstreamMessage, innermost};

use crate::codes::{CODES, DENIED, DROPPED};

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The service refused.
    Refused(Refusal),
    /// There were no credentials to sign with, and why.
    NoIdentity(Box<CallError>),
    /// The credentials' source has none: no such profile, file or role.
    Unsourced(String),
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke before the answer began.
    Unreachable(String),
    /// The connection's own way, through its proxy or under its authorities, brought none.
    OwnWay(SendError),
    /// An answer that makes no sense.
    MalformedResponse(&'static str),
    /// The request could not be made.
    Unmade(String),
}

/// An answer other than success.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The service's word for it; empty where it told none.
    pub(crate) code: String,
    pub(crate) status: u16,
    message: Option<String>,
    request_id: Option<String>,
}

impl CallError {
    /// Why a source gave no credentials.
    pub(crate) fn of_source(error: &CredentialsError) -> Self {
        identity(error).unwrap_or_else(|| Self::Unsourced(innermost(error)))
    }

    /// What the SDK says.
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match &error {
            SdkError::ServiceError(refused) => {
                Self::Refused(Refusal::of(refused.raw().status().as_u16(), refused.err(), error.request_id()))
            }
            SdkError::ResponseError(response) => match response.raw().status().as_u16() {
                200..=299 => Self::MalformedResponse("body"),
                status => Self::Refused(Refusal {
                    code: String::new(),
                    status,
                    message: None,
                    request_id: None,
                }),
            },
            SdkError::TimeoutError(_) => Self::Timeout,
            SdkError::DispatchFailure(failure) if failure.is_timeout() => Self::Timeout,
            SdkError::DispatchFailure(_) => identity(&error).unwrap_or_else(|| Self::unsent(&error)),
            // Credentials are resolved while the request is made. The enum is open.
            _ => identity(&error).unwrap_or_else(|| Self::Unmade(innermost(&error))),
        }
    }

    /// A call that never was answered.
    fn unsent(error: &(dyn StdError + 'static)) -> Self {
        match find::<SendError>(error) {
            Some(why) => Self::OwnWay(why.clone()),
            None => Self::Unreachable(innermost(error)),
        }
    }

    /// The service's code, if it told one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            Self::NoIdentity(_)
            | Self::Unsourced(_)
            | Self::Timeout
            | Self::Unreachable(_)
            | Self::OwnWay(_)
            | Self::MalformedResponse(_)
            | Self::Unmade(_) => None,
        }
    }

    /// The kind of error that it becomes.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.meaning().0,
            Self::NoIdentity(why) => why.kind(),
            Self::Unsourced(_) => ErrorKind::Misconfigured,
            Self::Timeout => ErrorKind::UpstreamTimeout,
            Self::Unreachable(_) => ErrorKind::UpstreamUnavailable,
            Self::OwnWay(why) => why.kind(),
            Self::MalformedResponse(_) => ErrorKind::UpstreamProtocol,
            Self::Unmade(_) => ErrorKind::Internal,
        }
    }

    /// Whether the identity has not the right, as far as the service tells.
    pub(crate) fn denied(&self) -> bool {
        self.code().is_some_and(|code| DENIED.contains(&code))
    }

    /// Whether the session was dropped: what another one may mend.
    pub(crate) fn dropped(&self) -> bool {
        self.code().is_some_and(|code| DROPPED.contains(&code))
    }

    /// As an adapter's error; `operation` says what was being done.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let kind = self.kind();
        match self {
            Self::Refused(refusal) => refusal.into_error(operation),
            Self::NoIdentity(why) => {
                let denied = why.denied();
                let error = why.into_error("assume the role");
                match denied {
                    true => error.advice(
                        "STS refuses to let the connection's identity assume the role: the role's trust policy must name that identity and \
                         the connection's external id (sts:ExternalId), and the identity needs sts:AssumeRole on the role.",
                    ),
                    false => error,
                }
            }
            Self::Unsourced(why) => fault(kind, operation)
                .advice("There are no credentials: the operator's profile, token file or ambient identity does not give any.")
                .source(UpstreamMessage(why)),
            Self::Timeout => fault(kind, operation).retry(Retry::Backoff),
            Self::Unreachable(why) => fault(kind, operation).retry(Retry::Backoff).source(UpstreamMessage(why)),
            Self::OwnWay(why) => why.into_error(operation).provider(ProviderKind::Aws),
            Self::MalformedResponse(part) => fault(kind, operation).source(MalformedResponse(part)),
            Self::Unmade(why) => fault(kind, operation).source(UpstreamMessage(why)),
        }
    }
}

impl Refusal {
    fn of<E: ProvideErrorMetadata>(status: u16, error: &E, request_id: Option<&str>) -> Self {
        Self {
            code: error.code().unwrap_or_default().to_owned(),
            status,
            message: error.message().map(str::to_owned),
            request_id: request_id.map(str::to_owned),
        }
    }

    fn meaning(&self) -> (ErrorKind, Retry, Option<&'static str>) {
        let known = CODES.iter().find(|meaning| meaning.codes.contains(&self.code.as_str()));
        match (known, self.status) {
            // Emulators and proxies answer a call that they do not have with 501.
            (_, 501) => (ErrorKind::Unsupported, Retry::Never, None),
            (Some(meaning), _) => (meaning.kind, meaning.retry, meaning.advice),
            (None, 300..=399) => (
                ErrorKind::UpstreamProtocol,
                Retry::Never,
                Some("The endpoint redirects, which is never followed: the operator's custom endpoint must be that of KMS or STS itself."),
            ),
            (None, 429) => (ErrorKind::RateLimited, Retry::Backoff, None),
            (None, 500..=599) => (ErrorKind::UpstreamUnavailable, Retry::Backoff, None),
            (None, _) => (ErrorKind::UpstreamProtocol, Retry::Never, None),
        }
    }

    fn into_error(self, operation: &'static str) -> Error {
        let (kind, retry, advice) = self.meaning();
        let code = if self.code.is_empty() { self.status.to_string() } else { self.code };
        // A message about a request's form may repeat what was sent; all others name
        // principals, actions and keys.
        let quotes = matches!(code.as_str(), "ValidationException" | "ValidationError" | "SerializationException");
        let message = self.message.filter(|_| !quotes).unwrap_or_default();
        let request_id = self.request_id.unwrap_or_default();
        let error = fault(kind, operation).retry(retry).upstream_code(code);
        let error = match advice {
            Some(advice) => error.advice(advice),
            None => error,
        };
        match (message.as_str(), request_id.as_str()) {
            ("", "") => error,
            (message, id) => error.source(UpstreamMessage(format!("{message} (request {id})"))),
        }
    }
}

/// The failure of the credentials' source, where that is the cause.
fn identity(error: &(dyn StdError + 'static)) -> Option<CallError> {
    let mut cause = Some(error);
    let mut seen = None;
    while let Some(at) = cause {
        seen = seen.or_else(|| at.downcast_ref::<CredentialsError>());
        let refused = refusal::<AssumeRoleError>(at).or_else(|| refusal::<AssumeRoleWithWebIdentityError>(at));
        if let Some(failed) = refused {
            return Some(CallError::NoIdentity(Box::new(failed)));
        }
        cause = at.source();
    }
    let why = seen?;
    match why {
        CredentialsError::ProviderTimedOut(_) => Some(CallError::Timeout),
        // The enum is open; whatever it was, there are none.
        _ => Some(CallError::Unsourced(innermost(why))),
    }
}

/// An STS call's own failure.
fn refusal<E>(at: &(dyn StdError + 'static)) -> Option<CallError>
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    Some(match at.downcast_ref::<SdkError<E, HttpResponse>>()? {
        SdkError::ServiceError(refused) => CallError::Refused(Refusal::of(refused.raw().status().as_u16(), refused.err(), None)),
        SdkError::TimeoutError(_) => CallError::Timeout,
        SdkError::ResponseError(_) => CallError::MalformedResponse("body of STS"),
        other => CallError::unsent(other),
    })
}

/// The first of an error's causes that is of this type.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut causes = std::iter::successors(Some(error), |at: &&'a (dyn StdError + 'static)| (*at).source());
    causes.find_map(|at| at.downcast_ref())
}

#[derive(Debug, thiserror::Error)]
#[error("the response's {0} is malformed")]
struct MalformedResponse(&'static str);

/// An error that no answer of the service's caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Aws)
}
