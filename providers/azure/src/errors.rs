//! Errors of calls to a vault or to a token endpoint.

use std::time::{Duration, SystemTime};

use azure_core::error::ErrorKind as SdkErrorKind;
use azure_core::http::headers::{HeaderName, Headers};
use claviger_provider::kit::call_error;
use claviger_provider::kit::http::{self, MAX_PAUSE};
use claviger_provider::kit::meaning::Meaning;
use claviger_provider::kit::scrub::scrubbed;
use claviger_provider::{Error, ErrorKind, ProviderKind, innermost};
use serde::Deserialize;

use crate::codes;

/// Why a call failed.
pub(crate) type CallError = call_error::CallError<Refusal>;

/// A response other than success.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The service's error code, the inner one where there are two; empty if the response has none.
    pub(crate) code: String,
    message: String,
    retry_after: Option<Duration>,
    request_id: Option<String>,
}

/// The error body of a vault.
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
    innererror: Option<InnerError>,
}

#[derive(Deserialize)]
struct InnerError {
    #[serde(default)]
    code: String,
}

/// The error body of Entra (RFC 6749, section 5.2, with Microsoft's numbers).
#[derive(Deserialize)]
struct EntraBody {
    error: String,
    #[serde(default)]
    error_codes: Vec<i64>,
}

/// The request id that Azure gave a call.
pub(crate) fn request_id(headers: &Headers) -> Option<String> {
    let id = headers.get_optional_str(&HeaderName::from_static("x-ms-request-id"))?;
    Some(id.chars().filter(char::is_ascii_graphic).take(128).collect())
}

/// The pause that the service asks for. The headers in milliseconds take precedence.
fn retry_after(headers: &Headers) -> Option<Duration> {
    let number = |name: &'static str| headers.get_optional_str(&HeaderName::from_static(name))?.trim().parse::<u64>().ok();
    let exact = number("x-ms-retry-after-ms").or_else(|| number("retry-after-ms"));
    let in_words = || headers.get_optional_str(&HeaderName::from_static("retry-after"));
    let pause = exact.map(Duration::from_millis);
    let pause = pause.or_else(|| http::pause(in_words()?, SystemTime::now()))?;
    Some(pause.min(MAX_PAUSE))
}

impl Refusal {
    /// Reads the refusal from the parts of a response.
    pub(crate) fn of(status: u16, headers: &Headers, body: &[u8]) -> Self {
        let (code, message) = match serde_json::from_slice::<VaultBody>(body) {
            Ok(VaultBody { error }) => {
                let inner = error.innererror.map(|inner| inner.code).filter(|code| !code.is_empty());
                (inner.unwrap_or(error.code), error.message)
            }
            Err(_) => match serde_json::from_slice::<EntraBody>(body) {
                // The number is more specific than the word.
                Ok(EntraBody { error, error_codes }) => match error_codes.first() {
                    Some(code) => (format!("AADSTS{code}"), error),
                    None => (error, String::new()),
                },
                Err(_) => (String::new(), String::new()),
            },
        };
        Self {
            status,
            code: code.chars().filter(char::is_ascii_graphic).take(128).collect(),
            message,
            retry_after: retry_after(headers),
            request_id: request_id(headers),
        }
    }

    /// Whether the key's version is disabled, and the call not permitted for it.
    pub(crate) fn is_disabled(&self) -> bool {
        self.code == "KeyDisabled"
    }
}

impl call_error::Refusal for Refusal {
    const PROVIDER: ProviderKind = ProviderKind::Azure;
    const LOGIN: &'static str = "get a token";
    const UNREACHABLE: Option<&'static str> = Some(
        "The host cannot be reached. A vault that does not exist has no host: compare the connection's setting `vault` with `az keyvault show --name \
         NAME --query properties.vaultUri`.",
    );

    fn meaning(&self) -> Meaning {
        codes::of_vault(self.status, &self.code).after(self.retry_after)
    }

    fn login_meaning(&self) -> Meaning {
        codes::of_token_endpoint(self.status, &self.code).after(self.retry_after)
    }

    fn status(&self) -> Option<u16> {
        Some(self.status)
    }

    fn code(&self) -> Option<String> {
        Some(if self.code.is_empty() {
            self.status.to_string()
        } else {
            self.code.clone()
        })
    }

    fn message(&self) -> Option<String> {
        // A message about the form of a request may repeat what was sent. All others name
        // identities, permissions and keys.
        let message = match self.code.as_str() {
            "BadParameter" => scrubbed(&self.message),
            // A proxy that fails may repeat the request.
            _ if self.status >= 500 => scrubbed(&self.message),
            _ => self.message.clone(),
        };
        match (message.as_str(), &self.request_id) {
            ("", None) => None,
            (_, None) => Some(message),
            (message, Some(id)) => Some(format!("{message} (request {id})")),
        }
    }
}

/// A [`CallError`] on its way through the SDK.
#[derive(Debug, thiserror::Error)]
#[error("no usable response")]
pub(crate) struct TransportError(pub(crate) CallError);

impl From<TransportError> for azure_core::Error {
    fn from(error: TransportError) -> Self {
        Self::with_error(SdkErrorKind::Io, error, "no usable response")
    }
}

/// The cause of an error that the SDK returned.
pub(crate) fn call_error(error: azure_core::Error) -> CallError {
    match error.kind() {
        SdkErrorKind::HttpResponse {
            raw_response: Some(response),
            ..
        } => return CallError::Refused(Refusal::of(u16::from(response.status()), response.headers(), response.body())),
        SdkErrorKind::HttpResponse { .. } => return CallError::MalformedResponse("status"),
        SdkErrorKind::DataConversion => return CallError::MalformedResponse("body"),
        SdkErrorKind::Connection | SdkErrorKind::Io | SdkErrorKind::Credential | SdkErrorKind::Other => {}
    }
    let cause = innermost(&error);
    let Ok(inner) = error.into_inner() else {
        return CallError::Unbuilt(cause);
    };
    match inner.downcast::<TransportError>() {
        Ok(transport) => transport.0,
        Err(other) => match other.downcast::<azure_core::Error>() {
            Ok(error) => call_error(*error),
            Err(_) => CallError::Unbuilt(cause),
        },
    }
}

/// An error that no response caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Azure)
}
