//! `[quotas]`: how many objects of each kind one tenant may have, and how many bytes of audit records.

use super::reader::Section;
use super::values::{Count, Size};

/// The section's settings, each a number of objects of one tenant. What the configuration declares
/// counts, and is never refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// Keys, detached ones included.
    pub keys: u32,
    /// Versions of all keys.
    pub versions: u32,
    /// Connections.
    pub connections: u32,
    /// Principals.
    pub principals: u32,
    /// Tokens, including those that ended within the last 30 days.
    pub tokens: u32,
    /// Responses that are stored for repeated requests.
    pub idempotency_keys: u32,
    /// Bytes of audit records a day (UTC).
    pub log_bytes_per_day: u64,
}

impl Quotas {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let objects = Count { min: 1, max: u32::MAX };
        let bytes = Size {
            min: 1 << 20,
            max: 1 << 60,
        };
        Self {
            keys: section.setting_or("keys", &objects, 100_000),
            versions: section.setting_or("versions", &objects, 1_000_000),
            connections: section.setting_or("connections", &objects, 1_000),
            principals: section.setting_or("principals", &objects, 10_000),
            tokens: section.setting_or("tokens", &objects, 100_000),
            idempotency_keys: section.setting_or("idempotency_keys", &objects, 100_000),
            log_bytes_per_day: section.setting_or("log_bytes_per_day", &bytes, 64 << 30),
        }
    }
}
