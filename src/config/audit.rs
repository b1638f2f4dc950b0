//! `[audit]`: the write-ahead log of records.

use super::reader::Section;
use super::values::Size;

/// The section's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Bytes of disk that only disable, sever, revoke and suspend may still use. When no
    /// more than this is free, everything else stops with 503 `audit_unavailable`.
    pub disk_reserve: u64,
}

impl Audit {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        Self {
            disk_reserve: section.setting_or(
                "disk_reserve",
                &Size {
                    min: 1 << 20,
                    max: 1 << 40,
                },
                64 << 20,
            ),
        }
    }
}
