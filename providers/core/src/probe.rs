//! What a check of a connection finds out.

use std::sync::Arc;

use crate::error::Error;
use crate::ids::KeyId;

/// The result of a check.
#[derive(Debug, Clone)]
pub struct Probe {
    /// One line about the server (product and version), without a secret.
    pub detail: String,
    /// Why the connection cannot be used at all: the provider is not reached, does not accept the
    /// credential, or lacks the place that the settings name. The rights are reported nevertheless.
    pub problem: Option<Arc<Error>>,
    /// Each right that the gateway uses, and how it was tried.
    pub rights: Vec<RightReport>,
    /// The smallest policy that grants these rights, to paste at the provider; `None`
    /// where the provider has no such thing.
    pub policy: Option<String>,
}

/// What a check found out about one right, without changing any key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RightReport {
    /// The gateway's operation that needs the right.
    pub operation: &'static str,
    /// The result of the test.
    pub finding: Finding,
    /// How the right was tried, and what the provider said; or why it cannot be tried.
    pub how: String,
    /// What to grant or revoke at the provider, if anything.
    pub advice: Option<String>,
    /// The key that was tried, of a canary.
    pub key: Option<KeyId>,
}

/// Whether a right is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The permission is granted.
    Granted,
    /// The permission is missing.
    Denied,
    /// It is granted and the gateway does not use it: revoke it.
    Excessive,
    /// Unknown: a test would change something at the provider, or the key's state forbids it.
    NotTestable,
    /// Unknown: the test itself failed.
    Failed,
}
