//! `[audit]`: the audit log.

use super::reader::Section;
use super::values::{Size, Word};
use crate::audit::Durability;

/// Settings of `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Disk space, in bytes, that only revocations may still use. While no
    /// more than this is free, all other requests get 503 `audit_unavailable`.
    pub disk_reserve: u64,
    /// What a record survives from its response on.
    pub durability: Durability,
}

impl Audit {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        const DURABILITIES: Word<Durability> = Word(&[
            (Durability::PowerLoss.as_str(), Durability::PowerLoss),
            (Durability::ProcessCrash.as_str(), Durability::ProcessCrash),
        ]);
        Self {
            disk_reserve: section.setting_or(
                "disk_reserve",
                &Size {
                    min: 1 << 20,
                    max: 1 << 40,
                },
                64 << 20,
            ),
            durability: section.setting_or("durability", &DURABILITIES, Durability::PowerLoss),
        }
    }
}
