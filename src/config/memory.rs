//! `[memory]`: how many entries of each kind stay in memory.

use super::reader::Section;
use super::values::Count;

/// The section's settings, each a number of entries. What is not in memory is read from the
/// store when it is needed. Entries that requests hold count, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Keys, with their versions; one counts once for each 2 KiB.
    pub keys: u32,
    /// Names of keys.
    pub names: u32,
    /// Connections, with their pipelines.
    pub connections: u32,
    /// Tenants' seal keys and context-hash keys.
    pub tenants: u32,
    /// API tokens, with their grants. When they are full, the tenant that holds most loses its own.
    pub tokens: u32,
    /// Opened key versions of the embedded provider.
    pub embedded_keys: u32,
}

impl Memory {
    /// The least number that a setting takes. One batch can hold 2,000 keys, so a smaller number
    /// would let a few requests keep all others out.
    pub const LEAST: u32 = 10_000;
    /// The largest number that a setting takes.
    pub const MOST: u32 = 10_000_000;

    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let entries = Count {
            min: Self::LEAST,
            max: Self::MOST,
        };
        Self {
            keys: section.setting_or("keys", &entries, 100_000),
            names: section.setting_or("names", &entries, 100_000),
            connections: section.setting_or("connections", &entries, 100_000),
            tenants: section.setting_or("tenants", &entries, 100_000),
            tokens: section.setting_or("tokens", &entries, 100_000),
            embedded_keys: section.setting_or("embedded_keys", &entries, 10_000),
        }
    }
}
