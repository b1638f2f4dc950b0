//! The DEK cache: unwrapped keys, for a short while, in locked memory (`docs/cache.md`).
//!
//! Used by `broker/unwrap` alone. It saves the provider call and nothing else: every request is
//! authorised before the lookup and recorded after it, hit or miss. A lookup finds an entry only
//! with the same tenant, key, epochs, wrapped key and context that made it.
//!
//! moka evicts entries when there are too many. The entries themselves check age, idle time and
//! uses, at each lookup and in [`DekCache::sweep`], because moka's timers are a second too coarse,
//! and its invalidation by predicate wipes a few hundred entries at a time, while a disable must
//! leave no bytes behind.

mod entry;
mod flight;
mod key;
mod rules;

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_guarded::Arena;
use claviger_provider::{ConnectionId, KeyId, Secret};
use moka::notification::RemovalCause;
use moka::sync::Cache;

use crate::keys::EpochGuard;
use entry::{Entry, TenantBounds};
use flight::{Flights, Turn};
pub use key::CacheKey;
pub use rules::{Limits, MAX_AGE, Rules};

/// Time for which an authenticated refusal is cached.
const REFUSAL_AGE: Duration = Duration::from_secs(5);
/// Maximum number of cached refusals.
const REFUSALS: u64 = 10_000;

/// One lookup.
pub struct Load<'a> {
    /// The entry's key.
    pub key: CacheKey,
    /// The rules of the logical key.
    pub rules: Rules,
    /// The epochs when the request began.
    pub epoch_guard: &'a EpochGuard,
    /// The request's id, for the records of requests that share its provider call.
    pub request_id: &'a str,
    /// Until when the request waits for another one's provider call.
    pub deadline: Instant,
}

/// An unwrapped key, from the cache or from a load.
pub struct Found {
    /// The bytes.
    pub plaintext: Secret,
    /// Our number of the version that opened the wrapped key.
    pub version: u32,
    /// Whether it came from an entry of the cache.
    pub cached: bool,
    /// The request whose provider call this one shared.
    pub coalesced_with: Option<String>,
}

/// The error of a load, as far as the cache has to understand it.
pub trait Fault: Clone + Send + Sync + 'static {
    /// The caller's own deadline passed.
    fn timed_out() -> Self;
    /// Whether a deadline passed.
    fn is_timed_out(&self) -> bool;
    /// The provider refused an authenticated wrapped key.
    fn rejected() -> Self;
    /// Whether the provider refused an authenticated wrapped key.
    fn is_rejected(&self) -> bool;
}

/// Unwrapped data keys in locked memory.
pub struct DekCache<F> {
    entries: Cache<CacheKey, Arc<Entry>>,
    refusals: Cache<CacheKey, ()>,
    flights: Flights<F>,
    arena: Arena,
    bounds: Arc<TenantBounds>,
    /// Looked up in the registry once: nearly every unwrap counts it.
    hits: metrics::Counter,
}

impl<F: Fault> DekCache<F> {
    /// A cache within these limits.
    pub fn new(limits: &Limits, arena: Arena) -> Self {
        let entries = Cache::builder()
            .max_capacity(limits.bytes)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            // Wipe here: moka frees the entry's memory later, at a time of its own.
            .eviction_listener(|_, entry: Arc<Entry>, cause: RemovalCause| {
                entry.wipe();
                if cause == RemovalCause::Size {
                    count_evictions("size", 1);
                }
            })
            .build();
        Self {
            entries,
            refusals: Cache::builder().max_capacity(REFUSALS).time_to_live(REFUSAL_AGE).build(),
            flights: Flights::new(),
            arena,
            bounds: Arc::new(TenantBounds::new(limits)),
            hits: requests("hit"),
        }
    }

    /// The entry of this key, or the result of `load`. While one request loads, others for the
    /// same entry wait for its result, each at most until its own deadline.
    ///
    /// # Errors
    /// The error of the load, or [`Fault::timed_out`] when this request's deadline passed first.
    pub async fn get_or_load<L>(&self, ask: Load<'_>, load: L) -> Result<Found, F>
    where
        L: AsyncFnOnce() -> Result<(Secret, u32), F>,
    {
        if !ask.rules.enabled {
            count_request("bypassed");
            return load().await.map(Found::loaded);
        }
        loop {
            if let Some(known) = self.known(&ask.key) {
                return known;
            }
            if !ask.rules.coalesce {
                count_request("miss");
                return self.load(&ask, load).await.map(Found::loaded);
            }
            match flight::join(&self.flights, ask.key, ask.request_id) {
                Turn::Lead(lead) => {
                    // Another load may have ended since the lookup above. Requests that joined
                    // this one meanwhile wake up when `lead` is dropped, and look again.
                    if let Some(known) = self.known(&ask.key) {
                        return known;
                    }
                    count_request("miss");
                    let loaded = self.load(&ask, load).await;
                    lead.land(&loaded);
                    return loaded.map(Found::loaded);
                }
                Turn::Wait(wait) => {
                    let Ok(landed) = tokio::time::timeout_at(ask.deadline.into(), wait.landing()).await else {
                        count_request("timed_out");
                        return Err(F::timed_out());
                    };
                    match landed {
                        Some(Ok((plaintext, version))) => {
                            count_request("coalesced");
                            return Ok(Found {
                                plaintext,
                                version,
                                cached: false,
                                coalesced_with: Some(wait.leader().to_owned()),
                            });
                        }
                        // Load again if only the leader's own deadline passed, or if the leader
                        // ended without a result.
                        Some(Err(fault)) if !fault.is_timed_out() => {
                            count_request("coalesced");
                            return Err(fault);
                        }
                        Some(Err(_)) | None => {}
                    }
                }
            }
        }
    }

    /// Drops every entry of a key; their bytes are zeroed when this returns. Call it after the
    /// key's epoch has changed, because a load that ends later compares the epoch and then keeps
    /// nothing.
    pub fn drop_key(&self, key: KeyId) {
        self.drop_where("invalidated", |entry| entry.key() == key);
    }

    /// Drops every entry of a connection's keys, as [`DekCache::drop_key`] does.
    pub fn drop_connection(&self, connection: ConnectionId) {
        self.drop_where("invalidated", |entry| entry.connection() == connection);
    }

    /// Zeroes and drops entries whose time or uses are over, and runs moka's pending work, because
    /// moka has no thread of its own. Call it on a timer. Bytes of an expired entry remain until
    /// the next call, so the timer's period should be at most half a second. It looks at every
    /// entry.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.drop_where("expired", |entry| entry.is_over(now));
        self.refusals.run_pending_tasks();
        metrics::gauge!("claviger_cache_entries").set(self.entries.entry_count() as f64);
    }

    fn drop_where(&self, cause: &'static str, matches: impl Fn(&Entry) -> bool) {
        let mut dropped = Vec::new();
        for (key, entry) in &self.entries {
            if matches(&entry) {
                entry.wipe();
                dropped.push(*key);
            }
        }
        count_evictions(cause, dropped.len());
        for key in dropped {
            // A younger entry under the same key is dropped, too: that costs one load.
            self.entries.invalidate(&key);
        }
        self.entries.run_pending_tasks();
    }

    /// The result of a lookup that needs no load.
    fn known(&self, key: &CacheKey) -> Option<Result<Found, F>> {
        if let Some((plaintext, version)) = self.entries.get(key).and_then(|entry| entry.take_use()) {
            self.hits.increment(1);
            return Some(Ok(Found {
                plaintext,
                version,
                cached: true,
                coalesced_with: None,
            }));
        }
        self.refusals.contains_key(key).then(|| {
            count_request("refused");
            Err(F::rejected())
        })
    }

    /// Loads, and keeps the result.
    async fn load<L>(&self, ask: &Load<'_>, load: L) -> Result<(Secret, u32), F>
    where
        L: AsyncFnOnce() -> Result<(Secret, u32), F>,
    {
        let begun = Instant::now();
        let loaded = load().await;
        match &loaded {
            Ok((plaintext, version)) => {
                if let Err(why) = self.keep(ask, plaintext, *version, begun) {
                    metrics::counter!("claviger_cache_not_kept_total", "reason" => why).increment(1);
                }
            }
            Err(fault) if fault.is_rejected() => self.refusals.insert(ask.key, ()),
            Err(_) => {}
        }
        loaded
    }

    /// Keeps an unwrapped key.
    ///
    /// # Errors
    /// Why it is not kept: an epoch changed meanwhile, the load took longer than an entry may live,
    /// the tenant has used its share, or the arena is full.
    fn keep(&self, ask: &Load<'_>, plaintext: &Secret, version: u32, begun: Instant) -> Result<(), &'static str> {
        if !ask.epoch_guard.holds() {
            return Err("stale");
        }
        let share = self.bounds.take(ask.epoch_guard.tenant(), plaintext.len()).ok_or("tenant_full")?;
        let bytes = self.arena.store(plaintext.expose()).map_err(|_| "arena_full")?;
        let entry = Arc::new(Entry::new(ask.epoch_guard, bytes, version, ask.rules, begun, share));
        if entry.is_over(Instant::now()) {
            return Err("too_old");
        }
        self.entries.insert(ask.key, Arc::clone(&entry));
        // An invalidation between the check above and the insert did not see the entry.
        if !ask.epoch_guard.holds() {
            entry.wipe();
            self.entries.invalidate(&ask.key);
            return Err("stale");
        }
        Ok(())
    }
}

impl Found {
    fn loaded((plaintext, version): (Secret, u32)) -> Self {
        Self {
            plaintext,
            version,
            cached: false,
            coalesced_with: None,
        }
    }
}

/// Counts a request once, by its result.
fn count_request(result: &'static str) {
    requests(result).increment(1);
}

fn requests(result: &'static str) -> metrics::Counter {
    metrics::counter!("claviger_cache_requests_total", "result" => result)
}

fn count_evictions(cause: &'static str, entries: usize) {
    metrics::counter!("claviger_cache_evictions_total", "cause" => cause).increment(entries as u64);
}

#[cfg(test)]
mod tests;
