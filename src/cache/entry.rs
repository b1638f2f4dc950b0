//! One entry and its lifetime.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use claviger_guarded::LockedBytes;
use claviger_provider::{ConnectionId, KeyId, Secret};
use parking_lot::RwLock;

use super::shares::Share;
use super::{CacheKey, MAX_AGE, Rules};
use crate::keys::EpochGuard;

/// An unwrapped key in locked memory.
pub(super) struct Entry {
    at: CacheKey,
    key: KeyId,
    connection: ConnectionId,
    version: u32,
    rules: Rules,
    begun: Instant,
    /// The last use, in microseconds after `begun`.
    used_at: AtomicU64,
    uses: AtomicU32,
    held: RwLock<Option<Held>>,
}

/// What an entry releases when it is wiped: the bytes with their slots in the arena, then the
/// tenant's share, so that whoever gets the share finds slots.
struct Held {
    bytes: LockedBytes,
    _share: Share<Entry>,
}

impl Entry {
    /// `at` is where it is found; `begun` is when the load began, before the provider was asked.
    pub(super) fn new(
        at: CacheKey,
        epoch_guard: &EpochGuard,
        (bytes, share): (LockedBytes, Share<Entry>),
        version: u32,
        rules: Rules,
        begun: Instant,
    ) -> Self {
        Self {
            at,
            key: epoch_guard.key(),
            connection: epoch_guard.connection(),
            version,
            rules: Rules {
                max_age: rules.max_age.min(MAX_AGE),
                ..rules
            },
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

    pub(super) const fn at(&self) -> &CacheKey {
        &self.at
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
        let plaintext = self.held.read().as_ref().and_then(|held| held.bytes.copy().map(Secret::new));
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

    /// Zeroes the bytes and releases their slots and the tenant's share. Repeating it does nothing.
    pub(super) fn wipe(&self) {
        if let Some(held) = self.held.write().take() {
            held.bytes.wipe();
        }
    }

    /// Whether its bytes are gone.
    pub(super) fn is_wiped(&self) -> bool {
        self.held.read().is_none()
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> Option<LockedBytes> {
        self.held.read().as_ref().map(|held| held.bytes.clone())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
