//! The remote side of the fake.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use claviger_provider::xaes::{KEY_LEN, XaesKey};
use claviger_provider::{KeyState, Secret};
use parking_lot::Mutex;

use crate::Faults;

/// The remote side: keys and faults. It stays when its connections end, as a real service does. Its
/// keys live in memory.
#[derive(Default)]
pub struct FakeServer {
    faults: Arc<Faults>,
    pub(crate) keys: Mutex<HashMap<String, FakeKey>>,
    named: Mutex<HashMap<String, Arc<FakeServer>>>,
}

/// A key of the server.
pub(crate) struct FakeKey {
    pub(crate) versions: Vec<Arc<XaesKey>>,
    pub(crate) state: KeyState,
    /// Whether the service fails to use this key, and only this one.
    pub(crate) broken: bool,
    /// The numbers of versions that are disabled alone.
    pub(crate) disabled: BTreeSet<usize>,
    /// The id that `create_key` gave it. With rotation by new keys, its successors are `id.2`
    /// and so on.
    pub(crate) origin: String,
}

impl FakeServer {
    /// A server without keys and faults.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// A second server with this name: it has its own keys, faults and journal. It is created at
    /// the name's first use, so that tests with one gateway need not share a server.
    pub fn named(&self, name: &str) -> Arc<Self> {
        Arc::clone(self.named.lock().entry(name.to_owned()).or_default())
    }

    /// The server's faults and its journal.
    pub fn faults(&self) -> &Arc<Faults> {
        &self.faults
    }

    /// Creates a key outside of the gateway, for tests of adoption.
    pub fn make_key(&self, id: &str) {
        self.keys.lock().insert(id.to_owned(), FakeKey::new(id));
    }

    /// Removes a key, as its owner may.
    pub fn remove_key(&self, id: &str) {
        self.keys.lock().remove(id);
    }

    /// Adds a version to a key, as its owner may. Older versions still wrap where they are named. Returns whether
    /// the key exists.
    pub fn rotate_key(&self, id: &str) -> bool {
        let mut keys = self.keys.lock();
        let Some(key) = keys.get_mut(id) else { return false };
        key.versions.push(random_key());
        true
    }

    /// Enables or disables one version of a key, as its owner may. Returns whether it exists.
    pub fn change_version(&self, id: &str, version: usize, enabled: bool) -> bool {
        let mut keys = self.keys.lock();
        let key = keys.get_mut(id).filter(|key| (1..=key.versions.len()).contains(&version));
        let Some(key) = key else { return false };
        if enabled {
            key.disabled.remove(&version);
        } else {
            key.disabled.insert(version);
        }
        true
    }

    /// Lets the service fail whenever it is to use a key, or use it again. Returns whether the key exists.
    pub fn break_key(&self, id: &str, broken: bool) -> bool {
        self.keys.lock().get_mut(id).map(|key| key.broken = broken).is_some()
    }

    /// Changes a key's state, as its owner may. Returns whether the key exists.
    pub fn change_state(&self, id: &str, state: KeyState) -> bool {
        self.keys.lock().get_mut(id).map(|key| key.state = state).is_some()
    }
}

impl FakeKey {
    pub(crate) fn new(origin: &str) -> Self {
        Self {
            versions: vec![random_key()],
            state: KeyState::Enabled,
            broken: false,
            disabled: BTreeSet::new(),
            origin: origin.to_owned(),
        }
    }
}

/// A new random key.
pub(crate) fn random_key() -> Arc<XaesKey> {
    #[allow(clippy::expect_used, reason = "for tests only, and this length is always valid")]
    let key = XaesKey::new(&Secret::random(KEY_LEN)).expect("a key of 32 bytes");
    Arc::new(key)
}
