//! One key and one connection in memory, with the gates that answers pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use claviger_provider::{ConnectionId, Kek, KeyId, Pipeline, ProviderKeyRef, ProviderKind, TenantId};
use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::store::model::{Connection, Key, KeyVersion};

/// A key as it was at one moment.
#[derive(Debug, Clone)]
pub struct KeyView {
    /// The row.
    pub key: Arc<Key>,
    /// Every version, oldest first.
    pub versions: Arc<[KeyVersion]>,
}

impl KeyView {
    /// The version that wraps, if the store is whole.
    pub fn primary(&self) -> Option<&KeyVersion> {
        self.version(self.key.primary_version)
    }

    /// A version by our number.
    pub fn version(&self, number: u32) -> Option<&KeyVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version that wraps, as operations on its provider name it.
    pub fn kek(&self) -> Option<Kek> {
        let version = self.primary()?;
        let mut kek = self.key.kek();
        kek.key.id.clone_from(&version.provider_key);
        kek.key.version.clone_from(&version.provider_version);
        Some(kek)
    }

    /// Every provider key that stands behind a version, the newest first: more than one where
    /// a rotation makes a new key.
    pub fn provider_keys(&self) -> Vec<Kek> {
        let mut keks: Vec<Kek> = Vec::new();
        for version in self.versions.iter().rev() {
            if keks.iter().all(|kek| kek.key.id != version.provider_key) {
                let mut kek = self.key.kek();
                kek.key.id.clone_from(&version.provider_key);
                keks.push(kek);
            }
        }
        keks
    }

    /// The version that a recipient names, in the provider's words. A version that the
    /// provider does not tell (an empty one) matches on the key id alone.
    pub fn matching(&self, provider: ProviderKind, key: &ProviderKeyRef) -> Option<&KeyVersion> {
        if provider != self.key.provider {
            return None;
        }
        // The newest of those that match: a provider that tells no version has used that one.
        self.versions.iter().rev().find(|version| {
            version.provider_key == key.id && (version.provider_version.is_empty() || version.provider_version == key.version)
        })
    }
}

/// A connection as it was at one moment.
pub type ConnectionView = Arc<Connection>;

/// A connection's row, and the way to the provider that was made from it.
struct Reach {
    row: ConnectionView,
    pipeline: Pipeline,
}

/// A connection in memory.
pub struct ConnectionEntry {
    id: ConnectionId,
    tenant: TenantId,
    gate: RwLock<Reach>,
    change: Mutex<()>,
    revocations: RevocationCounter,
}

/// How often something was revocation off since it was loaded, also when it was revocation off already:
/// what undoes a revocation tells by it that another one was asked for after it began.
#[derive(Default)]
pub struct RevocationCounter(AtomicU64);

impl RevocationCounter {
    /// Their number.
    pub fn seen(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    /// Counts one; under the `change` lock.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl ConnectionEntry {
    pub(super) fn new(connection: Connection, pipeline: Pipeline) -> Self {
        Self {
            id: connection.id,
            tenant: connection.tenant,
            gate: RwLock::new(Reach {
                row: Arc::new(connection),
                pipeline,
            }),
            change: Mutex::new(()),
            revocations: RevocationCounter::default(),
        }
    }

    /// Its id.
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// Whose it is.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The way to the provider, as it is now. Who goes it to the end while it is replaced
    /// comes through still.
    pub fn pipeline(&self) -> Pipeline {
        self.gate.read().pipeline.clone()
    }

    /// As it is now.
    pub fn view(&self) -> ConnectionView {
        Arc::clone(&self.gate.read().row)
    }

    /// Changes of one connection's row happen one after the other. It is held for as long as
    /// the store takes, and never while log or provider are waited for: a sever waits for it.
    pub const fn change(&self) -> &Mutex<()> {
        &self.change
    }

    /// How often it was severed.
    pub const fn revocations(&self) -> &RevocationCounter {
        &self.revocations
    }

    /// Takes the gate exclusively and puts a committed row in place: no answer that was
    /// made under the old one is handed over after this returns.
    pub fn put(&self, connection: Connection) {
        self.gate.write().row = Arc::new(connection);
    }

    /// As [`ConnectionEntry::put`], with a new way to the provider: the next call goes it.
    pub fn put_with(&self, connection: Connection, pipeline: Pipeline) {
        *self.gate.write() = Reach {
            row: Arc::new(connection),
            pipeline,
        };
    }
}

/// A key in memory.
pub struct KeyEntry {
    id: KeyId,
    tenant: TenantId,
    connection: Arc<ConnectionEntry>,
    gate: RwLock<Option<KeyView>>,
    change: Mutex<()>,
    at_provider: Mutex<()>,
    revocations: RevocationCounter,
}

/// The key was detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

impl KeyEntry {
    pub(super) fn new(view: KeyView, connection: Arc<ConnectionEntry>) -> Self {
        Self {
            id: view.key.id,
            tenant: view.key.tenant,
            connection,
            gate: RwLock::new(Some(view)),
            change: Mutex::new(()),
            at_provider: Mutex::new(()),
            revocations: RevocationCounter::default(),
        }
    }

    /// Its id.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// Whose it is.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The connection it is reached through.
    pub const fn connection(&self) -> &Arc<ConnectionEntry> {
        &self.connection
    }

    /// As it is now.
    ///
    /// # Errors
    /// When it was detached.
    pub fn view(&self) -> Result<KeyView, Gone> {
        self.gate.read().clone().ok_or(Gone)
    }

    /// Changes of one key's row happen one after the other. It is held for as long as the
    /// store takes, and never while log or provider are waited for: a disable waits for it.
    pub const fn change(&self) -> &Mutex<()> {
        &self.change
    }

    /// Changes of one key at its provider happen one after the other. Taken before
    /// [`KeyEntry::change`].
    pub const fn at_provider(&self) -> &Mutex<()> {
        &self.at_provider
    }

    /// How often it was disabled.
    pub const fn revocations(&self) -> &RevocationCounter {
        &self.revocations
    }

    /// Takes the gate exclusively and puts committed rows in place: no answer that was
    /// made under the old ones is handed over after this returns. A detached key stays so.
    pub fn put(&self, key: Key, versions: Option<Vec<KeyVersion>>) {
        if let Some(view) = self.gate.write().as_mut() {
            view.key = Arc::new(key);
            if let Some(versions) = versions {
                view.versions = versions.into();
            }
        }
    }

    /// Takes the gate exclusively and marks the key as detached.
    pub(super) fn close(&self) {
        *self.gate.write() = None;
    }

    /// Remembers the epochs under which an answer is being made.
    ///
    /// # Errors
    /// When it was detached.
    pub fn epoch_guard(self: &Arc<Self>) -> Result<EpochGuard, Gone> {
        let key_epoch = self.view()?.key.epoch;
        let connection_epoch = self.connection.view().epoch;
        Ok(EpochGuard {
            entry: Arc::clone(self),
            key_epoch,
            connection_epoch,
        })
    }
}

/// The epochs of a key and its connection when the making of an answer began.
pub struct EpochGuard {
    entry: Arc<KeyEntry>,
    key_epoch: u64,
    connection_epoch: u64,
}

impl EpochGuard {
    /// The key.
    pub fn key(&self) -> KeyId {
        self.entry.id
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.entry.tenant
    }

    /// The key's connection.
    pub fn connection(&self) -> ConnectionId {
        self.entry.connection.id
    }

    /// The key's epoch then.
    pub const fn key_epoch(&self) -> u64 {
        self.key_epoch
    }

    /// The connection's epoch then.
    pub const fn connection_epoch(&self) -> u64 {
        self.connection_epoch
    }

    /// Whether these are of the epochs that it remembers.
    fn is_at(&self, key: Option<&KeyView>, connection: &Reach) -> bool {
        key.is_some_and(|view| view.key.epoch == self.key_epoch) && connection.row.epoch == self.connection_epoch
    }

    /// Whether neither has moved on.
    pub fn holds(&self) -> bool {
        with_gates_held(std::slice::from_ref(self), || ()).is_ok()
    }

    /// What the key and its connection have become since.
    pub fn now(&self) -> (Result<KeyView, Gone>, ConnectionView) {
        (self.entry.view(), self.entry.connection.view())
    }
}

/// Runs `hand_over` while the gates of all watched keys and connections are held shared,
/// but only if no epoch has moved on. `hand_over` must not block: a disable waits for it.
///
/// Gates are taken in one order everywhere (keys by id, then connections by id) and a
/// change takes only one, so that readers and waiting changes cannot block in a circle.
///
/// # Errors
/// The places of those that have moved on; `hand_over` did not run then.
pub fn with_gates_held<R>(epoch_guards: &[EpochGuard], hand_over: impl FnOnce() -> R) -> Result<R, Vec<usize>> {
    // Nearly every answer is about one key, which needs no lists to be in order.
    if let [epoch_guard] = epoch_guards {
        let key = epoch_guard.entry.gate.read();
        let connection = epoch_guard.entry.connection.gate.read();
        return if epoch_guard.is_at(key.as_ref(), &connection) {
            Ok(hand_over())
        } else {
            Err(vec![0])
        };
    }
    let mut keys: Vec<&Arc<KeyEntry>> = epoch_guards.iter().map(|epoch_guard| &epoch_guard.entry).collect();
    keys.sort_unstable_by_key(|entry| place(entry.id, entry));
    keys.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let mut connections: Vec<&Arc<ConnectionEntry>> = keys.iter().map(|entry| &entry.connection).collect();
    connections.sort_unstable_by_key(|entry| place(entry.id, entry));
    connections.dedup_by(|a, b| Arc::ptr_eq(a, b));

    let keys: Vec<_> = keys.iter().map(|entry| (place(entry.id, entry), entry.gate.read())).collect();
    let connections: Vec<_> = connections
        .iter()
        .map(|entry| (place(entry.id, entry), entry.gate.read()))
        .collect();
    let same = |epoch_guard: &EpochGuard| {
        let key = place(epoch_guard.entry.id, &epoch_guard.entry);
        let connection = place(epoch_guard.entry.connection.id, &epoch_guard.entry.connection);
        let key = keys.binary_search_by_key(&key, |(at, _)| *at).map(|at| &keys[at].1);
        let connection = connections
            .binary_search_by_key(&connection, |(at, _)| *at)
            .map(|at| &connections[at].1);
        key.is_ok_and(|key| connection.is_ok_and(|connection| epoch_guard.is_at(key.as_ref(), connection)))
    };
    let moved: Vec<usize> = epoch_guards
        .iter()
        .enumerate()
        .filter(|(_, epoch_guard)| !same(epoch_guard))
        .map(|(at, _)| at)
        .collect();
    if moved.is_empty() { Ok(hand_over()) } else { Err(moved) }
}

/// An entry's place in the order of gates. A key that was detached and adopted again has two
/// entries of one id for as long as somebody holds the first.
fn place<I, E>(id: I, entry: &Arc<E>) -> (I, usize) {
    (id, Arc::as_ptr(entry).addr())
}

#[cfg(test)]
mod tests;
