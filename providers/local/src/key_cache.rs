//! A cache of opened keys, so that wrap and unwrap need not read the store.
//!
//! Hand-written, since cache libraries free removed entries at a time of their choice. Here a removed
//! key is dropped, and zeroed, at once, unless a call in progress still uses it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use claviger_provider::{KeyId, TenantId};
use parking_lot::RwLock;

use crate::opened_key::OpenedKey;

/// The default capacity in versions: below 10 MB for AES keys, and below 100 MB if all of them are RSA.
pub(crate) const CAPACITY: usize = 10_000;

/// The name of an opened key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyVersion {
    pub(crate) tenant: TenantId,
    pub(crate) key: KeyId,
    pub(crate) version: u32,
}

impl KeyVersion {
    pub(crate) fn new(tenant: TenantId, key: KeyId, version: u32) -> Self {
        Self { tenant, key, version }
    }
}

/// The opened versions of enabled keys.
pub(crate) struct KeyCache(RwLock<Entries>);

struct Entries {
    /// The most versions in the cache.
    capacity: usize,
    keys: HashMap<KeyVersion, Arc<OpenedKey>>,
    /// In the order of insertion. The oldest entry is evicted, so that a hit changes nothing.
    order: VecDeque<KeyVersion>,
    /// Rises whenever a key is removed.
    epoch: u64,
}

impl KeyCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(RwLock::new(Entries {
            capacity,
            keys: HashMap::new(),
            order: VecDeque::new(),
            epoch: 0,
        }))
    }

    pub(crate) fn get(&self, name: &KeyVersion) -> Option<Arc<OpenedKey>> {
        self.0.read().keys.get(name).cloned()
    }

    /// The epoch. Take it before the store is read for [`KeyCache::insert`].
    pub(crate) fn epoch(&self) -> u64 {
        self.0.read().epoch
    }

    /// Inserts a key that was read from the store, unless any key was removed since `epoch`. The
    /// removed one may be this key, which was read before it was disabled. Returns the key to use.
    pub(crate) fn insert(&self, name: KeyVersion, kek: Arc<OpenedKey>, epoch: u64) -> Arc<OpenedKey> {
        let mut entries = self.0.write();
        if entries.epoch != epoch {
            return kek;
        }
        if let Some(first) = entries.keys.get(&name) {
            return Arc::clone(first);
        }
        if entries.order.len() >= entries.capacity
            && let Some(oldest) = entries.order.pop_front()
        {
            entries.keys.remove(&oldest);
        }
        entries.order.push_back(name);
        entries.keys.insert(name, Arc::clone(&kek));
        kek
    }

    /// Removes all versions of a key.
    pub(crate) fn remove(&self, tenant: TenantId, key: KeyId) {
        let mut entries = self.0.write();
        let other = |name: &KeyVersion| name.tenant != tenant || name.key != key;
        entries.epoch += 1;
        entries.order.retain(other);
        entries.keys.retain(|name, _| other(name));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;

    use claviger_provider::xaes::KEY_LEN;
    use claviger_provider::{KeyId, KeySpec, Secret, TenantId};

    use super::{CAPACITY, KeyCache, KeyVersion, OpenedKey};

    fn kek() -> Arc<OpenedKey> {
        Arc::new(OpenedKey::open(KeySpec::Aes256, &Secret::random(KEY_LEN)).unwrap())
    }

    #[test]
    fn what_was_read_before_a_key_was_forgotten_is_not_kept() {
        let cache = KeyCache::new(CAPACITY);
        let name = KeyVersion::new(TenantId::random(), KeyId::random(), 1);
        let epoch = cache.epoch();
        cache.remove(name.tenant, name.key);
        cache.insert(name, kek(), epoch);
        assert!(cache.get(&name).is_none());
        cache.insert(name, kek(), cache.epoch());
        assert!(cache.get(&name).is_some());
    }

    #[test]
    fn forgetting_drops_all_versions_of_that_key_and_their_bytes() {
        let cache = KeyCache::new(CAPACITY);
        let (tenant, key) = (TenantId::random(), KeyId::random());
        let other = KeyVersion::new(tenant, KeyId::random(), 1);
        let same_id_elsewhere = KeyVersion::new(TenantId::random(), key, 1);
        let first = kek();
        cache.insert(KeyVersion::new(tenant, key, 1), Arc::clone(&first), 0);
        for name in [KeyVersion::new(tenant, key, 2), other, same_id_elsewhere] {
            cache.insert(name, kek(), 0);
        }
        cache.remove(tenant, key);
        assert_eq!(Arc::strong_count(&first), 1, "nobody else holds it");
        assert!(cache.get(&KeyVersion::new(tenant, key, 2)).is_none());
        assert!(cache.get(&other).is_some() && cache.get(&same_id_elsewhere).is_some());
    }

    #[test]
    fn the_oldest_makes_room() {
        let cache = KeyCache::new(CAPACITY);
        let (tenant, key, shared) = (TenantId::random(), KeyId::random(), kek());
        let name = |version| KeyVersion::new(tenant, key, version);
        let capacity = u32::try_from(CAPACITY).unwrap();
        for version in 1..=capacity + 1 {
            cache.insert(name(version), Arc::clone(&shared), 0);
        }
        assert!(cache.get(&name(1)).is_none());
        assert!(cache.get(&name(2)).is_some() && cache.get(&name(capacity + 1)).is_some());
        assert_eq!(Arc::strong_count(&shared), CAPACITY + 1);
    }
}
