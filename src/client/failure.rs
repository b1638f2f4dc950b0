//! Why a call fails, with messages for the user at the terminal.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

/// Why a call did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// The call is invalid and was not sent.
    Usage(String),
    /// A problem on this machine: a file, a terminal.
    Local(String),
    /// An encrypted file that is not as it was written.
    Rejected(String),
    /// No complete response arrived.
    Unreachable(String),
    /// The response is not one of this API.
    Protocol(String),
    /// The gateway returned an error.
    Problem(Box<Problem>),
    /// The gateway did a part of what was asked. The text says what is missing and what to do.
    Partly {
        /// What kept it from the rest: `unsupported`, `denied`, `pending` or `unavailable`.
        result: String,
        /// What is missing, and what to do.
        text: String,
    },
}

/// An error response of the gateway (RFC 9457; `docs/api.md`, Errors). Members that the server
/// omits are empty.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Error code. Newer servers may have codes that this client does not know.
    pub code: String,
    /// Kind of problem.
    pub title: String,
    /// What happened, in one sentence.
    pub detail: String,
    /// The gateway's id of the request, for its log and audit records.
    pub request_id: String,
    /// Whether the same call may succeed later.
    pub retryable: bool,
    /// Wrong parts of the request.
    pub errors: Vec<Place>,
    /// The provider that caused the error.
    pub provider: Option<String>,
    /// The provider's own message.
    pub provider_message: Option<String>,
    /// Advice for the caller.
    pub what_to_do: Option<String>,
}

/// A wrong part of the request.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Place {
    /// A JSON pointer, or the kind of place (header, query) and a name.
    pub pointer: String,
    /// Description of a valid value.
    pub expected: String,
}

impl Failure {
    /// From a response that is not a success. If the body is not a problem document (a proxy's page,
    /// a bare refusal of the HTTP parser), only the status is used.
    pub(super) fn answered(status: StatusCode, body: &[u8]) -> Self {
        let problem = serde_json::from_slice::<Problem>(body)
            .ok()
            .filter(|problem| !problem.code.is_empty());
        Self::Problem(Box::new(match problem {
            Some(problem) => Problem {
                status: status.as_u16(),
                ..problem
            },
            None => Problem {
                status: status.as_u16(),
                title: status.canonical_reason().unwrap_or("Unknown status").to_owned(),
                detail: "the response does not come from Claviger's API".to_owned(),
                ..Problem::default()
            },
        }))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Local(text) | Self::Rejected(text) | Self::Unreachable(text) | Self::Protocol(text) => {
                f.write_str(text)
            }
            Self::Problem(problem) => problem.fmt(f),
            Self::Partly { text, .. } => f.write_str(text),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.title, self.status)?;
        if !self.code.is_empty() {
            write!(f, ", {}", self.code)?;
        }
        write!(f, ")")?;
        if !self.detail.is_empty() && self.detail != self.title {
            write!(f, ": {}", self.detail)?;
        }
        for place in &self.errors {
            let pointer = if place.pointer.is_empty() { "the body" } else { &place.pointer };
            write!(f, "\n  {pointer}: expected {}", place.expected)?;
        }
        if let Some(provider) = &self.provider {
            write!(f, "\n  provider: {provider}")?;
        }
        if let Some(message) = &self.provider_message {
            write!(f, "\n  the provider says: {message}")?;
        }
        if let Some(what_to_do) = &self.what_to_do {
            write!(f, "\n  what to do: {what_to_do}")?;
        }
        if self.retryable {
            write!(f, "\n  the same call may succeed later")?;
        }
        if !self.request_id.is_empty() {
            write!(f, "\n  request: {}", self.request_id)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
