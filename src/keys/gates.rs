//! The last check before a response is sent: whether key or connection have changed since the
//! response was begun.

use std::sync::Arc;

use claviger_provider::{ConnectionId, Id, KeyId, TenantId};

use super::entry::{ConnectionEntry, ConnectionView, Gone, KeyEntry, Reach};
use super::view::KeyView;
use crate::store::model::Connection;

/// The epochs of a key, and of the connection of one of its versions, when the making of an answer
/// began. It keeps both in memory.
pub struct EpochGuard {
    key: Arc<KeyEntry>,
    connection: Arc<ConnectionEntry>,
    key_epoch: u64,
    connection_epoch: u64,
}

impl EpochGuard {
    /// For an answer that is made from these rows of a key and a connection. A change since the
    /// rows were read is detected, too.
    pub fn new(key: &Arc<KeyEntry>, view: &KeyView, connection: &Arc<ConnectionEntry>, row: &Connection) -> Self {
        Self {
            key: Arc::clone(key),
            connection: Arc::clone(connection),
            key_epoch: view.key.epoch,
            connection_epoch: row.epoch,
        }
    }

    /// The key.
    pub fn key(&self) -> KeyId {
        self.key.id()
    }

    /// The key's tenant.
    pub fn tenant(&self) -> TenantId {
        self.key.tenant()
    }

    /// The connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection.id()
    }

    /// The ids of the key and the connection.
    pub fn ids(&self) -> [[u8; 16]; 2] {
        [*self.key().bytes(), *self.connection().bytes()]
    }

    /// The key's epoch when the answer was begun.
    pub const fn key_epoch(&self) -> u64 {
        self.key_epoch
    }

    /// The connection's epoch when the answer was begun.
    pub const fn connection_epoch(&self) -> u64 {
        self.connection_epoch
    }

    /// Whether these rows have the epochs of this guard.
    fn is_at(&self, key: Option<&KeyView>, connection: &Reach) -> bool {
        key.is_some_and(|view| view.key.epoch == self.key_epoch) && connection.row.epoch == self.connection_epoch
    }

    /// Whether neither epoch has changed.
    pub fn holds(&self) -> bool {
        with_gates_held(std::slice::from_ref(self), || ()).is_ok()
    }

    /// The key and the connection as they are now.
    pub fn now(&self) -> (Result<KeyView, Gone>, ConnectionView) {
        (self.key.view(), self.connection.view())
    }
}

/// Runs `hand_over` while the gates of all guarded keys and connections are held shared, but
/// only if no epoch has changed. `hand_over` must not block: a disable waits for it.
///
/// Gates are always taken in the same order (keys by id, then connections by id), and a change
/// takes only one, so readers and waiting changes cannot deadlock.
///
/// # Errors
/// The indices of the guards whose epochs have changed; `hand_over` did not run.
pub fn with_gates_held<R>(guards: &[EpochGuard], hand_over: impl FnOnce() -> R) -> Result<R, Vec<usize>> {
    // Nearly every answer is about one key, which needs no sorted lists.
    if let [guard] = guards {
        let key = guard.key.rows().read();
        let connection = guard.connection.reach().read();
        return if guard.is_at(key.as_ref(), &connection) {
            Ok(hand_over())
        } else {
            Err(vec![0])
        };
    }
    let mut keys: Vec<&Arc<KeyEntry>> = guards.iter().map(|guard| &guard.key).collect();
    keys.sort_unstable_by_key(|entry| place(entry.id(), entry));
    keys.dedup_by(|a, b| Arc::ptr_eq(a, b));
    let mut connections: Vec<&Arc<ConnectionEntry>> = guards.iter().map(|guard| &guard.connection).collect();
    connections.sort_unstable_by_key(|entry| place(entry.id(), entry));
    connections.dedup_by(|a, b| Arc::ptr_eq(a, b));

    let keys: Vec<_> = keys.iter().map(|entry| (place(entry.id(), entry), entry.rows().read())).collect();
    let connections: Vec<_> = connections
        .iter()
        .map(|entry| (place(entry.id(), entry), entry.reach().read()))
        .collect();
    let unchanged = |guard: &EpochGuard| {
        let key = place(guard.key.id(), &guard.key);
        let connection = place(guard.connection.id(), &guard.connection);
        let key = keys.binary_search_by_key(&key, |(at, _)| *at).map(|at| &keys[at].1);
        let connection = connections
            .binary_search_by_key(&connection, |(at, _)| *at)
            .map(|at| &connections[at].1);
        key.is_ok_and(|key| connection.is_ok_and(|connection| guard.is_at(key.as_ref(), connection)))
    };
    let changed: Vec<usize> = guards
        .iter()
        .enumerate()
        .filter(|(_, guard)| !unchanged(guard))
        .map(|(at, _)| at)
        .collect();
    if changed.is_empty() { Ok(hand_over()) } else { Err(changed) }
}

/// The place of an entry in the order in which gates are taken. The address is part of it, because
/// a key that was detached and adopted again has two entries with the same id while somebody holds
/// the first one, which is closed.
fn place<I, E>(id: I, entry: &Arc<E>) -> (I, usize) {
    (id, Arc::as_ptr(entry).addr())
}
