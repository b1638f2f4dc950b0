//! The loads that are under way, so that a change is not lost between a load's read and the
//! moment its result is put into memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// Loads under way by key, and the changes that they must not miss.
///
/// A change is noted here after its commit, whether or not the row is in memory. A load that
/// began before the note may have read the row as it was before the commit, so its result is
/// dropped and the row is read again. Memory: one entry for each key that is being loaded.
pub struct Loads<K>(Mutex<State<K>>);

struct State<K> {
    /// How many changes were noted.
    changes: u64,
    under_way: HashMap<K, UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    /// How many loads of this key are under way.
    loads: usize,
    /// The number of the last change that was noted meanwhile; 0 for none.
    changed: u64,
}

/// One load under way; it ends when this is dropped.
pub struct Load<K: Eq + Hash + Copy> {
    loads: Arc<Loads<K>>,
    /// `None` when the key is not known before the read.
    key: Option<K>,
    /// How many changes had been noted when it began.
    began: u64,
}

impl<K: Eq + Hash + Copy> Loads<K> {
    pub fn new() -> Self {
        Self(Mutex::new(State {
            changes: 0,
            under_way: HashMap::new(),
        }))
    }

    /// Begins a load of this key. Call it before the first read.
    pub fn begin(self: &Arc<Self>, key: K) -> Load<K> {
        let mut state = self.0.lock();
        state.under_way.entry(key).or_default().loads += 1;
        Load {
            loads: Arc::clone(self),
            key: Some(key),
            began: state.changes,
        }
    }

    /// Begins a load of a row whose key is not known yet (a read by name). A change of any key
    /// makes it stale.
    pub fn begin_unknown(self: &Arc<Self>) -> Load<K> {
        Load {
            loads: Arc::clone(self),
            key: None,
            began: self.0.lock().changes,
        }
    }

    /// Notes a committed change. Loads of the key that began before this call are stale.
    pub fn note_change(&self, key: &K) {
        let mut state = self.0.lock();
        state.changes += 1;
        let changes = state.changes;
        if let Some(under_way) = state.under_way.get_mut(key) {
            under_way.changed = changes;
        }
    }

    /// How many keys are being loaded.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().under_way.len()
    }
}

impl<K: Eq + Hash + Copy> Load<K> {
    /// Whether a change was noted since the load began.
    pub(super) fn is_stale(&self) -> bool {
        let state = self.loads.0.lock();
        let last = match self.key {
            Some(key) => state.under_way.get(&key).map_or(0, |under_way| under_way.changed),
            None => state.changes,
        };
        last > self.began
    }
}

impl<K: Eq + Hash + Copy> Drop for Load<K> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut state = self.loads.0.lock();
        if let Some(under_way) = state.under_way.get_mut(&key) {
            under_way.loads -= 1;
            if under_way.loads == 0 {
                state.under_way.remove(&key);
            }
        }
    }
}
