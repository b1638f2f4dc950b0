//! Warnings of versions that come near their limit of wraps.

use std::collections::HashSet;

use claviger_provider::{KeyId, TenantId};
use metrics::counter;
use parking_lot::Mutex;

use crate::keys::KeyEntry;
use crate::store::model::WrapsReserved;
use crate::store::rules::MAX_WRAPS;

/// How many wraps of a version are reserved when the operator is warned.
const WARNED_AT: u64 = MAX_WRAPS / 2;

/// How near to its limit a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Half,
    Reached,
}

/// The versions that this process has warned of: each once, however often its key is loaded. A version
/// needs 2^31 wraps to get in here.
#[derive(Default)]
pub(super) struct WrapWarnings(Mutex<HashSet<(TenantId, KeyId, u32, Level)>>);

impl WrapWarnings {
    /// Warns of a version where this reservation calls for it.
    pub(super) fn note(&self, key: &KeyEntry, version: u32, reserved: WrapsReserved) {
        let (level, name) = match reserved.total {
            MAX_WRAPS.. => (Level::Reached, "reached"),
            WARNED_AT.. => (Level::Half, "half"),
            _ => return,
        };
        if !self.0.lock().insert((key.tenant(), key.id(), version, level)) {
            return;
        }
        // Without a tenant: the counts are of all of them.
        counter!("claviger_wrap_limit_versions_total", "level" => name).increment(1);
        let (tenant, key, reserved) = (key.tenant(), key.id(), reserved.total);
        match level {
            Level::Half => tracing::warn!(
                %tenant, %key, version, reserved,
                "a version of a key has come to half of the 2^32 wraps after which random nonces may repeat; rotate the key"
            ),
            Level::Reached => tracing::warn!(
                %tenant, %key, version, reserved,
                "the last of the 2^32 wraps of a version of a key are in use; rotate the key, or its wraps are refused"
            ),
        }
    }
}
