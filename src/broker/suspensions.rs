//! State that suspends and resumes share: a lock for one at a time, and which of them began first.

use claviger_provider::TenantId;
use dashmap::DashMap;
use tokio::sync::{Mutex, MutexGuard};

/// Serialises suspends and resumes, and counts the suspends of each tenant, so that a resume that
/// began before a suspend fails.
#[derive(Default)]
pub(super) struct Suspensions {
    turn: Mutex<()>,
    tenants: DashMap<TenantId, Seen>,
}

/// What this process knows of a tenant's suspends and resumes.
#[derive(Default)]
struct Seen {
    suspends: u64,
    lifts: u64,
}

impl Suspensions {
    /// How many suspends of the tenant have begun in this process.
    pub(super) fn seen(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).map_or(0, |seen| seen.suspends)
    }

    /// Counts one.
    pub(super) fn count(&self, tenant: TenantId) {
        self.tenants.entry(tenant).or_default().suspends += 1;
    }

    /// How often the tenant's suspends were lifted: `stored`, or more where a commit failed that may
    /// still be found after a crash.
    pub(super) fn lifts(&self, tenant: TenantId, stored: u64) -> u64 {
        self.tenants.get(&tenant).map_or(stored, |seen| seen.lifts.max(stored))
    }

    /// Notes a resume that is about to be committed.
    pub(super) fn note_lift(&self, tenant: TenantId, lifts: u64) {
        self.tenants.entry(tenant).or_default().lifts = lifts;
    }

    /// As [`Suspensions::turn`]; `None` if it is taken.
    pub(super) fn turn_now(&self) -> Option<MutexGuard<'_, ()>> {
        self.turn.try_lock().ok()
    }

    /// Held while the store commits, and never while waiting for the log without a bound.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}
