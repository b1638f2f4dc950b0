//! The rules of the cache: ages, uses and sizes.

use std::time::Duration;

use crate::store::model::{CacheSettings, Custody};

/// The hard cap on an entry's age.
pub const MAX_AGE: Duration = Duration::from_secs(300);

/// The limits of each tenant. The arena limits all of them together.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Entries of one tenant.
    pub entries_per_tenant: usize,
    /// Maximum size of one tenant's entries in the arena, in bytes.
    pub bytes_per_tenant: usize,
}

/// The rules for one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether unwrapped keys are kept. If not, requests do not share provider calls either.
    pub enabled: bool,
    /// Whether simultaneous requests for one entry share a provider call. Never under external
    /// custody, where the key manager would see one request and serve several.
    pub coalesce: bool,
    /// Absolute age, counted from before the provider call, so that a revocation at the provider
    /// takes effect within it.
    pub max_age: Duration,
    /// An entry without a use for this long is dropped.
    pub max_idle: Duration,
    /// Maximum number of uses of an entry.
    pub max_uses: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            enabled: true,
            coalesce: true,
            max_age: Duration::from_secs(60),
            max_idle: Duration::from_secs(15),
            max_uses: u32::MAX,
        }
    }
}

impl Rules {
    /// Nothing is kept, and no call is shared.
    pub const OFF: Self = Self {
        enabled: false,
        coalesce: false,
        max_age: Duration::ZERO,
        max_idle: Duration::ZERO,
        max_uses: 0,
    };

    /// The rules for what a version of a key opens: the key's own settings, and the installation's
    /// where it has none. Under external custody, data keys are cached only if the key's own
    /// settings turn the cache on. Rules that no entry could meet turn the cache off.
    pub fn of(own: CacheSettings, custody: Custody, defaults: Rules) -> Self {
        let external = custody.is_external();
        let seconds = |own: Option<u32>, default: Duration| own.map_or(default, |s| Duration::from_secs(u64::from(s)));
        let max_age = seconds(own.max_age_s, defaults.max_age).min(MAX_AGE);
        let max_idle = seconds(own.max_idle_s, defaults.max_idle).min(max_age);
        let max_uses = own.max_uses.unwrap_or(defaults.max_uses);
        Self {
            enabled: own.enabled.unwrap_or(defaults.enabled && !external) && !max_idle.is_zero() && max_uses > 0,
            coalesce: defaults.coalesce && !external,
            max_age,
            max_idle,
            max_uses,
        }
    }
}
