//! `[cache]`: limits of the data-key cache.

use std::time::Duration;

use claviger_guarded::Arena;

use super::reader::Section;
use super::values::{Count, Period, Size, Switch};

/// Settings of `[cache]`: defaults for all keys, each tenant's share, and the locked memory. A key's
/// own rules override the defaults, up to [`Cache::AGE_CAP`].
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
    /// Maximum number of entries of one tenant. Default: 10,000, or as many as fit into
    /// `bytes_per_tenant` if that is set.
    pub entries_per_tenant: u32,
    /// Maximum locked memory of one tenant, in bytes. Default: 1 MiB, or what its entries need if that
    /// is more.
    pub bytes_per_tenant: u64,
    /// Maximum locked memory of all tenants, in bytes; at least `bytes_per_tenant`. Default: four
    /// times that.
    pub bytes: u64,
}

/// Locked memory of a data key of up to 64 bytes.
const ENTRY: u64 = Arena::taken_by(1) as u64;
/// The largest share of a tenant, in bytes.
const MOST: u64 = 1 << 30;

impl Cache {
    /// Hard limit of `max_age`, for the installation and for each key.
    pub const AGE_CAP: Duration = Duration::from_secs(300);

    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let age = Period {
            min: Duration::from_secs(1),
            max: Self::AGE_CAP,
        };
        let max_age = section.setting_or("max_age", &age, Duration::from_secs(60));
        let share = Size { min: 4 << 10, max: MOST };
        let entries = section.setting("entries_per_tenant", &Count { min: 1, max: 1_000_000 });
        let bytes_per_tenant = section.setting("bytes_per_tenant", &share);
        let entries_fit = |bytes: u64| u32::try_from(bytes / ENTRY).unwrap_or(u32::MAX);
        let entries_per_tenant = entries.unwrap_or_else(|| bytes_per_tenant.map_or(10_000, entries_fit).min(10_000));
        let needed = u64::from(entries_per_tenant) * ENTRY;
        let bytes_per_tenant = bytes_per_tenant.unwrap_or(needed.max(1 << 20));
        let all = Size {
            min: 64 << 10,
            max: 4 * MOST,
        };
        let cache = Self {
            enabled: section.setting_or("enabled", &Switch, true),
            max_age,
            max_idle: section.setting_or("max_idle", &age, Duration::from_secs(15).min(max_age)),
            max_uses: section.setting_or("max_uses", &Count { min: 1, max: u32::MAX }, 100_000),
            entries_per_tenant,
            bytes_per_tenant,
            bytes: section.setting_or("bytes", &all, (4 * bytes_per_tenant).max(all.min)),
        };
        section.require(
            cache.max_idle <= cache.max_age,
            "`cache.max_idle` is longer than `cache.max_age`",
            "at most the age",
        );
        section.require(
            needed <= bytes_per_tenant,
            "`cache.entries_per_tenant` entries do not fit into `cache.bytes_per_tenant`",
            "at least 64 bytes for each entry",
        );
        section.require(
            bytes_per_tenant <= cache.bytes,
            "`cache.bytes_per_tenant` is more than `cache.bytes`, the memory of all tenants",
            "at most that",
        );
        cache
    }
}
