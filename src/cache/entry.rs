//! One entry, its lifetime, and a tenant's share of the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claviger_guarded::LockedBytes;
use claviger_provider::{ConnectionId, KeyId, Secret, TenantId};
use dashmap::DashMap;
use parking_lot::RwLock;

use super::{Limits, MAX_AGE, Rules};
use crate::keys::EpochGuard;

/// The memory of an entry beside its bytes: key, handle and moka's bookkeeping.
const OVERHEAD: usize = 320;

/// An unwrapped key in locked memory.
pub(super) struct Entry {
    key: KeyId,
    connection: ConnectionId,
    version: u32,
    rules: Rules,
    weight: u32,
    begun: Instant,
    /// The last use, in microseconds after `begun`.
    used_at: AtomicU64,
    uses: AtomicU32,
    held: RwLock<Option<Held>>,
}

/// What an entry releases when it is wiped: the bytes with their slot in the arena, and the
/// tenant's share. The entry itself is freed later, by moka.
struct Held {
    bytes: LockedBytes,
    _share: Share,
}

impl Entry {
    /// `begun` is when the load began, before the provider was asked.
    pub(super) fn new(epoch_guard: &EpochGuard, bytes: LockedBytes, version: u32, rules: Rules, begun: Instant, share: Share) -> Self {
        Self {
            key: epoch_guard.key(),
            connection: epoch_guard.connection(),
            version,
            rules: Rules {
                max_age: rules.max_age.min(MAX_AGE),
                ..rules
            },
            weight: u32::try_from(share.bytes).unwrap_or(u32::MAX),
            begun,
            used_at: AtomicU64::new(micros(begun.elapsed())),
            uses: AtomicU32::new(0),
            held: RwLock::new(Some(Held { bytes, _share: share })),
        }
    }

    pub(super) const fn key(&self) -> KeyId {
        self.key
    }

    pub(super) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    pub(super) const fn weight(&self) -> u32 {
        self.weight
    }

    /// Copies the bytes out, unless the entry is over or was wiped. The last use that the
    /// rules allow wipes them.
    pub(super) fn take_use(&self) -> Option<(Secret, u32)> {
        let now = Instant::now();
        if self.is_over(now) {
            return None;
        }
        let before = self.uses.fetch_add(1, Ordering::Relaxed);
        if before >= self.rules.max_uses {
            return None;
        }
        let plaintext = self.held.read().as_ref().and_then(|held| held.bytes.with(Secret::copy_from));
        self.used_at
            .fetch_max(micros(now.saturating_duration_since(self.begun)), Ordering::Relaxed);
        if before + 1 == self.rules.max_uses {
            self.wipe();
        }
        plaintext.map(|plaintext| (plaintext, self.version))
    }

    /// Whether the entry's age, idle time or uses are over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.begun);
        let idle = age.saturating_sub(Duration::from_micros(self.used_at.load(Ordering::Relaxed)));
        age >= self.rules.max_age || idle >= self.rules.max_idle || self.uses.load(Ordering::Relaxed) >= self.rules.max_uses
    }

    /// Zeroes the bytes and releases their slot and the tenant's share. Repeating it does nothing.
    pub(super) fn wipe(&self) {
        if let Some(held) = self.held.write().take() {
            held.bytes.wipe();
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> Option<LockedBytes> {
        self.held.read().as_ref().map(|held| held.bytes.clone())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Counts the entries of each tenant, so that one tenant cannot evict the others' entries. A
/// tenant that has used its share gets no new entries until some of its own are dropped.
pub(super) struct TenantBounds {
    entries: usize,
    bytes: usize,
    taken: DashMap<TenantId, Taken>,
}

#[derive(Default)]
struct Taken {
    entries: usize,
    bytes: usize,
}

/// The part of a tenant's share that one entry uses; released when dropped.
pub(super) struct Share {
    bounds: Arc<TenantBounds>,
    tenant: TenantId,
    bytes: usize,
}

impl TenantBounds {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            entries: limits.entries_per_tenant,
            bytes: limits.bytes_per_tenant,
            taken: DashMap::new(),
        }
    }

    /// Takes a share for a value of `len` bytes, if the tenant has one left.
    pub(super) fn take(self: &Arc<Self>, tenant: TenantId, len: usize) -> Option<Share> {
        let bytes = len.saturating_add(OVERHEAD);
        let mut taken = self.taken.entry(tenant).or_default();
        if taken.entries >= self.entries || bytes > self.bytes.saturating_sub(taken.bytes) {
            return None;
        }
        taken.entries += 1;
        taken.bytes += bytes;
        Some(Share {
            bounds: Arc::clone(self),
            tenant,
            bytes,
        })
    }

    /// How many entries have a share, over all tenants.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.iter().map(|taken| taken.entries).sum()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.bounds.taken.remove_if_mut(&self.tenant, |_, taken| {
            taken.entries = taken.entries.saturating_sub(1);
            taken.bytes = taken.bytes.saturating_sub(self.bytes);
            taken.entries == 0
        });
    }
}
