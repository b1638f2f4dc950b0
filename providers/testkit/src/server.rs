//! The remote side of the fake.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use claviger_provider::xaes::{KEY_LEN, XaesKey};
use claviger_provider::{Exposure, KeyState, Secret};
use parking_lot::Mutex;

use crate::Faults;

/// When keys were created, in Unix seconds.
const LONG_AGO: i64 = 1_700_000_000;

/// The remote side: keys and faults. It stays when its connections end, as a real service does. Its
/// keys live in memory.
#[derive(Default)]
pub struct FakeServer {
    faults: Arc<Faults>,
    pub(crate) keys: Mutex<HashMap<String, FakeKey>>,
    named: Mutex<HashMap<String, Arc<FakeServer>>>,
    /// For how many calls a key that a connection creates is not found.
    hides_new_keys: AtomicU32,
}

/// A key of the server.
pub(crate) struct FakeKey {
    pub(crate) versions: Vec<Arc<XaesKey>>,
    pub(crate) state: KeyState,
    /// Whether the service fails to use this key, and only this one.
    pub(crate) broken: bool,
    /// The number of the last version whose material can leave the service, as that of those before it.
    pub(crate) exposed: usize,
    /// The numbers of versions that are disabled alone.
    pub(crate) disabled: BTreeSet<usize>,
    /// The id that `create_key` gave it. With rotation by new keys, its successors are `id.2`
    /// and so on.
    pub(crate) origin: String,
    /// Its creation in Unix seconds.
    pub(crate) created: i64,
    /// How many calls do not find it yet.
    pub(crate) hidden: u32,
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

    /// The next `calls` with each key that connections create from now on do not find it, as at an eventually
    /// consistent service. Such keys tell when they were created.
    pub fn hide_new_keys(&self, calls: u32) {
        self.hides_new_keys.store(calls, Ordering::SeqCst);
    }

    /// A key that a connection creates.
    pub(crate) fn new_key(&self, origin: &str) -> FakeKey {
        let (new, hidden) = (FakeKey::new(origin), self.hides_new_keys.load(Ordering::SeqCst));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        match hidden {
            0 => new,
            _ => FakeKey {
                created: i64::try_from(since).unwrap_or(i64::MAX),
                hidden,
                ..new
            },
        }
    }

    /// Whether a call does not find a key yet. Counts it.
    pub(crate) fn hides(&self, id: &str) -> bool {
        match self.keys.lock().get_mut(id) {
            Some(key) if key.hidden > 0 => {
                key.hidden -= 1;
                true
            }
            Some(_) | None => false,
        }
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

    /// Makes the versions that a key has now exportable and allows their backup in plaintext, as its owner may. Returns
    /// whether the key exists.
    pub fn expose_key(&self, id: &str) -> bool {
        let mut keys = self.keys.lock();
        keys.get_mut(id).map(|key| key.exposed = key.versions.len()).is_some()
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
    /// How the material of a version can leave the service.
    pub(crate) const fn exposure_of(&self, version: usize) -> Exposure {
        let is_exposed = version <= self.exposed;
        Exposure {
            exportable: is_exposed,
            plaintext_backup: is_exposed,
        }
    }

    pub(crate) fn new(origin: &str) -> Self {
        Self {
            versions: vec![random_key()],
            state: KeyState::Enabled,
            broken: false,
            exposed: 0,
            disabled: BTreeSet::new(),
            origin: origin.to_owned(),
            created: LONG_AGO,
            hidden: 0,
        }
    }
}

/// A new random key.
pub(crate) fn random_key() -> Arc<XaesKey> {
    #[allow(clippy::expect_used, reason = "for tests only, and this length is always valid")]
    let key = XaesKey::new(&Secret::random(KEY_LEN)).expect("a key of 32 bytes");
    Arc::new(key)
}
