//! Which key has a name. This is a hint, so that most lookups by name need no read of the store.

use std::hash::{BuildHasher, RandomState};

use claviger_provider::{KeyId, TenantId};

use crate::loading_cache::{Full, LoadingCache, WhenFull};

/// Key ids by tenant and name, at most so many.
///
/// An entry may be wrong (the key was renamed or detached, or two names have one hash), so the
/// caller compares the name of the key that it finds.
pub(super) struct Names {
    ids: LoadingCache<(TenantId, u64), KeyId>,
    hasher: RandomState,
}

impl Names {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            ids: LoadingCache::new("names", capacity, |_| true).shared(|(tenant, _), _| *tenant, |_| 1),
            hasher: RandomState::new(),
        }
    }

    /// The key that had this name when it was last looked up.
    pub(super) fn get(&self, tenant: TenantId, name: &str) -> Option<KeyId> {
        self.ids.get(&self.hash(tenant, name))
    }

    /// Remembers the key that has this name now.
    pub(super) fn put(&self, tenant: TenantId, name: &str, id: KeyId) {
        let hash = self.hash(tenant, name);
        self.ids.remove_if(&hash, |there| *there != id);
        let load = self.ids.loads().begin(hash);
        // An entry can always be evicted, because nobody holds an id. If the insert failed
        // nevertheless, the next lookup would read the store.
        let (Ok(_) | Err(Full)) = self.ids.insert(hash, id, &load, WhenFull::Refuse);
    }

    fn hash(&self, tenant: TenantId, name: &str) -> (TenantId, u64) {
        // The seed is drawn at each start, so that nobody can choose names of one hash.
        (tenant, self.hasher.hash_one(name))
    }
}
