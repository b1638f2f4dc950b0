//! A bounded map of what is in use: what was not used for long goes first, and of the tenant that holds most.

mod loads;
mod room;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use claviger_provider::TenantId;
use hashlink::LinkedHashSet;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;

pub use loads::{Load, Loads};
pub use room::Room;

/// The most shards; a cache that is smaller than [`SHARDED_FROM`] has one.
const SHARDS: usize = 16;
const SHARDED_FROM: usize = 4096;
/// How many entries of a tenant in a shard an insert looks at, at most, when it needs room.
const LOOKED_AT: usize = 32;
/// The most values that leave at a lookup after values in place grew.
const TRIMMED: usize = 32;

/// Values by key, for at most `capacity` places; [`WhenFull::Exceed`] is the one exception. A value takes one place, unless
/// the cache is [`LoadingCache::shared`]: then large ones take more, and each tenant that holds values keeps an equal
/// part of the places, whatever the others do.
///
/// For values that carry a gate, one property matters more than any other: **at most one living
/// value for a key**. It follows from three rules.
///
/// 1. An insert never replaces a value: [`LoadingCache::insert`] gives back the one that is in
///    place.
/// 2. A value leaves for room only when nobody holds it (`at_rest`). Both that question and
///    every hand-out are made under the shard's lock, so nobody can take it in between.
/// 3. A value that somebody may hold leaves only by [`LoadingCache::remove_if`], whose caller
///    has closed its gate before.
///
/// A load that is stale ([`Loads`]) inserts nothing.
///
/// Nothing here waits for I/O. For each value that it drops an operation looks at `SHARDS * LOOKED_AT` entries of two
/// tenants, and at others' only while requests hold those. It drops one for each place that it needs at most: a value
/// takes an eighth of the places at most.
pub struct LoadingCache<K: Eq + Hash + Copy, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    /// The places of entries in all shards, and those that inserts have reserved.
    room: Arc<Room>,
    owner: fn(&K, &V) -> TenantId,
    places: fn(&V) -> usize,
    at_rest: fn(&V) -> bool,
    loads: Arc<Loads<K>>,
    metrics: CacheMetrics,
}

/// A part of the entries.
struct Shard<K, V> {
    entries: Entries<K, V>,
    /// The keys of each tenant's entries in the order in which they leave. An entry that was used gets a second chance:
    /// it goes to the back once when its turn comes. A use itself moves nothing, since a move writes to three other
    /// entries, which are seldom in the processor's cache.
    orders: HashMap<TenantId, Order<K>, RandomState>,
}

type Entries<K, V> = HashMap<K, Entry<V>, RandomState>;
type Order<K> = LinkedHashSet<K, RandomState>;

struct Entry<V> {
    value: V,
    owner: TenantId,
    /// Since the entry was put at the back.
    used: bool,
}

impl<K: Eq + Hash + Copy, V: Clone> Shard<K, V> {
    fn new() -> Self {
        Self {
            entries: HashMap::with_hasher(RandomState::new()),
            orders: HashMap::with_hasher(RandomState::new()),
        }
    }

    fn value(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// The value, which is used now.
    fn used(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.get_mut(key)?;
        entry.used = true;
        Some(entry.value.clone())
    }

    /// Puts a value that is not in place at the back.
    fn put(&mut self, owner: TenantId, key: K, value: V) {
        let order = self.orders.entry(owner);
        let order = order.or_insert_with(|| LinkedHashSet::with_hasher(RandomState::new()));
        order.insert(key);
        let used = false;
        self.entries.insert(key, Entry { value, owner, used });
    }

    /// Returns whose it was, too.
    fn remove(&mut self, key: &K) -> Option<(TenantId, V)> {
        let Entry { value, owner, .. } = self.entries.remove(key)?;
        if let Some(order) = self.orders.get_mut(&owner) {
            order.remove(key);
            if order.is_empty() {
                self.orders.remove(&owner);
            }
        }
        Some((owner, value))
    }

    /// Takes out a value of this owner, or of any but those that were tried: the first one that is at rest and was not
    /// used or, where all that it looks at were used, the first one at rest. Returns whose it was, too.
    fn evict(&mut self, owner: Option<TenantId>, tried: [Option<TenantId>; 2], at_rest: fn(&V) -> bool) -> Option<(TenantId, V)> {
        let (entries, orders) = (&mut self.entries, &mut self.orders);
        let key = match owner {
            Some(owner) => leaves(orders.get_mut(&owner)?, entries, at_rest)?,
            None => {
                let mut others = orders.iter_mut().filter(|(owner, _)| !tried.contains(&Some(**owner)));
                others.find_map(|(_, order)| leaves(order, entries, at_rest))?
            }
        };
        self.remove(&key)
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.values().map(|entry| &entry.value)
    }
}

/// Which of one tenant's entries leaves; puts those that it passes over at the back.
fn leaves<K: Eq + Hash + Copy, V>(order: &mut Order<K>, entries: &mut Entries<K, V>, at_rest: fn(&V) -> bool) -> Option<K> {
    let mut spared = None;
    for _ in 0..order.len().min(LOOKED_AT) {
        let key = *order.front()?;
        order.to_back(&key);
        let entry = entries.get_mut(&key)?;
        let was_used = std::mem::take(&mut entry.used);
        let is_at_rest = at_rest(&entry.value);
        if is_at_rest && !was_used {
            return Some(key);
        }
        if is_at_rest {
            spared.get_or_insert(key);
        }
    }
    spared
}

/// Every place is taken by an entry that a request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What an insert does when requests hold every entry that there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The insert fails with [`Full`].
    Refuse,
    /// It exceeds the capacity: a revocation must not wait for the requests that it may be meant
    /// to stop.
    ///
    /// The excess is bounded. A revocation holds one entry, and there are at most as many
    /// revocations as requests in flight. When the revocation has ended, its entry is evicted like
    /// any other. Each unsuccessful search for room moves the entries that it looked at to the
    /// back, so a search reaches that entry after at most (entries of the shard / `LOOKED_AT`)
    /// searches.
    Exceed,
}

struct CacheMetrics {
    hits: Counter,
    misses: Counter,
    evictions: Counter,
    entries: Gauge,
}

impl CacheMetrics {
    fn new(name: &'static str) -> Self {
        Self {
            hits: counter!("claviger_memory_lookups_total", "cache" => name, "result" => "hit"),
            misses: counter!("claviger_memory_lookups_total", "cache" => name, "result" => "miss"),
            evictions: counter!("claviger_memory_evictions_total", "cache" => name),
            entries: gauge!("claviger_memory_entries", "cache" => name),
        }
    }
}

impl<K: Eq + Hash + Copy, V: Clone> LoadingCache<K, V> {
    /// A cache of this many entries. `name` is its label in the metrics; `at_rest` says whether
    /// nobody but the cache holds a value.
    pub fn new(name: &'static str, capacity: usize, at_rest: fn(&V) -> bool) -> Self {
        let shards = if capacity < SHARDED_FROM { 1 } else { SHARDS };
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new())).collect(),
            hasher: RandomState::new(),
            room: Room::new(capacity),
            owner: |_, _| TenantId::INSTALLATION,
            places: |_| 1,
            at_rest,
            loads: Arc::new(Loads::new()),
            metrics: CacheMetrics::new(name),
        }
    }

    /// Shares the places among the tenants that `owner` names, when a value is put in place; `places` says how many it
    /// takes, which changes only with [`Room::change`] of [`LoadingCache::room`].
    pub fn shared(mut self, owner: fn(&K, &V) -> TenantId, places: fn(&V) -> usize) -> Self {
        self.owner = owner;
        self.places = places;
        self
    }

    /// The places.
    pub const fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// The loads under way, for those who change what is cached.
    pub const fn loads(&self) -> &Arc<Loads<K>> {
        &self.loads
    }

    /// The value in memory, which counts as used.
    pub fn get(&self, key: &K) -> Option<V> {
        let found = self.shard(key).lock().used(key);
        if self.room.has_grown() {
            self.trim(self.shard_number(key));
        }
        match found {
            Some(_) => self.metrics.hits.increment(1),
            None => self.metrics.misses.increment(1),
        }
        found
    }

    /// The value in memory. It counts neither as used nor as looked up: the gateway's own work must not keep a value
    /// that no request asks for.
    pub fn peek(&self, key: &K) -> Option<V> {
        self.shard(key).lock().value(key).cloned()
    }

    /// Puts a loaded value in place, or gives back the one that is in place already. `None` when
    /// the load is stale: read again.
    ///
    /// # Errors
    /// [`Full`] when there is no room for one more, and `when_full` does not exceed the capacity.
    pub fn insert(&self, key: K, loaded: V, load: &Load<K>, when_full: WhenFull) -> Result<Option<V>, Full> {
        let owner = (self.owner)(&key, &loaded);
        if let Some(there) = self.shard(&key).lock().used(&key) {
            return Ok(Some(there));
        }
        // Make room before the shard is locked, so that no two shards are locked at the same time.
        let place = self.reserve(&key, owner, (self.places)(&loaded), when_full)?;
        let mut shard = self.shard(&key).lock();
        if let Some(there) = shard.used(&key) {
            return Ok(Some(there));
        }
        // Check under the shard's lock. A change is noted first, and then applied to the value
        // under the same lock. So either this check sees the note, or the change finds the value
        // that is inserted here.
        if load.is_stale() {
            return Ok(None);
        }
        shard.put(owner, key, loaded.clone());
        place.keep();
        Ok(Some(loaded))
    }

    /// Removes the value of this key if `gone` says so. Whoever still holds it must not be able
    /// to use it: see the type's rules.
    pub fn remove_if(&self, key: &K, gone: impl FnOnce(&V) -> bool) {
        let mut shard = self.shard(key).lock();
        let removed = if shard.value(key).is_some_and(gone) {
            shard.remove(key)
        } else {
            None
        };
        drop(shard);
        if let Some((owner, removed)) = removed {
            self.release(owner, (self.places)(&removed));
        }
    }

    /// Number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().values().count()).sum()
    }

    /// Counts the entries for which `matches` is true. One shard is locked at a time; for the
    /// service endpoints, not for requests.
    pub fn count(&self, matches: impl Fn(&V) -> bool) -> (usize, usize) {
        let (mut all, mut matching) = (0, 0);
        for shard in &self.shards {
            let shard = shard.lock();
            all += shard.values().count();
            matching += shard.values().filter(|value| matches(value)).count();
        }
        (all, matching)
    }

    /// What `pick` makes of the entries.
    pub fn collect<T>(&self, pick: impl Fn(&V) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        for shard in &self.shards {
            picked.extend(shard.lock().values().filter_map(&pick));
        }
        picked
    }

    fn shard(&self, key: &K) -> &Mutex<Shard<K, V>> {
        &self.shards[self.shard_number(key)]
    }

    fn shard_number(&self, key: &K) -> usize {
        // The remainder is below SHARDS.
        (self.hasher.hash_one(key) % self.shards.len() as u64) as usize
    }

    /// Takes places, after making room for them if there is none.
    fn reserve(&self, key: &K, owner: TenantId, places: usize, when_full: WhenFull) -> Result<Place<'_, K, V>, Full> {
        let mut first = self.shard_number(key);
        while !self.room.take(owner, places) {
            match (self.evict(first, self.room.who_leaves(owner, places)), when_full) {
                (Some(shard), _) => first = shard,
                (None, WhenFull::Refuse) => return Err(Full),
                (None, WhenFull::Exceed) => {
                    self.room.change(owner, 0, places);
                    break;
                }
            }
        }
        self.metrics.entries.increment(1);
        Ok(Place {
            cache: self,
            owner,
            places,
            kept: false,
        })
    }

    fn release(&self, owner: TenantId, places: usize) {
        self.room.change(owner, places, 0);
        self.metrics.entries.decrement(1);
    }

    /// Makes room for what grew in place.
    fn trim(&self, mut first: usize) {
        for _ in 0..TRIMMED {
            let [_, largest] = self.room.who_leaves(TenantId::INSTALLATION, 0);
            if !self.room.is_exceeded() {
                break;
            }
            let Some(shard) = self.evict(first, [largest, None]) else { break };
            first = shard;
        }
    }

    /// Drops the first entry that nobody holds: of the first of these tenants that has one or, where requests hold all that
    /// it looks at, of any other; of this shard, or of the next ones. Returns of which.
    fn evict(&self, first: usize, [own, largest]: [Option<TenantId>; 2]) -> Option<usize> {
        let largest = largest.filter(|largest| own != Some(*largest));
        let tried = [own, largest];
        for tenant in tried.into_iter().flatten().map(Some).chain([None]) {
            for (number, shard) in self.shards.iter().enumerate().cycle().skip(first).take(self.shards.len()) {
                // Drop the value without the lock, because dropping a connection's pipeline takes long.
                let evicted = shard.lock().evict(tenant, tried, self.at_rest);
                if let Some((owner, value)) = evicted {
                    self.metrics.evictions.increment(1);
                    self.release(owner, (self.places)(&value));
                    return Some(number);
                }
            }
        }
        None
    }
}

/// Places that an insert has reserved; given back when dropped without [`Place::keep`].
struct Place<'c, K: Eq + Hash + Copy, V: Clone> {
    cache: &'c LoadingCache<K, V>,
    owner: TenantId,
    places: usize,
    kept: bool,
}

impl<K: Eq + Hash + Copy, V: Clone> Place<'_, K, V> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl<K: Eq + Hash + Copy, V: Clone> Drop for Place<'_, K, V> {
    fn drop(&mut self) {
        if !self.kept {
            self.cache.release(self.owner, self.places);
        }
    }
}

#[cfg(test)]
mod tests;
