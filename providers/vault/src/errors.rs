//! Converts a server's response to the gateway's error type.

use std::time::Duration;

use claviger_provider::kit::call_error;
use claviger_provider::kit::meaning::Meaning;
use claviger_provider::kit::scrub::scrubbed;
use claviger_provider::{Error, ErrorKind, ProviderKind};

use crate::codes::{self, BINDS_NO_CONTEXT, plain};

/// Why a call to the server failed.
pub(crate) type CallError = call_error::CallError<Refusal>;

/// Why the server, or the adapter for it, refuses a call.
#[derive(Debug, Clone)]
pub(crate) enum Refusal {
    /// A response other than success.
    Response(ErrorResponse),
    /// The connection's secret is a wrapping token, which its owner has to unwrap first.
    WrappingToken,
}

/// A response other than success.
#[derive(Debug, Clone)]
pub(crate) struct ErrorResponse {
    pub(crate) status: u16,
    /// The server's sentences; `None` where the body is not one of Vault's.
    pub(crate) sentences: Option<Vec<String>>,
    /// The pause that the server asks for.
    pub(crate) pause: Option<Duration>,
}

impl ErrorResponse {
    /// Whether the server itself refused, and would refuse a repetition.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.status, 400 | 401 | 403 | 404 | 405) && self.sentences.is_some()
    }
}

impl call_error::Refusal for Refusal {
    const PROVIDER: ProviderKind = ProviderKind::Vault;
    const LOGIN: &'static str = "log in";

    fn meaning(&self) -> Meaning {
        match self {
            Self::Response(response) => codes::meaning(response.status, response.sentences.as_deref(), response.pause),
            Self::WrappingToken => Meaning::of(ErrorKind::ProviderDenied).advice(
                "The connection's secret is a wrapping token: unwrap it once (`bao unwrap`) and give the connection the token inside it.",
            ),
        }
    }

    fn login_meaning(&self) -> Meaning {
        match self {
            Self::Response(response) if !response.is_final() => self.meaning(),
            Self::Response(_) => Meaning::of(ErrorKind::ProviderDenied).advice(
                "The server rejects the login: the role or its secret is wrong or has expired, is bound to other networks, or the auth \
                 method is mounted elsewhere.",
            ),
            Self::WrappingToken => self.meaning(),
        }
    }

    fn status(&self) -> Option<u16> {
        match self {
            Self::Response(response) => Some(response.status),
            Self::WrappingToken => None,
        }
    }

    fn code(&self) -> Option<String> {
        match self {
            Self::Response(response) => Some(response.status.to_string()),
            Self::WrappingToken => None,
        }
    }

    fn message(&self) -> Option<String> {
        match self {
            Self::Response(response) => {
                let sentence = response.sentences.as_deref()?.first()?;
                // It may repeat what was sent, whoever answers. Only what is not found is named in full.
                Some(if response.status == 404 {
                    sentence.clone()
                } else {
                    scrubbed(sentence)
                })
            }
            Self::WrappingToken => None,
        }
    }
}

fn response(error: &CallError) -> Option<&ErrorResponse> {
    match error.refusal()? {
        Refusal::Response(response) => Some(response),
        Refusal::WrappingToken => None,
    }
}

/// Whether the key binds no associated data, and was sent some.
pub(crate) fn binds_no_context(error: &CallError) -> bool {
    let sentences = response(error).and_then(|response| response.sentences.as_deref());
    let sentences = sentences.unwrap_or_default().iter();
    sentences
        .map(|sentence| plain(sentence))
        .any(|sentence| BINDS_NO_CONTEXT.contains(&sentence))
}

/// Whether the server refused the credential, so that a new token may help.
pub(crate) fn denied(error: &CallError) -> bool {
    response(error).is_some_and(|response| response.status == 403 && response.sentences.is_some())
}

/// An error that no response of the server's caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Vault)
}
