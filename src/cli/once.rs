//! Idempotency keys, which let a script repeat a command safely.

use clap::Args;
use reqwest::header::HeaderName;

use crate::client::{Call, Failure};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The idempotency key of a command that changes something.
#[derive(Debug, Args)]
pub struct Once {
    /// Idempotency key: repeating the command with the same key within 24 h has no further effect
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
