//! `[audit]`: the audit log.

use std::time::Duration;

use super::reader::Section;
use super::values::{FilePath, Period, Size, Word};
use crate::audit::{Durability, Keep};

/// Settings of `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Disk space, in bytes, that only revocations may still use. While no
    /// more than this is free, all other requests get 503 `audit_unavailable`.
    pub disk_reserve: u64,
    /// What a record survives from its response on.
    pub durability: Durability,
    /// How much of the log stays in its folder; `None` if all of it.
    pub keep: Option<Keep>,
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
            keep: read_keep(section),
        }
    }
}

/// Whether the binary is one for tests, whose limits are small.
const SMALL: bool = cfg!(feature = "testkit");

fn read_keep(section: &mut Section<'_>) -> Option<Keep> {
    let (bytes, age) = section.table("keep", |keep| {
        let bytes = Size {
            min: Keep::least_bytes(SMALL),
            max: 1 << 60,
        };
        let age = Period {
            min: Keep::least_age(SMALL),
            max: Duration::from_secs(36_500 * 24 * 60 * 60),
        };
        (keep.setting("bytes", &bytes), keep.setting("age", &age))
    });
    let archive = section.table("archive", |archive| archive.setting("folder", &FilePath));
    let keeps_all = bytes.is_none() && age.is_none();
    section.require(
        archive.is_none() || !keeps_all,
        "`audit.archive` is set, and neither `audit.keep.bytes` nor `audit.keep.age`: nothing would be archived",
        "one of them",
    );
    (!keeps_all).then_some(Keep { bytes, age, archive })
}
