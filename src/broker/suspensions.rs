//! What suspends and resumes share: one at a time, and who began first.

use claviger_provider::TenantId;
use dashmap::DashMap;
use tokio::sync::{Mutex, MutexGuard};

/// Serialises suspends and resumes, and counts the suspends of each tenant: a resume that began
/// before one must not win.
#[derive(Default)]
pub(super) struct Suspensions {
    turn: Mutex<()>,
    counts: DashMap<TenantId, u64>,
}

impl Suspensions {
    /// How many suspends of the tenant have begun in this process.
    pub(super) fn seen(&self, tenant: TenantId) -> u64 {
        self.counts.get(&tenant).map_or(0, |count| *count)
    }

    /// Counts one.
    pub(super) fn count(&self, tenant: TenantId) {
        *self.counts.entry(tenant).or_default() += 1;
    }

    /// Held while the store commits, and never while waiting for the log without a bound.
    pub(super) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}
