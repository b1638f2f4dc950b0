//! What a check of a connection finds out.

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// One line about the server (product and version), without a secret.
    pub detail: String,
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
    /// How the right was tried, or why it cannot be.
    pub how: String,
    /// What to grant or revoke at the provider, if anything.
    pub advice: Option<String>,
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
    /// A test would change something at the provider.
    NotTestable,
}
