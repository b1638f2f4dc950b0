//! One entry, its lifetime, and a tenant's share of the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claviger_guarded::LockedBytes;
use claviger_provider::{ConnectionId, KeyId, Secret, TenantId};
use dashmap::DashMap;
use moka::Expiry;

use super::{CacheKey, Limits, Rules};
use crate::keys::Watch;

/// What an entry weighs beside its bytes: key, handle and moka's own bookkeeping.
const OVERHEAD: usize = 320;

/// An unwrapped key in locked memory.
pub(super) struct Entry {
    key: KeyId,
    connection: ConnectionId,
    bytes: LockedBytes,
    version: u32,
    rules: Rules,
    begun: Instant,
    uses: AtomicU32,
    share: Share,
}

impl Entry {
    pub(super) fn new(watch: &Watch, bytes: LockedBytes, version: u32, rules: Rules, begun: Instant, share: Share) -> Self {
        Self {
            key: watch.key(),
            connection: watch.connection(),
            bytes,
            version,
            rules,
            begun,
            uses: AtomicU32::new(0),
            share,
        }
    }

    pub(super) const fn key(&self) -> KeyId {
        self.key
    }

    pub(super) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    pub(super) fn weight(&self) -> u32 {
        u32::try_from(self.share.bytes).unwrap_or(u32::MAX)
    }

    /// Copies the bytes out, unless the entry is too old, used up or wiped meanwhile.
    pub(super) fn take_use(&self) -> Option<(Secret, u32)> {
        if self.begun.elapsed() >= self.rules.max_age || self.uses.fetch_add(1, Ordering::Relaxed) >= self.rules.max_uses {
            return None;
        }
        self.bytes.with(Secret::copy_from).map(|plaintext| (plaintext, self.version))
    }

    pub(super) fn wipe(&self) {
        self.bytes.wipe();
    }

    fn left(&self, now: Instant) -> Duration {
        (self.begun + self.rules.max_age).saturating_duration_since(now)
    }
}

/// Absolute age from before the provider was asked, and idle time, whichever ends first.
pub(super) struct Lifetime;

impl Expiry<CacheKey, Arc<Entry>> for Lifetime {
    fn expire_after_create(&self, _: &CacheKey, entry: &Arc<Entry>, now: Instant) -> Option<Duration> {
        Some(entry.left(now).min(entry.rules.max_idle))
    }

    fn expire_after_read(&self, _: &CacheKey, entry: &Arc<Entry>, now: Instant, _: Option<Duration>, _: Instant) -> Option<Duration> {
        Some(entry.left(now).min(entry.rules.max_idle))
    }

    fn expire_after_update(&self, _: &CacheKey, entry: &Arc<Entry>, now: Instant, _: Option<Duration>) -> Option<Duration> {
        Some(entry.left(now).min(entry.rules.max_idle))
    }
}

/// A tenant's part of the cache that one entry holds.
pub(super) struct Share {
    tenant: TenantId,
    bytes: usize,
}

#[derive(Default)]
struct Held {
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

/// Counts what each tenant holds, so that one tenant's entries cannot crowd out the others'.
/// A tenant that has its share is served from the provider until some of it expires.
pub(super) struct TenantBounds {
    entries: usize,
    bytes: usize,
    held: DashMap<TenantId, Held>,
}

impl TenantBounds {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            entries: limits.entries_per_tenant,
            bytes: limits.bytes_per_tenant,
            held: DashMap::new(),
        }
    }

    pub(super) fn take(&self, tenant: TenantId, len: usize) -> Option<Share> {
        let share = Share {
            tenant,
            bytes: len + OVERHEAD,
        };
        let held = self.held.entry(tenant).or_default();
        // Under the map's shard lock for writing, so the two counters move together.
        let (entries, bytes) = (held.entries.load(Ordering::Relaxed), held.bytes.load(Ordering::Relaxed));
        if entries >= self.entries || bytes + share.bytes > self.bytes {
            return None;
        }
        held.entries.store(entries + 1, Ordering::Relaxed);
        held.bytes.store(bytes + share.bytes, Ordering::Relaxed);
        Some(share)
    }

    pub(super) fn release(&self, entry: &Entry) {
        self.give_back_parts(entry.share.tenant, entry.share.bytes);
    }

    pub(super) fn give_back(&self, share: Share) {
        self.give_back_parts(share.tenant, share.bytes);
    }

    fn give_back_parts(&self, tenant: TenantId, bytes: usize) {
        if let Some(held) = self.held.get(&tenant) {
            held.entries.fetch_sub(1, Ordering::Relaxed);
            held.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.held.remove_if(&tenant, |_, held| held.entries.load(Ordering::Relaxed) == 0);
    }
}
