//! `[cache]`: how long an unwrapped data key is kept in memory, at most.

use std::time::Duration;

use super::reader::Section;
use super::values::{Count, Period, Size, Switch};

/// The section's settings: the installation's default and, for the bounds, its limit. A
/// key's own settings can only be stricter about external custody and never exceed
/// [`Cache::AGE_CAP`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Whether anything is kept at all.
    pub enabled: bool,
    /// Absolute age, counted from the unwrap.
    pub max_age: Duration,
    /// Time without use after which an entry goes; at most `max_age`, and by default 15 s or that.
    pub max_idle: Duration,
    /// How often one entry is used.
    pub max_uses: u32,
    /// Entries of one tenant.
    pub entries_per_tenant: u32,
    /// Bytes of key material of one tenant.
    pub bytes_per_tenant: u64,
}

impl Cache {
    /// No setting, of the installation or of a key, keeps a data key longer.
    pub const AGE_CAP: Duration = Duration::from_secs(300);

    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let age = Period {
            min: Duration::from_secs(1),
            max: Self::AGE_CAP,
        };
        let max_age = section.setting_or("max_age", &age, Duration::from_secs(60));
        let cache = Self {
            enabled: section.setting_or("enabled", &Switch, true),
            max_age,
            max_idle: section.setting_or("max_idle", &age, Duration::from_secs(15).min(max_age)),
            max_uses: section.setting_or("max_uses", &Count { min: 1, max: u32::MAX }, 100_000),
            entries_per_tenant: section.setting_or("entries_per_tenant", &Count { min: 1, max: 1_000_000 }, 10_000),
            bytes_per_tenant: section.setting_or(
                "bytes_per_tenant",
                &Size {
                    min: 4 << 10,
                    max: 1 << 30,
                },
                1 << 20,
            ),
        };
        section.require(
            cache.max_idle <= cache.max_age,
            "`cache.max_idle` is longer than `cache.max_age`",
            "at most the age",
        );
        cache
    }
}
