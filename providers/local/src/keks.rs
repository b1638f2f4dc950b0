//! Opened keys, kept so that the hot calls need no read of the store.
//!
//! A library's cache would free what is removed at a time of its own; here a dropped key is
//! gone at once, but for the calls that are using it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use claviger_provider::{KeyId, TenantId};
use parking_lot::RwLock;

use crate::opened::Opened;

/// How many versions are kept by default: less than 10 MB of AES keys, at less than a kilobyte
/// each, and less than 100 MB if all of them are RSA.
pub(crate) const CAPACITY: usize = 10_000;

/// Which opened key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KekName {
    pub(crate) tenant: TenantId,
    pub(crate) key: KeyId,
    pub(crate) version: u32,
}

impl KekName {
    pub(crate) fn new(tenant: TenantId, key: KeyId, version: u32) -> Self {
        Self { tenant, key, version }
    }
}

/// Opened keys of enabled keys only.
pub(crate) struct Keks(RwLock<Kept>);

struct Kept {
    /// The most versions kept at a time.
    capacity: usize,
    keks: HashMap<KekName, Arc<Opened>>,
    /// In the order in which they came: the oldest makes room, so that a hit changes nothing.
    order: VecDeque<KekName>,
    /// Rises whenever a key is forgotten.
    epoch: u64,
}

impl Default for Keks {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl Keks {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(RwLock::new(Kept {
            capacity,
            keks: HashMap::new(),
            order: VecDeque::new(),
            epoch: 0,
        }))
    }

    pub(crate) fn get(&self, name: &KekName) -> Option<Arc<Opened>> {
        self.0.read().keks.get(name).cloned()
    }

    /// To be taken before the store is read for [`Keks::keep`].
    pub(crate) fn epoch(&self) -> u64 {
        self.0.read().epoch
    }

    /// Keeps what was read, unless a key was forgotten since `epoch`: it may be this one,
    /// and what was read of it before it was disabled. Gives back the one to use.
    pub(crate) fn keep(&self, name: KekName, kek: Arc<Opened>, epoch: u64) -> Arc<Opened> {
        let mut kept = self.0.write();
        if kept.epoch != epoch {
            return kek;
        }
        if let Some(first) = kept.keks.get(&name) {
            return Arc::clone(first);
        }
        if kept.order.len() >= kept.capacity
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.keks.remove(&oldest);
        }
        kept.order.push_back(name);
        kept.keks.insert(name, Arc::clone(&kek));
        kek
    }

    /// Drops every version of a key.
    pub(crate) fn forget(&self, tenant: TenantId, key: KeyId) {
        let mut kept = self.0.write();
        let other = |name: &KekName| name.tenant != tenant || name.key != key;
        kept.epoch += 1;
        kept.order.retain(other);
        kept.keks.retain(|name, _| other(name));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;

    use claviger_provider::xaes::KEY_LEN;
    use claviger_provider::{KeyId, KeySpec, Secret, TenantId};

    use super::{CAPACITY, KekName, Keks, Opened};

    fn kek() -> Arc<Opened> {
        Arc::new(Opened::open(KeySpec::Aes256, &Secret::random(KEY_LEN)).unwrap())
    }

    #[test]
    fn what_was_read_before_a_key_was_forgotten_is_not_kept() {
        let keks = Keks::default();
        let name = KekName::new(TenantId::random(), KeyId::random(), 1);
        let epoch = keks.epoch();
        keks.forget(name.tenant, name.key);
        keks.keep(name, kek(), epoch);
        assert!(keks.get(&name).is_none());
        keks.keep(name, kek(), keks.epoch());
        assert!(keks.get(&name).is_some());
    }

    #[test]
    fn forgetting_drops_all_versions_of_that_key_and_their_bytes() {
        let keks = Keks::default();
        let (tenant, key) = (TenantId::random(), KeyId::random());
        let other = KekName::new(tenant, KeyId::random(), 1);
        let same_id_elsewhere = KekName::new(TenantId::random(), key, 1);
        let first = kek();
        keks.keep(KekName::new(tenant, key, 1), Arc::clone(&first), 0);
        for name in [KekName::new(tenant, key, 2), other, same_id_elsewhere] {
            keks.keep(name, kek(), 0);
        }
        keks.forget(tenant, key);
        assert_eq!(Arc::strong_count(&first), 1, "nobody else holds it");
        assert!(keks.get(&KekName::new(tenant, key, 2)).is_none());
        assert!(keks.get(&other).is_some() && keks.get(&same_id_elsewhere).is_some());
    }

    #[test]
    fn the_oldest_makes_room() {
        let keks = Keks::default();
        let (tenant, key, shared) = (TenantId::random(), KeyId::random(), kek());
        let name = |version| KekName::new(tenant, key, version);
        let capacity = u32::try_from(CAPACITY).unwrap();
        for version in 1..=capacity + 1 {
            keks.keep(name(version), Arc::clone(&shared), 0);
        }
        assert!(keks.get(&name(1)).is_none());
        assert!(keks.get(&name(2)).is_some() && keks.get(&name(capacity + 1)).is_some());
        assert_eq!(Arc::strong_count(&shared), CAPACITY + 1);
    }
}
