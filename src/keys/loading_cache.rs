//! A map of what is in use, loaded from the store by many at once.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// Values by key. Two promises make a value that was loaded from the store safe to put in
/// place, however long the loading took:
///
/// - what is there stays: who comes second gets what the first one put in;
/// - once anything was removed, a load that began before it puts nothing in: the removed
///   value may have held a change that the load did not see.
pub(super) struct LoadingCache<K, V> {
    map: DashMap<K, V>,
    removals: AtomicU64,
    /// How many stay while nobody uses them.
    room: usize,
    /// The length at which the surplus is looked for again.
    trim_at: AtomicUsize,
    unused: fn(&V) -> bool,
}

/// The moment at which a load began.
#[derive(Clone, Copy)]
pub(super) struct LoadBegan(u64);

impl<K: Eq + Hash, V: Clone> LoadingCache<K, V> {
    /// `unused` says of a value whether it may be dropped for room. It is asked under the
    /// map's own lock, so a value that it finds unused cannot be taken meanwhile.
    pub(super) fn new(room: usize, unused: fn(&V) -> bool) -> Self {
        Self {
            map: DashMap::new(),
            removals: AtomicU64::new(0),
            room,
            trim_at: AtomicUsize::new(room.saturating_mul(2)),
            unused,
        }
    }

    /// What is there. No lock of the map is held once this returned.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.map.get(key).map(|value| value.clone())
    }

    /// To be called before the first read of a load.
    pub(super) fn load_begins(&self) -> LoadBegan {
        LoadBegan(self.removals.load(Ordering::SeqCst))
    }

    /// Puts a loaded value in place, or gives back the one that is there. `None` when
    /// something was removed since the load began: load again.
    pub(super) fn insert(&self, key: K, loaded: V, began: LoadBegan) -> Option<V> {
        let kept = match self.map.entry(key) {
            Entry::Occupied(there) => there.get().clone(),
            // Under the lock that a removal of this key takes too, so it was counted by now.
            Entry::Vacant(free) if self.removals.load(Ordering::SeqCst) == began.0 => free.insert(loaded).clone(),
            Entry::Vacant(_) => return None,
        };
        // The value is in the caller's hands now, so it is not itself the surplus.
        self.trim();
        Some(kept)
    }

    /// Puts a value in place of whatever is there.
    pub(super) fn replace(&self, key: K, value: V) {
        self.map.insert(key, value);
        self.trim();
    }

    /// Removes the value of this key if `gone` says so of it.
    pub(super) fn remove_if(&self, key: K, gone: impl FnOnce(&V) -> bool) {
        if let Entry::Occupied(there) = self.map.entry(key)
            && gone(there.get())
        {
            self.removals.fetch_add(1, Ordering::SeqCst);
            there.remove();
        }
    }

    /// How many there are, and how many of them are as `such` says.
    pub(super) fn count(&self, such: impl Fn(&V) -> bool) -> (usize, usize) {
        self.map
            .iter()
            .fold((0, 0), |(all, these), value| (all + 1, these + usize::from(such(value.value()))))
    }

    /// Drops what is unused once there is twice as much as should stay.
    fn trim(&self) {
        let len = self.map.len();
        if len < self.trim_at.load(Ordering::Relaxed) {
            return;
        }
        let mut surplus = len.saturating_sub(self.room);
        self.map.retain(|_, value| {
            let drop = surplus > 0 && (self.unused)(value);
            if drop {
                surplus -= 1;
                self.removals.fetch_add(1, Ordering::SeqCst);
            }
            !drop
        });
        // With everything in use there is nothing to gain by looking at each insert.
        let next = self.room.max(self.map.len()).saturating_mul(2);
        self.trim_at.store(next, Ordering::Relaxed);
    }
}
