//! `[cache]`: limits of the data-key cache.

use std::time::Duration;

use super::reader::Section;
use super::values::{Count, Period, Size, Switch};

/// Settings of `[cache]`: defaults for all keys, and each tenant's share. A key's own rules
/// override the defaults, up to [`Cache::AGE_CAP`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Whether data keys are cached.
    pub enabled: bool,
    /// Maximum age of an entry, counted from before the provider call; at most [`Cache::AGE_CAP`].
    pub max_age: Duration,
    /// Maximum time of an entry without use; at most `max_age`. Default: 15 s, or `max_age` if that is shorter.
    pub max_idle: Duration,
    /// Maximum number of uses of one entry.
    pub max_uses: u32,
    /// Maximum number of entries of one tenant.
    pub entries_per_tenant: u32,
    /// Maximum key material of one tenant, in bytes.
    pub bytes_per_tenant: u64,
}

impl Cache {
    /// Hard limit of `max_age`, for the installation and for each key.
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
