//! Revocations that the store could not take, which every load of their object applies.
//!
//! An entry may leave memory while the store still has the row from before its revocation. So the
//! revocation is kept here, by id, until the store has it or it is lifted. There is at most one for each
//! object, so the tenants' quotas bound the number, and none takes a place in the caches.

use claviger_provider::{ConnectionId, KeyId, TenantId};
use dashmap::DashMap;

use crate::store::model::{Connection, Key};
use crate::store::rules;

/// What a row must look like at least.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// How often the object's revocations had been lifted.
    lifts: u64,
    /// When it was revoked, in Unix microseconds.
    at: i64,
}

/// The revocations of keys and connections that the store lacks.
#[derive(Debug, Default)]
pub(super) struct Unstored {
    keys: DashMap<(TenantId, KeyId), Mark>,
    connections: DashMap<ConnectionId, Mark>,
}

impl Unstored {
    /// Keeps a disable. To be called before loads under way are told of it.
    pub(super) fn keep_key(&self, row: &Key) {
        let mark = Mark {
            lifts: row.lifts,
            at: row.updated,
        };
        self.keys.insert((row.tenant, row.id), mark);
    }

    /// Keeps a sever, as [`Unstored::keep_key`].
    pub(super) fn keep_connection(&self, row: &Connection) {
        let mark = Mark {
            lifts: row.lifts,
            at: row.updated,
        };
        self.connections.insert(row.id, mark);
    }

    /// Forgets a disable: the store has it, or the key was enabled.
    pub(super) fn forget_key(&self, tenant: TenantId, id: KeyId) {
        self.keys.remove(&(tenant, id));
    }

    /// Forgets a sever, as [`Unstored::forget_key`].
    pub(super) fn forget_connection(&self, id: ConnectionId) {
        self.connections.remove(&id);
    }

    /// Disables a loaded row whose disable the store lacks.
    pub(super) fn apply_to_key(&self, row: &mut Key) {
        if let Some(mark) = self.keys.get(&(row.tenant, row.id))
            && row.lifts <= mark.lifts
        {
            rules::set_disabled(row, true, mark.at);
            row.lifts = mark.lifts;
        }
    }

    /// Severs a loaded row whose sever the store lacks.
    pub(super) fn apply_to_connection(&self, row: &mut Connection) {
        if let Some(mark) = self.connections.get(&row.id)
            && row.lifts <= mark.lifts
        {
            rules::set_severed(row, true, mark.at);
            row.lifts = mark.lifts;
        }
    }
}
