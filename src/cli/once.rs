//! Calls that change something, made so that a script can repeat them safely.

use clap::Args;
use reqwest::header::HeaderName;

use crate::client::{Call, Failure};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The same key with the same command within 24 h has one effect and one answer.
#[derive(Debug, Args)]
pub struct Once {
    /// Repeating the command with the same text has no further effect for 24 h
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,
}

impl Once {
    pub(super) fn apply(&self, call: Call) -> Result<Call, Failure> {
        match &self.idempotency_key {
            Some(key) => call.header(IDEMPOTENCY_KEY, key),
            None => Ok(call),
        }
    }
}
