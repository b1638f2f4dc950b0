//! Every way in which a call can fail, in words for the person at the terminal.

use std::fmt;

use reqwest::StatusCode;
use serde::Deserialize;

/// Why there is no answer of success.
#[derive(Debug)]
pub enum Failure {
    /// The call cannot be made as it was asked for.
    Usage(String),
    /// Something on this machine: a file, a terminal.
    Local(String),
    /// No answer came.
    Unreachable(String),
    /// An answer came that is none of this API's.
    Protocol(String),
    /// The gateway said no, and why.
    Problem(Box<Problem>),
}

/// What the gateway answered (RFC 9457, `docs/api.md`, Errors). Members that a server leaves
/// out are empty.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// One of the closed list; newer servers may have more.
    pub code: String,
    /// The kind of problem.
    pub title: String,
    /// What happened.
    pub detail: String,
    /// Under what the gateway recorded the request.
    pub request_id: String,
    /// Whether the same call can succeed later.
    pub retryable: bool,
    /// Places in the request.
    pub errors: Vec<Place>,
    /// The provider that answered.
    pub provider: Option<String>,
    /// What can be done.
    pub what_to_do: Option<String>,
}

/// One place in the request.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Place {
    /// Where: a JSON pointer, or the kind of place and a name.
    pub pointer: String,
    /// What belongs there.
    pub expected: String,
}

impl Failure {
    /// An answer that is no success. What is no problem document (a proxy's page, hyper's
    /// bare refusal) is told by its status alone.
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
                title: status.canonical_reason().unwrap_or("An answer without a reason").to_owned(),
                detail: "the answer does not come from Claviger's API".to_owned(),
                ..Problem::default()
            },
        }))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Local(text) | Self::Unreachable(text) | Self::Protocol(text) => f.write_str(text),
            Self::Problem(problem) => problem.fmt(f),
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
        if let Some(what_to_do) = &self.what_to_do {
            write!(f, "\n  what to do: {what_to_do}")?;
        }
        if self.retryable {
            write!(f, "\n  the same call can succeed later")?;
        }
        if !self.request_id.is_empty() {
            write!(f, "\n  request: {}", self.request_id)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}
