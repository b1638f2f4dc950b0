//! Each tenant's share of the cache.
//!
//! Two bounds of the settings limit every tenant. The arena limits them together: when it is full, a
//! tenant gets room from the one that holds most, as long as that one still holds more. So of N
//! tenants with entries each can hold an Nth of the arena, whatever the others do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use claviger_guarded::Arena;
use claviger_provider::TenantId;
use parking_lot::Mutex;

use super::Limits;

/// The shares of all tenants in the entries `E`. Its memory is bounded by the entries: a tenant without entries takes
/// none. Each call costs the logarithm of the numbers of entries and tenants.
pub(super) struct Shares<E> {
    entries: usize,
    bytes: usize,
    /// Bytes of all entries together: the arena's.
    capacity: usize,
    ledger: Mutex<Ledger<E>>,
}

struct Ledger<E> {
    tenants: HashMap<TenantId, Holding<E>>,
    /// The same tenants by their bytes, so that the largest is found at once.
    by_bytes: BTreeSet<(usize, TenantId)>,
    used: usize,
    last_number: u64,
}

/// What one tenant holds.
struct Holding<E> {
    bytes: usize,
    /// Oldest first.
    places: BTreeMap<u64, Place<E>>,
}

struct Place<E> {
    bytes: usize,
    /// Dangling until the entry exists.
    entry: Weak<E>,
}

/// The part of a tenant's share that one entry uses; released when dropped.
pub(super) struct Share<E> {
    shares: Arc<Shares<E>>,
    tenant: TenantId,
    number: u64,
}

/// The result of [`Shares::take`].
pub(super) struct Taken<E> {
    /// The share, or why there is none.
    pub(super) share: Result<Share<E>, &'static str>,
    /// Entries of larger tenants that must be wiped: their part is already given to this share.
    pub(super) evicted: Vec<Arc<E>>,
}

impl<E> Shares<E> {
    pub(super) fn new(limits: &Limits, capacity: usize) -> Self {
        Self {
            entries: limits.entries_per_tenant,
            bytes: limits.bytes_per_tenant,
            capacity,
            ledger: Mutex::new(Ledger {
                tenants: HashMap::new(),
                by_bytes: BTreeSet::new(),
                used: 0,
                last_number: 0,
            }),
        }
    }

    /// Takes a share for a value of `len` bytes. Wipe what is evicted before the value is stored.
    pub(super) fn take(self: &Arc<Self>, tenant: TenantId, len: usize) -> Taken<E> {
        let bytes = Arena::taken_by(len);
        let mut evicted = Vec::new();
        let mut ledger = self.ledger.lock();
        let (held, entries) = ledger.tenants.get(&tenant).map_or((0, 0), |own| (own.bytes, own.places.len()));
        if entries >= self.entries || bytes > self.bytes.saturating_sub(held) {
            let share = Err("tenant_full");
            return Taken { share, evicted };
        }
        while bytes > self.capacity.saturating_sub(ledger.used) {
            match ledger.oldest_of_larger(held + bytes) {
                Some((larger, number)) => evicted.extend(ledger.remove(larger, number)),
                None => {
                    let share = Err("arena_full");
                    return Taken { share, evicted };
                }
            }
        }
        let number = ledger.add(tenant, bytes);
        let share = Ok(Share {
            shares: Arc::clone(self),
            tenant,
            number,
        });
        Taken { share, evicted }
    }

    /// Makes an entry known that uses a share, for eviction and [`Shares::entries_of`]. `false` if the
    /// share was evicted meanwhile; then the entry must be wiped.
    pub(super) fn attach(&self, (tenant, number): (TenantId, u64), entry: &Arc<E>) -> bool {
        let mut ledger = self.ledger.lock();
        let place = ledger.tenants.get_mut(&tenant).and_then(|own| own.places.get_mut(&number));
        place.map(|place| place.entry = Arc::downgrade(entry)).is_some()
    }

    /// The entries of one tenant.
    pub(super) fn entries_of(&self, tenant: TenantId) -> Vec<Arc<E>> {
        let ledger = self.ledger.lock();
        let places = ledger.tenants.get(&tenant).into_iter().flat_map(|own| own.places.values());
        places.filter_map(|place| place.entry.upgrade()).collect()
    }

    /// The bytes that all entries take in the arena.
    pub(super) fn used(&self) -> usize {
        self.ledger.lock().used
    }

    /// How many entries have a share, over all tenants.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        let ledger = self.ledger.lock();
        let taken = ledger.tenants.values().map(|own| own.places.len()).sum();
        let bytes: usize = ledger
            .tenants
            .values()
            .flat_map(|own| own.places.values())
            .map(|place| place.bytes)
            .sum();
        assert_eq!((ledger.used, ledger.by_bytes.len()), (bytes, ledger.tenants.len()));
        taken
    }
}

impl<E> Ledger<E> {
    /// The oldest place of the tenant that holds most, if that is more than `bytes`.
    fn oldest_of_larger(&self, bytes: usize) -> Option<(TenantId, u64)> {
        let (most, tenant) = self.by_bytes.last()?;
        let places = &self.tenants.get(tenant)?.places;
        (*most > bytes).then_some((*tenant, *places.first_key_value()?.0))
    }

    fn add(&mut self, tenant: TenantId, bytes: usize) -> u64 {
        self.last_number += 1;
        let own = self.tenants.entry(tenant).or_insert_with(|| Holding {
            bytes: 0,
            places: BTreeMap::new(),
        });
        self.by_bytes.remove(&(own.bytes, tenant));
        own.bytes += bytes;
        self.by_bytes.insert((own.bytes, tenant));
        let entry = Weak::new();
        own.places.insert(self.last_number, Place { bytes, entry });
        self.used += bytes;
        self.last_number
    }

    /// Removes a place, unless that was done before; returns its entry, if one exists. Do not drop it
    /// under the lock: the last owner of an entry releases its share.
    fn remove(&mut self, tenant: TenantId, number: u64) -> Option<Arc<E>> {
        let own = self.tenants.get_mut(&tenant)?;
        let place = own.places.remove(&number)?;
        self.by_bytes.remove(&(own.bytes, tenant));
        own.bytes = own.bytes.saturating_sub(place.bytes);
        if own.places.is_empty() {
            self.tenants.remove(&tenant);
        } else {
            self.by_bytes.insert((own.bytes, tenant));
        }
        self.used = self.used.saturating_sub(place.bytes);
        place.entry.upgrade()
    }
}

impl<E> Share<E> {
    /// Its name, for [`Shares::attach`].
    pub(super) const fn name(&self) -> (TenantId, u64) {
        (self.tenant, self.number)
    }
}

impl<E> Drop for Share<E> {
    fn drop(&mut self) {
        let removed = self.shares.ledger.lock().remove(self.tenant, self.number);
        // After the lock; see `Ledger::remove`.
        drop(removed);
    }
}
