//! From an answer of Google's to the one error. Google's messages are never printed as they are
//! debugged: bytes of keys would be among them.

use std::time::Duration;

use claviger_provider::egress::SendError;
use claviger_provider::{Error, ErrorKind, ProviderKind, Retry, UpstreamMessage, innermost};
use google_cloud_gax::error::Error as GaxError;
use google_cloud_gax::error::rpc::{Code, StatusDetails};
use http::HeaderMap;

use crate::codes::{Meaning, of_code, of_reason};

/// The longest pause that a service is believed to ask for.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The service refused, in its own words.
    Refused(Refusal),
    /// Somebody answered who is not the service, or not in its words: a proxy, a redirect.
    Foreign(u16),
    /// There is no token to show, and why.
    NoIdentity(Box<CallError>),
    /// The credentials' source has none.
    Unsourced(String),
    /// A service of tokens was not reached.
    Unsent(SendError),
    /// No answer in time.
    Timeout,
    /// No connection, or one that broke.
    Unreachable(String),
    /// An answer that makes no sense.
    MalformedResponse(&'static str),
    /// Bytes that were changed on the way.
    Corrupt(&'static str),
    /// The request could not be made.
    Unmade(String),
}

/// A refusal in the service's own words.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: Code,
    reasons: Vec<String>,
    message: String,
    pause: Option<Duration>,
}

impl Refusal {
    /// As a token service tells it: OAuth's errors carry no status of Google's.
    pub(crate) fn of_oauth(error: &str) -> Self {
        Self {
            code: Code::Unauthenticated,
            reasons: vec![error.to_owned()],
            message: String::new(),
            pause: None,
        }
    }

    /// From the parts of `{"error": {...}}` as one of Google's services wrote them.
    pub(crate) fn of_status(code: Code, message: String, pause: Option<Duration>) -> Self {
        Self {
            code,
            reasons: Vec::new(),
            message,
            pause,
        }
    }

    fn meaning(&self) -> Meaning {
        let mut known = self.reasons.iter().filter_map(|reason| of_reason(reason));
        // Of Cloud EKM's two, the second tells why; the first only that the version is disabled.
        let more = known.next_back().unwrap_or_else(|| of_code(&self.code));
        match (self.pause, more.retry) {
            (Some(pause), Retry::Backoff) => Meaning {
                retry: Retry::After(pause),
                ..more
            },
            (Some(_) | None, _) => more,
        }
    }
}

/// How long a service asks to be left alone, where it tells seconds.
pub(crate) fn pause(headers: Option<&HeaderMap>) -> Option<Duration> {
    let text = headers?.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs).map(|pause| pause.min(MAX_PAUSE))
}

impl CallError {
    /// What Google's client says.
    pub(crate) fn of(error: &GaxError) -> Self {
        if let Some(status) = error.status() {
            let violations = |detail: &StatusDetails| match detail {
                StatusDetails::PreconditionFailure(failure) => {
                    failure.violations.iter().map(|violation| violation.r#type.clone()).collect()
                }
                StatusDetails::ErrorInfo(info) => vec![info.reason.clone()],
                // Theirs, and it may grow.
                _ => Vec::new(),
            };
            return Self::Refused(Refusal {
                code: status.code,
                reasons: status.details.iter().flat_map(violations).collect(),
                message: status.message.clone(),
                pause: pause(error.http_headers()),
            });
        }
        match error.http_status_code() {
            Some(429) => Self::Refused(Refusal::of_status(
                Code::ResourceExhausted,
                String::new(),
                pause(error.http_headers()),
            )),
            Some(status) => Self::Foreign(status),
            None if error.is_timeout() || error.is_exhausted() => Self::Timeout,
            None if error.is_deserialization() => Self::MalformedResponse("body"),
            None if error.is_connect() || error.is_io() || error.is_transport() => Self::Unreachable(innermost(error)),
            None => Self::Unmade(innermost(error)),
        }
    }

    /// What the service told, if it was the service that refused.
    fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Foreign(_)
            | Self::NoIdentity(_)
            | Self::Unsourced(_)
            | Self::Unsent(_)
            | Self::Timeout
            | Self::Unreachable(_)
            | Self::MalformedResponse(_)
            | Self::Corrupt(_)
            | Self::Unmade(_) => None,
        }
    }

    /// The service's own code, if it told one.
    pub(crate) fn code(&self) -> Option<Code> {
        self.refusal().map(|refusal| refusal.code)
    }

    /// Whether the token was not accepted: what another one may mend.
    pub(crate) fn dropped(&self) -> bool {
        self.code() == Some(Code::Unauthenticated)
    }

    /// Whether the service takes what was sent for wrong: of a decryption, the ciphertext.
    pub(crate) fn invalid(&self) -> bool {
        self.code() == Some(Code::InvalidArgument)
    }

    /// Whether the service says that something forbids the call, and not that it is the key's state.
    pub(crate) fn unexplained(&self) -> bool {
        self.refusal().is_some_and(|refusal| {
            refusal.code == Code::FailedPrecondition && !refusal.reasons.iter().any(|reason| of_reason(reason).is_some())
        })
    }

    /// As an adapter's error; `operation` says what was being done.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let with = |error: Error, advice: Option<&'static str>| match advice {
            Some(advice) => error.advice(advice),
            None => error,
        };
        match self {
            Self::Refused(refusal) => {
                let Meaning { kind, retry, advice } = refusal.meaning();
                let error = with(fault(kind, operation).retry(retry), advice).upstream_code(upstream(&refusal));
                // A message about a request's form may repeat what was sent; the others name
                // permissions, states and keys.
                let quotes = matches!(refusal.code, Code::InvalidArgument | Code::OutOfRange);
                match (quotes, refusal.message.is_empty()) {
                    (false, false) => error.source(UpstreamMessage(refusal.message)),
                    (true, _) | (_, true) => error,
                }
            }
            Self::Foreign(status) => foreign(status, operation),
            Self::NoIdentity(why) => no_identity(*why),
            Self::Unsourced(why) => fault(ErrorKind::Misconfigured, operation)
                .advice("There are no credentials: the operator's ambient identity or token file does not give any.")
                .source(UpstreamMessage(why)),
            Self::Unsent(error) => error.into_error(operation).provider(ProviderKind::Gcp),
            Self::Timeout => fault(ErrorKind::UpstreamTimeout, operation).retry(Retry::Backoff),
            Self::Unreachable(why) => fault(ErrorKind::UpstreamUnavailable, operation)
                .retry(Retry::Backoff)
                .source(UpstreamMessage(why)),
            Self::MalformedResponse(part) => fault(ErrorKind::UpstreamProtocol, operation).source(MalformedResponse(part)),
            // Wrong bytes are as a rule those of one answer: another one is asked for.
            Self::Corrupt(why) => fault(ErrorKind::UpstreamProtocol, operation)
                .retry(Retry::Backoff)
                .source(UpstreamMessage(why.to_owned())),
            Self::Unmade(why) => fault(ErrorKind::Internal, operation).source(UpstreamMessage(why)),
        }
    }
}

/// What somebody says who speaks no Google: by his status alone.
fn foreign(status: u16, operation: &'static str) -> Error {
    let error = match status {
        300..=399 => fault(ErrorKind::UpstreamProtocol, operation)
            .advice("The endpoint redirects, which is never followed: the operator's custom endpoint must be that of the service itself."),
        407 => fault(ErrorKind::Misconfigured, operation).advice("A proxy in between demands a login."),
        502..=504 => fault(ErrorKind::UpstreamUnavailable, operation).retry(Retry::Backoff),
        _ => fault(ErrorKind::UpstreamProtocol, operation)
            .advice("The answer is not one of Google's: a proxy, or an endpoint that is another service's, gave it."),
    };
    error.upstream_code(status.to_string())
}

/// Why there is no token, as whoever uses the connection is told.
fn no_identity(why: CallError) -> Error {
    let advice = match why.code() {
        Some(Code::PermissionDenied | Code::NotFound) => Some(
            "Google does not let the connection's base identity speak for the service account: grant it \
             roles/iam.serviceAccountTokenCreator on that account.",
        ),
        Some(Code::Unauthenticated | Code::InvalidArgument) => Some(
            "Google does not exchange the connection's credentials for a token: the workload's token has expired, or the pool's provider \
             trusts another issuer, audience or subject.",
        ),
        Some(_) | None => None,
    };
    let error = why.into_error("get an access token");
    match advice {
        Some(advice) => error.advice(advice),
        None => error,
    }
}

fn upstream(refusal: &Refusal) -> String {
    match refusal.reasons.last() {
        Some(reason) => format!("{}/{reason}", refusal.code.name()),
        None => refusal.code.name().to_owned(),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the response's {0} is malformed")]
struct MalformedResponse(&'static str);

/// An error that no answer of the service's caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Gcp)
}
