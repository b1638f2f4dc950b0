//! A bounded map of what is in use: what was not used for long goes first.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use claviger_provider::TenantId;
use hashlink::LinkedHashMap;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;

use super::loads::{Load, Loads};
use super::room::Room;

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
pub(super) struct LoadingCache<K: Eq + Hash + Copy, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    /// The places of entries in all shards, and those that inserts have reserved.
    room: Arc<Room>,
    owner: fn(&K) -> TenantId,
    places: fn(&V) -> usize,
    at_rest: fn(&V) -> bool,
    loads: Arc<Loads<K>>,
    metrics: CacheMetrics,
}

/// A part of the entries: those of each tenant in the order in which they leave. An entry that was used gets a second
/// chance: it goes to the back once when its turn comes. A use itself moves nothing, since a move writes to three
/// other entries, which are seldom in the processor's cache.
struct Shard<K, V>(HashMap<TenantId, Entries<K, V>, RandomState>);

type Entries<K, V> = LinkedHashMap<K, Entry<V>, RandomState>;

struct Entry<V> {
    value: V,
    /// Since the entry was put at the back.
    used: bool,
}

impl<K: Eq + Hash + Copy, V: Clone> Shard<K, V> {
    fn new() -> Self {
        Self(HashMap::with_hasher(RandomState::new()))
    }

    fn entry(&self, owner: TenantId, key: &K) -> Option<&Entry<V>> {
        self.0.get(&owner)?.get(key)
    }

    /// The value, which is used now.
    fn used(&mut self, owner: TenantId, key: &K) -> Option<V> {
        let entry = self.0.get_mut(&owner)?.get_mut(key)?;
        entry.used = true;
        Some(entry.value.clone())
    }

    /// Puts a value at the back.
    fn put(&mut self, owner: TenantId, key: K, value: V) {
        let entries = self.0.entry(owner);
        let entries = entries.or_insert_with(|| LinkedHashMap::with_hasher(RandomState::new()));
        entries.insert(key, Entry { value, used: false });
    }

    fn remove(&mut self, owner: TenantId, key: &K) -> Option<V> {
        let entries = self.0.get_mut(&owner)?;
        let removed = entries.remove(key);
        if entries.is_empty() {
            self.0.remove(&owner);
        }
        removed.map(|entry| entry.value)
    }

    /// Takes out a value of this owner, or of any but those that were tried: the first one that is at rest and was not
    /// used or, where all that it looks at were used, the first one at rest. Returns whose it was, too.
    fn evict(&mut self, owner: Option<TenantId>, tried: [Option<TenantId>; 2], at_rest: fn(&V) -> bool) -> Option<(TenantId, V)> {
        let (owner, key) = match owner {
            Some(owner) => (owner, leaves(self.0.get_mut(&owner)?, at_rest)?),
            None => {
                let mut others = self.0.iter_mut().filter(|(owner, _)| !tried.contains(&Some(**owner)));
                others.find_map(|(owner, entries)| Some((*owner, leaves(entries, at_rest)?)))?
            }
        };
        Some((owner, self.remove(owner, &key)?))
    }

    fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().flat_map(LinkedHashMap::values).map(|entry| &entry.value)
    }
}

/// Which of one tenant's entries leaves; puts those that it passes over at the back.
fn leaves<K: Eq + Hash + Copy, V>(entries: &mut Entries<K, V>, at_rest: fn(&V) -> bool) -> Option<K> {
    let mut spared = None;
    for _ in 0..entries.len().min(LOOKED_AT) {
        let (key, Entry { value, used }) = entries.pop_front()?;
        let is_at_rest = at_rest(&value);
        entries.insert(key, Entry { value, used: false });
        if is_at_rest && !used {
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
pub(super) struct Full;

/// What an insert does when requests hold every entry that there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenFull {
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
    pub(super) fn new(name: &'static str, capacity: usize, at_rest: fn(&V) -> bool) -> Self {
        let shards = if capacity < SHARDED_FROM { 1 } else { SHARDS };
        Self {
            shards: (0..shards).map(|_| Mutex::new(Shard::new())).collect(),
            hasher: RandomState::new(),
            room: Room::new(capacity),
            owner: |_| TenantId::INSTALLATION,
            places: |_| 1,
            at_rest,
            loads: Arc::new(Loads::new()),
            metrics: CacheMetrics::new(name),
        }
    }

    /// Shares the places among the tenants that `owner` names; `places` says how many a value takes, which changes only
    /// with [`Room::change`] of [`LoadingCache::room`].
    pub(super) fn shared(mut self, owner: fn(&K) -> TenantId, places: fn(&V) -> usize) -> Self {
        self.owner = owner;
        self.places = places;
        self
    }

    /// The places.
    pub(super) const fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// The loads under way, for those who change what is cached.
    pub(super) const fn loads(&self) -> &Arc<Loads<K>> {
        &self.loads
    }

    /// The value in memory, which counts as used.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let found = self.shard(key).lock().used((self.owner)(key), key);
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
    pub(super) fn peek(&self, key: &K) -> Option<V> {
        self.shard(key)
            .lock()
            .entry((self.owner)(key), key)
            .map(|entry| entry.value.clone())
    }

    /// Puts a loaded value in place, or gives back the one that is in place already. `None` when
    /// the load is stale: read again.
    ///
    /// # Errors
    /// [`Full`] when there is no room for one more, and `when_full` does not exceed the capacity.
    pub(super) fn insert(&self, key: K, loaded: V, load: &Load<K>, when_full: WhenFull) -> Result<Option<V>, Full> {
        let owner = (self.owner)(&key);
        if let Some(there) = self.shard(&key).lock().used(owner, &key) {
            return Ok(Some(there));
        }
        // Make room before the shard is locked, so that no two shards are locked at the same time.
        let place = self.reserve(&key, (self.places)(&loaded), when_full)?;
        let mut shard = self.shard(&key).lock();
        if let Some(there) = shard.used(owner, &key) {
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
    pub(super) fn remove_if(&self, key: &K, gone: impl FnOnce(&V) -> bool) {
        let owner = (self.owner)(key);
        let mut shard = self.shard(key).lock();
        let removed = if shard.entry(owner, key).is_some_and(|entry| gone(&entry.value)) {
            shard.remove(owner, key)
        } else {
            None
        };
        drop(shard);
        if let Some(removed) = removed {
            self.release(owner, (self.places)(&removed));
        }
    }

    /// Number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().values().count()).sum()
    }

    /// Counts the entries for which `matches` is true. One shard is locked at a time; for the
    /// service endpoints, not for requests.
    pub(super) fn count(&self, matches: impl Fn(&V) -> bool) -> (usize, usize) {
        let (mut all, mut matching) = (0, 0);
        for shard in &self.shards {
            let shard = shard.lock();
            all += shard.values().count();
            matching += shard.values().filter(|value| matches(value)).count();
        }
        (all, matching)
    }

    /// What `pick` makes of the entries.
    pub(super) fn collect<T>(&self, pick: impl Fn(&V) -> Option<T>) -> Vec<T> {
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
    fn reserve(&self, key: &K, places: usize, when_full: WhenFull) -> Result<Place<'_, K, V>, Full> {
        let owner = (self.owner)(key);
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
