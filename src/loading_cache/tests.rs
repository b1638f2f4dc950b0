//! The cache alone: what stays, what leaves, and that nobody ever meets two living values of one
//! key, whatever threads do.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use parking_lot::{Mutex, RwLock};

use super::{Full, LOOKED_AT, LoadingCache, SHARDED_FROM, SHARDS, WhenFull};

type Value = Arc<u32>;

fn cache(capacity: usize) -> LoadingCache<u32, Value> {
    LoadingCache::new("test", capacity, |value| Arc::strong_count(value) == 1)
}

impl LoadingCache<u32, Value> {
    /// What a lookup does: the value in memory, else one that is loaded.
    fn load_value(&self, key: u32) -> Result<Value, Full> {
        self.load_when_full(key, WhenFull::Refuse)
    }

    fn load_when_full(&self, key: u32, when_full: WhenFull) -> Result<Value, Full> {
        if let Some(value) = self.get(&key) {
            return Ok(value);
        }
        let load = self.loads().begin(key);
        Ok(self.insert(key, Arc::new(key), &load, when_full)?.unwrap())
    }
}

#[test]
fn the_least_recently_used_value_leaves_first() {
    let cache = cache(3);
    for key in [1, 2, 3] {
        cache.load_value(key).unwrap();
    }
    cache.get(&1).unwrap();
    cache.load_value(4).unwrap();
    assert!(cache.peek(&2).is_none(), "the oldest left");
    assert!([1, 3, 4].iter().all(|key| cache.peek(key).is_some()));
    assert_eq!(cache.len(), 3);
}

#[test]
fn a_value_that_is_only_peeked_at_is_not_kept_by_it() {
    let cache = cache(3);
    for key in [1, 2, 3] {
        cache.load_value(key).unwrap();
    }
    assert!(cache.peek(&1).is_some());
    cache.load_value(4).unwrap();
    assert!(cache.peek(&1).is_none(), "nobody used it");
    assert_eq!(cache.len(), 3);
}

#[test]
fn in_many_shards_a_value_that_is_used_stays_and_one_that_is_not_leaves() {
    let cache = cache(SHARDED_FROM);
    let keys = u32::try_from(SHARDED_FROM).unwrap();
    let used = 0..keys / 16;
    for key in 0..keys {
        cache.load_value(key).unwrap();
    }
    // These are used after each twelfth of the capacity. Two capacities push out whatever is not.
    for new in keys..3 * keys {
        if new % (keys / 12) == 0 || new == keys {
            assert!(used.clone().all(|key| cache.get(&key).is_some()), "before {new}");
        }
        cache.load_value(new).unwrap();
    }
    assert!((used.end..keys).all(|key| cache.peek(&key).is_none()));
    assert_eq!(cache.len(), SHARDED_FROM);
}

#[test]
fn a_held_value_stays_whatever_comes() {
    let cache = cache(2);
    let held = cache.load_value(1).unwrap();
    for key in 2..500 {
        cache.load_value(key).unwrap();
        assert!(cache.len() <= 2);
    }
    assert!(Arc::ptr_eq(&held, &cache.peek(&1).unwrap()));
}

#[test]
fn with_every_value_held_there_is_no_room_until_one_is_let_go() {
    let cache = cache(3);
    let mut held: Vec<Value> = [1, 2, 3].map(|key| cache.load_value(key).unwrap()).into();
    assert_eq!(cache.load_value(4), Err(Full));
    assert_eq!(cache.len(), 3);
    // What is in memory is still found.
    assert_eq!(*cache.load_value(2).unwrap(), 2);
    held.pop();
    assert_eq!(*cache.load_value(4).unwrap(), 4);
    assert!(cache.peek(&3).is_none() && cache.peek(&1).is_some());
    assert_eq!(cache.load_value(5).as_deref(), Ok(&5));
}

#[test]
fn a_revocation_finds_a_place_among_held_values_and_the_excess_stays_small() {
    const CAPACITY: u32 = 64;
    let cache = cache(CAPACITY as usize);
    let held: Vec<Value> = (0..CAPACITY).map(|key| cache.load_value(key).unwrap()).collect();
    let under_way: Vec<Value> = (1000..1003)
        .map(|key| cache.load_when_full(key, WhenFull::Exceed).unwrap())
        .collect();
    for key in 2000..3000 {
        assert_eq!(cache.load_value(key), Err(Full));
        let revoked = cache.load_when_full(key, WhenFull::Exceed).unwrap();
        assert!(Arc::ptr_eq(&revoked, &cache.load_value(key).unwrap()), "one value for a key");
        drop(revoked);
        let ended = cache.len() - held.len() - under_way.len();
        assert!(ended <= 1 + cache.len().div_ceil(LOOKED_AT), "{ended} of them stay");
    }
    assert!(held.iter().all(|value| Arc::ptr_eq(value, &cache.peek(value).unwrap())));
    drop((held, under_way));
    cache.load_value(5000).unwrap();
    assert_eq!((cache.len(), cache.room().taken()), (CAPACITY as usize, CAPACITY as usize));
}

#[test]
fn an_insert_gives_back_the_value_in_place_and_its_own_place_is_free_again() {
    let cache = cache(2);
    let first = cache.load_value(1).unwrap();
    let load = cache.loads().begin(1);
    let second = cache.insert(1, Arc::new(99), &load, WhenFull::Refuse).unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    cache.load_value(2).unwrap();
    cache.load_value(3).unwrap();
    assert_eq!((cache.len(), cache.room().taken()), (2, 2));
}

#[test]
fn a_change_during_a_load_is_seen_though_nothing_is_in_memory() {
    let cache = cache(2);
    let (early, unknown) = (cache.loads().begin(1), cache.loads().begin_unknown());
    let other = cache.loads().begin(2);
    cache.loads().note_change(&1);
    let late = cache.loads().begin(1);
    assert_eq!(cache.insert(1, Arc::new(1), &early, WhenFull::Refuse), Ok(None));
    assert_eq!(cache.insert(1, Arc::new(1), &unknown, WhenFull::Refuse), Ok(None));
    assert_eq!(cache.room().taken(), 0, "the reserved places are free again");
    assert!(
        cache.insert(2, Arc::new(2), &other, WhenFull::Refuse).unwrap().is_some(),
        "another key's load is not stale"
    );
    assert!(
        cache.insert(1, Arc::new(1), &late, WhenFull::Refuse).unwrap().is_some(),
        "it read after the change"
    );
}

#[test]
fn a_change_is_remembered_past_the_eviction_of_its_value() {
    let cache = cache(1);
    let load = cache.loads().begin(1);
    cache.load_value(1).unwrap();
    cache.loads().note_change(&1);
    cache.load_value(2).unwrap();
    assert!(cache.peek(&1).is_none());
    assert_eq!(cache.insert(1, Arc::new(1), &load, WhenFull::Refuse), Ok(None));
}

#[test]
fn loads_under_way_leave_no_trace_once_they_end() {
    let cache = cache(10);
    let loads: Vec<_> = (0..100).map(|key| cache.loads().begin(key % 7)).collect();
    assert_eq!(cache.loads().len(), 7);
    cache.loads().note_change(&3);
    drop(loads);
    assert_eq!(cache.loads().len(), 0);
    // A change that was noted before a load began does not concern it.
    let load = cache.loads().begin(3);
    assert!(!load.is_stale());
}

#[test]
fn the_bound_is_one_for_all_shards() {
    let capacity = SHARDED_FROM + 1;
    let cache = cache(capacity);
    let keys = u32::try_from(3 * capacity).unwrap();
    for key in 0..keys {
        cache.load_value(key).unwrap();
    }
    assert_eq!(cache.len(), capacity);
    let held: Vec<Value> = (0..u32::try_from(capacity).unwrap())
        .map(|key| cache.load_value(keys + key).unwrap())
        .collect();
    assert_eq!((cache.len(), held.len()), (capacity, capacity));
    assert_eq!(cache.load_value(1), Err(Full));
}

#[test]
fn room_is_found_in_another_shard_when_this_one_is_held() {
    let cache = cache(SHARDED_FROM);
    let keys = 0..u32::try_from(SHARDED_FROM).unwrap();
    for key in keys.clone() {
        cache.load_value(key).unwrap();
    }
    let new = 1_000_000;
    let full = cache.shard_number(&new);
    let held: Vec<Value> = keys
        .filter(|key| cache.shard_number(key) == full)
        .map(|key| cache.get(&key).unwrap())
        .collect();
    assert!(held.len() > LOOKED_AT);
    cache.load_value(new).unwrap();
    assert_eq!(cache.len(), SHARDED_FROM);
    assert!(held.iter().all(|value| Arc::ptr_eq(value, &cache.peek(value).unwrap())));
}

#[test]
fn an_insert_looks_at_few_entries_however_many_there_are() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let capacity = 50_000;
    let cache = LoadingCache::<u32, Value>::new("test", capacity, |value| {
        ASKED.fetch_add(1, Ordering::SeqCst);
        Arc::strong_count(value) == 1
    });
    let held: Vec<Value> = (0..u32::try_from(capacity).unwrap())
        .map(|key| cache.load_value(key).unwrap())
        .collect();
    assert_eq!(ASKED.load(Ordering::SeqCst), 0);
    assert_eq!(cache.load_value(u32::MAX), Err(Full));
    assert!(ASKED.load(Ordering::SeqCst) <= SHARDS * LOOKED_AT);
    drop(held);
    ASKED.store(0, Ordering::SeqCst);
    cache.load_value(u32::MAX).unwrap();
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}

/// A row of the stand-in for the store: committed epochs.
#[derive(Default)]
struct Stored {
    committed: AtomicU64,
    /// Answers of this epoch and of those before must not pass any more.
    ended: AtomicU64,
}

/// A gate as the keys' gates are: an epoch that a change moves under the exclusive lock.
struct Gate {
    key: u32,
    epoch: RwLock<u64>,
    change: Mutex<()>,
}

/// What the threads of a stress test share.
struct Stress {
    cache: LoadingCache<u32, Arc<Gate>>,
    rows: Vec<Stored>,
    /// The gate of each key that threads use now, by its address, and how many use it.
    used: Mutex<HashMap<u32, (usize, usize)>>,
}

/// A gate that a thread uses.
struct Used<'s> {
    stress: &'s Stress,
    gate: Arc<Gate>,
}

impl std::ops::Deref for Used<'_> {
    type Target = Gate;

    fn deref(&self) -> &Gate {
        &self.gate
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        let mut used = self.stress.used.lock();
        let (_, users) = used.get_mut(&self.gate.key).unwrap();
        *users -= 1;
        if *users == 0 {
            used.remove(&self.gate.key);
        }
    }
}

impl Stress {
    fn new(keys: usize, capacity: usize) -> Self {
        Self {
            cache: LoadingCache::new("test", capacity, |gate| Arc::strong_count(gate) == 1),
            rows: (0..keys).map(|_| Stored::default()).collect(),
            used: Mutex::default(),
        }
    }

    fn row(&self, key: u32) -> &Stored {
        &self.rows[key as usize]
    }

    /// A lookup, with a pause between read and insert.
    fn gate(&self, key: u32, pause: usize) -> Option<Used<'_>> {
        let gate = loop {
            if let Some(gate) = self.cache.get(&key) {
                break gate;
            }
            let load = match pause % 2 {
                0 => self.cache.loads().begin(key),
                _ => self.cache.loads().begin_unknown(),
            };
            let epoch = self.row(key).committed.load(Ordering::SeqCst);
            for _ in 0..pause % 5 {
                std::thread::yield_now();
            }
            let loaded = Arc::new(Gate {
                key,
                epoch: RwLock::new(epoch),
                change: Mutex::default(),
            });
            match self.cache.insert(key, loaded, &load, WhenFull::Refuse) {
                Ok(Some(gate)) => break gate,
                Ok(None) => {}
                Err(Full) => return None,
            }
        };
        assert_eq!(gate.key, key);
        // An evicted gate may live until it is dropped; what counts is that nobody can use it.
        let mut used = self.used.lock();
        let (address, users) = used.entry(key).or_insert((Arc::as_ptr(&gate).addr(), 0));
        assert_eq!(*address, Arc::as_ptr(&gate).addr(), "two gates for one key in use");
        *users += 1;
        drop(used);
        Some(Used { stress: self, gate })
    }

    /// An answer: made under an epoch, handed over only if it has not ended.
    fn answer(&self, key: u32, pause: usize) {
        let Some(gate) = self.gate(key, pause) else { return };
        let made_under = *gate.epoch.read();
        if pause.is_multiple_of(3) {
            std::thread::yield_now();
        }
        let now = gate.epoch.read();
        if *now == made_under {
            let ended = self.row(key).ended.load(Ordering::SeqCst);
            assert!(ended <= made_under, "an answer of epoch {made_under} passed after {ended} began");
        }
    }

    /// A revocation as the broker makes one.
    fn revoke(&self, key: u32, pause: usize) {
        let Some(gate) = self.gate(key, pause) else { return };
        let _one_at_a_time = gate.change.lock();
        let next = self.row(key).committed.fetch_add(1, Ordering::SeqCst) + 1;
        *gate.epoch.write() = next;
        self.cache.loads().note_change(&key);
        self.row(key).ended.store(next, Ordering::SeqCst);
    }

    /// A revocation by another node: committed there, then told to this one.
    fn revoke_by_feed(&self, key: u32) {
        let next = self.row(key).committed.fetch_add(1, Ordering::SeqCst) + 1;
        self.cache.loads().note_change(&key);
        if let Some(gate) = self.cache.peek(&key) {
            let mut epoch = gate.epoch.write();
            *epoch = next.max(*epoch);
        }
        self.row(key).ended.fetch_max(next, Ordering::SeqCst);
    }
}

/// Threads that answer for many keys of which few fit, while others revoke.
fn stress(keys: u32, capacity: usize, revoke: impl Fn(&Stress, u32, usize) + Sync) {
    const READERS: usize = 6;
    const WRITERS: usize = 2;
    const ROUNDS: usize = 4_000;
    let world = Stress::new(keys as usize, capacity);
    let start = Barrier::new(READERS + WRITERS);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in 0..READERS {
            let (world, start, stop) = (&world, &start, &stop);
            scope.spawn(move || {
                start.wait();
                let mut round = reader;
                while !stop.load(Ordering::Relaxed) {
                    // Another order for each reader, and some keys more often than others.
                    let key = u32::try_from(round * 7919 % 101).unwrap() % keys;
                    world.answer(key, round);
                    round += 1 + reader;
                }
            });
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (world, start, revoke) = (&world, &start, &revoke);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..ROUNDS {
                        // Each writer has keys of its own, as a store's transactions are in turn.
                        let key = u32::try_from((round * WRITERS + writer) % keys as usize).unwrap();
                        revoke(world, key, round);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a writer failed");
    });
    assert!(world.cache.len() <= capacity);
    assert_eq!(world.cache.loads().len(), 0);
}

#[test]
fn no_answer_passes_a_revocation_however_often_its_key_leaves_memory() {
    for capacity in [2, 8, 40] {
        stress(40, capacity, |world, key, round| world.revoke(key, round));
    }
}

#[test]
fn nor_one_that_another_node_made() {
    for capacity in [2, 8, 40] {
        stress(40, capacity, |world, key, _| world.revoke_by_feed(key));
    }
}
