//! A bounded map of what is in use: what was not used for long goes first.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashlink::LinkedHashMap;
use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;

use super::loads::{Load, Loads};

/// The most shards; a cache that is smaller than [`SHARDED_FROM`] has one.
const SHARDS: usize = 16;
const SHARDED_FROM: usize = 4096;
/// How many entries of a shard an insert looks at, at most, when it needs room.
const LOOKED_AT: usize = 32;

/// Values by key, at most `capacity` of them; [`WhenFull::Exceed`] is the one exception.
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
/// Nothing here waits for I/O, and no operation looks at more than `SHARDS * LOOKED_AT` entries.
pub(super) struct LoadingCache<K: Eq + Hash + Copy, V> {
    shards: Box<[Mutex<Shard<K, V>>]>,
    hasher: RandomState,
    capacity: usize,
    /// Entries in all shards, and places that inserts have reserved.
    taken: AtomicUsize,
    at_rest: fn(&V) -> bool,
    loads: Arc<Loads<K>>,
    metrics: CacheMetrics,
}

/// A part of the entries, in the order in which they leave. An entry that was used gets a second chance: it
/// goes to the back once when its turn comes. A use itself moves nothing, since a move writes to three
/// other entries, which are seldom in the processor's cache.
struct Shard<K, V>(LinkedHashMap<K, Entry<V>, RandomState>);

struct Entry<V> {
    value: V,
    /// Since the entry was put at the back.
    used: bool,
}

impl<K: Eq + Hash + Copy, V: Clone> Shard<K, V> {
    fn new() -> Self {
        Self(LinkedHashMap::with_hasher(RandomState::new()))
    }

    /// The value, which is used now.
    fn used(&mut self, key: &K) -> Option<V> {
        let entry = self.0.get_mut(key)?;
        entry.used = true;
        Some(entry.value.clone())
    }

    /// Puts a value at the back.
    fn put(&mut self, key: K, value: V) {
        self.0.insert(key, Entry { value, used: false });
    }

    /// Takes out the first value that is at rest and was not used or, where all that it looks at were
    /// used, the first one at rest.
    fn evict(&mut self, at_rest: fn(&V) -> bool) -> Option<V> {
        let mut spared = None;
        for _ in 0..self.0.len().min(LOOKED_AT) {
            let (key, Entry { value, used }) = self.0.pop_front()?;
            let at_rest = at_rest(&value);
            if at_rest && !used {
                return Some(value);
            }
            if at_rest {
                spared.get_or_insert(key);
            }
            self.put(key, value);
        }
        self.0.remove(&spared?).map(|entry| entry.value)
    }
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
            capacity,
            taken: AtomicUsize::new(0),
            at_rest,
            loads: Arc::new(Loads::new()),
            metrics: CacheMetrics::new(name),
        }
    }

    /// The loads under way, for those who change what is cached.
    pub(super) const fn loads(&self) -> &Arc<Loads<K>> {
        &self.loads
    }

    /// The value in memory, which counts as used.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let found = self.shard(key).lock().used(key);
        match found {
            Some(_) => self.metrics.hits.increment(1),
            None => self.metrics.misses.increment(1),
        }
        found
    }

    /// The value in memory. It counts neither as used nor as looked up: the gateway's own work must not keep a value
    /// that no request asks for.
    pub(super) fn peek(&self, key: &K) -> Option<V> {
        self.shard(key).lock().0.get(key).map(|entry| entry.value.clone())
    }

    /// Puts a loaded value in place, or gives back the one that is in place already. `None` when
    /// the load is stale: read again.
    ///
    /// # Errors
    /// [`Full`] when there is no room for one more, and `when_full` does not exceed the capacity.
    pub(super) fn insert(&self, key: K, loaded: V, load: &Load<K>, when_full: WhenFull) -> Result<Option<V>, Full> {
        if let Some(there) = self.shard(&key).lock().used(&key) {
            return Ok(Some(there));
        }
        // Make room before the shard is locked, so that no two shards are locked at the same time.
        let place = self.reserve(&key, when_full)?;
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
        shard.put(key, loaded.clone());
        place.keep();
        Ok(Some(loaded))
    }

    /// Removes the value of this key if `gone` says so. Whoever still holds it must not be able
    /// to use it: see the type's rules.
    pub(super) fn remove_if(&self, key: &K, gone: impl FnOnce(&V) -> bool) {
        let mut shard = self.shard(key).lock();
        let removed = if shard.0.get(key).is_some_and(|entry| gone(&entry.value)) {
            shard.0.remove(key)
        } else {
            None
        };
        drop(shard);
        if removed.is_some() {
            self.release();
        }
    }

    /// Number of entries.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().0.len()).sum()
    }

    /// Counts the entries for which `matches` is true. One shard is locked at a time; for the
    /// service endpoints, not for requests.
    pub(super) fn count(&self, matches: impl Fn(&V) -> bool) -> (usize, usize) {
        let (mut all, mut matching) = (0, 0);
        for shard in &self.shards {
            let shard = shard.lock();
            all += shard.0.len();
            matching += shard.0.values().filter(|entry| matches(&entry.value)).count();
        }
        (all, matching)
    }

    /// What `pick` makes of the entries.
    pub(super) fn collect<T>(&self, pick: impl Fn(&V) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        for shard in &self.shards {
            picked.extend(shard.lock().0.values().filter_map(|entry| pick(&entry.value)));
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

    /// Takes a place, after making room for it if there is none.
    fn reserve(&self, key: &K, when_full: WhenFull) -> Result<Place<'_, K, V>, Full> {
        loop {
            let reserved = self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| {
                (taken < self.capacity).then_some(taken + 1)
            });
            if reserved.is_ok() {
                break;
            }
            if !self.evict(self.shard_number(key)) {
                match when_full {
                    WhenFull::Refuse => return Err(Full),
                    WhenFull::Exceed => {
                        self.taken.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                }
            }
        }
        self.metrics.entries.increment(1);
        Ok(Place { cache: self, kept: false })
    }

    fn release(&self) {
        self.taken.fetch_sub(1, Ordering::SeqCst);
        self.metrics.entries.decrement(1);
    }

    /// Drops the first entry that nobody holds: of this shard or, where all that
    /// it looks at are held, of the next ones.
    fn evict(&self, first: usize) -> bool {
        let shards = self.shards.iter().cycle().skip(first).take(self.shards.len());
        for shard in shards {
            // Drop the value without the lock, because dropping a connection's pipeline takes long.
            let evicted = shard.lock().evict(self.at_rest);
            if evicted.is_some() {
                self.metrics.evictions.increment(1);
                self.release();
                return true;
            }
        }
        false
    }
}

/// A place that an insert has reserved; given back when dropped without [`Place::keep`].
struct Place<'c, K: Eq + Hash + Copy, V: Clone> {
    cache: &'c LoadingCache<K, V>,
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
            self.cache.release();
        }
    }
}

#[cfg(test)]
mod tests;
