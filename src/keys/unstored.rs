//! Revocations that the store could not take, which every load of their object applies.
//!
//! An entry may leave memory while the store still has the row from before its revocation. So the
//! revocation is kept here, by id, until the store has it or it is lifted. There is at most one for each
//! object, so the tenants' quotas bound the number, and none takes a place in the caches.

use std::hash::Hash;

use claviger_provider::{ConnectionId, KeyId, TenantId};
use dashmap::DashMap;

use crate::store::model::{Connection, Key};
use crate::store::rules;

/// A row that a revocation changes.
pub(super) trait Revocable {
    /// What names the row.
    type Id: Eq + Hash;

    fn id(&self) -> Self::Id;
    /// How often the object's revocations had been lifted.
    fn lifts(&self) -> u64;
    /// The time of the last change, in Unix microseconds.
    fn updated(&self) -> i64;
    /// Applies a revocation of this time, which this many lifts came before.
    fn revoke(&mut self, at: i64, lifts: u64);
}

impl Revocable for Key {
    type Id = (TenantId, KeyId);

    fn id(&self) -> Self::Id {
        (self.tenant, self.id)
    }

    fn lifts(&self) -> u64 {
        self.lifts
    }

    fn updated(&self) -> i64 {
        self.updated
    }

    fn revoke(&mut self, at: i64, lifts: u64) {
        rules::set_disabled(self, true, at);
        self.lifts = lifts;
    }
}

impl Revocable for Connection {
    type Id = ConnectionId;

    fn id(&self) -> Self::Id {
        self.id
    }

    fn lifts(&self) -> u64 {
        self.lifts
    }

    fn updated(&self) -> i64 {
        self.updated
    }

    fn revoke(&mut self, at: i64, lifts: u64) {
        rules::set_severed(self, true, at);
        self.lifts = lifts;
    }
}

/// What a row must look like at least.
#[derive(Debug, Clone, Copy)]
struct Mark {
    lifts: u64,
    at: i64,
}

/// The revocations of one kind of row that the store lacks.
#[derive(Debug)]
pub(super) struct Unstored<R: Revocable>(DashMap<R::Id, Mark>);

impl<R: Revocable> Default for Unstored<R> {
    fn default() -> Self {
        Self(DashMap::new())
    }
}

impl<R: Revocable> Unstored<R> {
    /// Keeps a revocation, which has the row become this. To be called before loads under way are told of it.
    pub(super) fn keep(&self, row: &R) {
        let mark = Mark {
            lifts: row.lifts(),
            at: row.updated(),
        };
        self.0.insert(row.id(), mark);
    }

    /// Forgets a revocation: the store has it, or it was lifted.
    pub(super) fn forget(&self, id: &R::Id) {
        self.0.remove(id);
    }

    /// Revokes a loaded row whose revocation the store lacks.
    pub(super) fn apply(&self, row: &mut R) {
        if let Some(mark) = self.0.get(&row.id())
            && row.lifts() <= mark.lifts
        {
            row.revoke(mark.at, mark.lifts);
        }
    }
}
