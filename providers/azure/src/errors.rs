//! From an answer of a vault or of Entra to the one error.

use std::time::Duration;

use azure_core::http::RawResponse;
use azure_core::http::headers::{HeaderName, Headers};
use claviger_provider::egress::SendError;
use claviger_provider::{Error, ErrorKind, ProviderKind, Retry, UpstreamMessage, innermost};
use serde::Deserialize;

use crate::codes::{self, Meaning};
use crate::transport::Lost;

/// The longest pause that a service is believed to mean.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Why a call brought nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The vault refused.
    Refused(Refusal),
    /// There was no token, and why.
    NoToken(Box<CallError>),
    /// There was no answer.
    Lost(Lost),
    /// An answer that makes no sense.
    MalformedResponse(&'static str),
    /// The request could not be made.
    Unmade(String),
}

/// An answer other than success.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The service's own word, the inner one where it tells two; empty where it told none.
    pub(crate) code: String,
    message: String,
    after: Option<Duration>,
    request_id: Option<String>,
}

/// The body of a vault's refusal.
#[derive(Deserialize)]
struct VaultBody {
    error: VaultError,
}

#[derive(Deserialize)]
struct VaultError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    innererror: Option<Inner>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    code: String,
}

/// The body of a refusal of Entra's.
#[derive(Deserialize)]
struct EntraBody {
    error: String,
    #[serde(default)]
    error_codes: Vec<i64>,
}

/// The id that a service gave a call.
pub(crate) fn request_id(headers: &Headers) -> Option<String> {
    let told = headers.get_optional_str(&HeaderName::from_static("x-ms-request-id"))?;
    Some(told.chars().filter(char::is_ascii_graphic).take(128).collect())
}

/// How long the service asks for a pause. The two forms in milliseconds come before the one that
/// all know.
fn pause(headers: &Headers) -> Option<Duration> {
    let number = |name: &'static str| headers.get_optional_str(&HeaderName::from_static(name))?.trim().parse::<u64>().ok();
    let exact = number("x-ms-retry-after-ms").or_else(|| number("retry-after-ms"));
    let told = exact
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs));
    told.map(|pause| pause.min(MAX_PAUSE))
}

impl Refusal {
    fn of(response: &RawResponse) -> Self {
        let (code, message) = match serde_json::from_slice::<VaultBody>(response.body()) {
            Ok(VaultBody { error }) => {
                let inner = error.innererror.map(|inner| inner.code).filter(|code| !code.is_empty());
                (inner.unwrap_or(error.code), error.message)
            }
            Err(_) => match serde_json::from_slice::<EntraBody>(response.body()) {
                // The number says more than the word, of which there are few.
                Ok(EntraBody { error, error_codes }) => match error_codes.first() {
                    Some(code) => (format!("AADSTS{code}"), error),
                    None => (error, String::new()),
                },
                Err(_) => (String::new(), String::new()),
            },
        };
        Self {
            status: u16::from(response.status()),
            code: code.chars().filter(char::is_ascii_graphic).take(128).collect(),
            message,
            after: pause(response.headers()),
            request_id: request_id(response.headers()),
        }
    }

    fn meaning(&self) -> Meaning {
        codes::meaning(self.status, &self.code)
    }

    fn into_error(self, operation: &'static str, meaning: &Meaning) -> Error {
        let retry = match (meaning.retry, self.after) {
            (Retry::Never, _) => Retry::Never,
            (Retry::Backoff | Retry::After(_), Some(after)) => Retry::After(after),
            (told @ (Retry::Backoff | Retry::After(_)), None) => told,
        };
        // A message about a request's form may repeat what was sent; all others name identities,
        // rights and keys.
        let message = if self.code == "BadParameter" { "" } else { self.message.as_str() };
        let told = UpstreamMessage(format!("{message} (request {})", self.request_id.unwrap_or_default()));
        let code = if self.code.is_empty() { self.status.to_string() } else { self.code };
        let error = fault(meaning.kind, operation).retry(retry).upstream_code(code).source(told);
        match meaning.advice {
            Some(advice) => error.advice(advice),
            None => error,
        }
    }
}

impl CallError {
    /// What the SDK says.
    pub(crate) fn of(error: azure_core::Error) -> Self {
        use azure_core::error::ErrorKind as Kind;
        match error.kind() {
            Kind::HttpResponse {
                raw_response: Some(response),
                ..
            } => return Self::Refused(Refusal::of(response)),
            Kind::HttpResponse { .. } => return Self::MalformedResponse("status"),
            Kind::DataConversion => return Self::MalformedResponse("body"),
            Kind::Connection | Kind::Io | Kind::Credential | Kind::Other => {}
        }
        let login = matches!(error.kind(), Kind::Credential);
        let words = innermost(&error);
        let Ok(inner) = error.into_inner() else {
            return Self::Unmade(words);
        };
        let failed = match inner.downcast::<Lost>() {
            Ok(lost) => Self::Lost(*lost),
            Err(other) => match other.downcast::<azure_core::Error>() {
                Ok(error) => Self::of(*error),
                Err(_) => Self::Unmade(words),
            },
        };
        match (login, failed) {
            (true, already @ Self::NoToken(_)) => already,
            (true, failed) => Self::NoToken(Box::new(failed)),
            (false, failed) => failed,
        }
    }

    /// The vault's code, if it told one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            Self::NoToken(_) | Self::Lost(_) | Self::MalformedResponse(_) | Self::Unmade(_) => None,
        }
    }

    /// The kind of error that it becomes.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.meaning().kind,
            Self::NoToken(why) => why.kind(),
            Self::Lost(lost) => match lost {
                Lost::Unsent(unsent) => unsent.kind(),
                Lost::Challenge(_) | Lost::NoCredential(_) => ErrorKind::Misconfigured,
                Lost::Page(status) => codes::login(*status, "").kind,
                Lost::Late => ErrorKind::UpstreamTimeout,
                Lost::Form => ErrorKind::Internal,
            },
            Self::MalformedResponse(_) => ErrorKind::UpstreamProtocol,
            Self::Unmade(_) => ErrorKind::Internal,
        }
    }

    /// Whether the identity has not the right, as far as the vault tells.
    pub(crate) fn denied(&self) -> bool {
        self.code().is_some_and(|code| codes::DENIED.contains(&code))
    }

    /// As an adapter's error; `operation` says what was being done.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        let kind = self.kind();
        match self {
            Self::Refused(refusal) => {
                let meaning = refusal.meaning();
                refusal.into_error(operation, &meaning)
            }
            Self::NoToken(why) => match *why {
                Self::Refused(refusal) => {
                    let meaning = codes::login(refusal.status, &refusal.code);
                    refusal.into_error("get a token", &meaning)
                }
                other => other.into_error("get a token"),
            },
            Self::Lost(lost) => match lost {
                Lost::Unsent(SendError::Unreachable(why)) => SendError::Unreachable(why).into_error(operation).provider(ProviderKind::Azure).advice(
                    "The host is not reached. A vault that does not exist has no host: compare the connection's address with `az keyvault \
                     show --name NAME --query properties.vaultUri`.",
                ),
                Lost::Unsent(unsent) => unsent.into_error(operation).provider(ProviderKind::Azure),
                Lost::Challenge(mismatch) => fault(kind, operation).advice(mismatch.advice()).source(Lost::Challenge(mismatch)),
                Lost::NoCredential(advice) => fault(kind, operation).advice(advice),
                Lost::Page(status) => {
                    let meaning = codes::login(status, "");
                    let error = fault(kind, operation).retry(meaning.retry).upstream_code(status.to_string());
                    match meaning.advice {
                        Some(advice) => error.advice(advice),
                        None => error,
                    }
                }
                Lost::Late => fault(kind, operation).retry(Retry::Backoff).source(Lost::Late),
                Lost::Form => fault(kind, operation).source(Lost::Form),
            },
            Self::MalformedResponse(part) => fault(kind, operation).source(MalformedResponse(part)),
            Self::Unmade(why) => fault(kind, operation).source(UpstreamMessage(why)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the response's {0} is malformed")]
struct MalformedResponse(&'static str);

/// An error that no answer of the service's caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Azure)
}
