//! The DEK cache: unwrapped keys, for a short while, in locked memory (`docs/cache.md`).
//!
//! Used by `broker/unwrap` alone. It saves the provider call and nothing else: every request is
//! authorised before the lookup and recorded after it, hit or miss. A lookup finds an entry only
//! with the same tenant, key, epochs, wrapped key and context that made it.
//!
//! Entries are in a plain map. They check age, idle time and uses themselves, at each lookup and in
//! [`DekCache::sweep`], and [`shares`] bounds them by tenant and evicts: cache libraries bound all
//! tenants together, expire a second too late and remove entries at a time of their own, while a
//! disable must leave no bytes behind.

mod entry;
mod flight;
mod key;
mod rules;
mod shares;

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_guarded::{Arena, MAX_LEN};
use claviger_provider::{ConnectionId, KeyId, Secret, TenantId};
use dashmap::DashMap;
use moka::sync::Cache;

use crate::keys::EpochGuard;
use entry::Entry;
use flight::{Flights, Turn};
pub use key::CacheKey;
pub use rules::{Limits, MAX_AGE, Rules};
use shares::{Shares, Taken};

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
    /// Whether it may be of the request alone that made the load: its deadline passed, or its credential ended.
    fn is_of_request_alone(&self) -> bool;
    /// The provider refused an authenticated wrapped key.
    fn rejected() -> Self;
    /// Whether the provider refused an authenticated wrapped key.
    fn is_rejected(&self) -> bool;
}

/// Unwrapped data keys in locked memory.
pub struct DekCache<F> {
    entries: DashMap<CacheKey, Arc<Entry>>,
    refusals: Cache<CacheKey, ()>,
    flights: Flights<F>,
    arena: Arena,
    shares: Arc<Shares<Entry>>,
    /// Looked up in the registry once: nearly every unwrap counts it.
    hits: metrics::Counter,
}

impl<F: Fault> DekCache<F> {
    /// A cache within these limits, whose entries are in this arena and nothing else is.
    pub fn new(limits: &Limits, arena: Arena) -> Self {
        Self {
            entries: DashMap::new(),
            refusals: Cache::builder().max_capacity(REFUSALS).time_to_live(REFUSAL_AGE).build(),
            flights: Flights::new(),
            shares: Arc::new(Shares::new(limits, arena.capacity())),
            arena,
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
                        // Load again if the leader failed for a reason of its own, or ended without a
                        // result.
                        Some(Err(fault)) if !fault.is_of_request_alone() => {
                            count_request("coalesced");
                            return Err(fault);
                        }
                        Some(Err(_)) | None => {}
                    }
                }
            }
        }
    }

    /// Drops every entry of a tenant's key; their bytes are zeroed when this returns. Call it after the
    /// key's epoch has changed, because a load that ends later compares the epoch and then keeps
    /// nothing. Only this tenant's entries are looked at.
    pub fn drop_key(&self, tenant: TenantId, key: KeyId) {
        self.drop_of(tenant, |entry| entry.key() == key);
    }

    /// Drops every entry of a connection's keys, as [`DekCache::drop_key`] does.
    pub fn drop_connection(&self, tenant: TenantId, connection: ConnectionId) {
        self.drop_of(tenant, |entry| entry.connection() == connection);
    }

    fn drop_of(&self, tenant: TenantId, matches: impl Fn(&Entry) -> bool) {
        let mut of_tenant = self.shares.entries_of(tenant);
        of_tenant.retain(|entry| matches(entry));
        self.wipe("invalidated", &of_tenant);
    }

    /// Zeroes and drops entries whose time or uses are over. Call it on a timer. Bytes outlive their
    /// age by the timer's period, which should be half a second and at most one. It looks at every
    /// entry.
    pub fn sweep(&self) {
        let now = Instant::now();
        let over = |entry: &Arc<Entry>| entry.is_over(now).then(|| Arc::clone(entry));
        let over: Vec<_> = self.entries.iter().filter_map(|entry| over(entry.value())).collect();
        self.wipe("expired", &over);
        self.refusals.run_pending_tasks();
        metrics::gauge!("claviger_cache_entries").set(self.entries.len() as f64);
        metrics::gauge!("claviger_cache_used_bytes").set(self.shares.used() as f64);
        metrics::gauge!("claviger_cache_locked_bytes").set(self.arena.capacity() as f64);
    }

    /// Wipes entries and removes them from the map, but no younger ones under the same keys.
    fn wipe(&self, cause: &'static str, entries: &[Arc<Entry>]) {
        for entry in entries {
            entry.wipe();
            self.entries.remove_if(entry.at(), |_, there| Arc::ptr_eq(there, entry));
        }
        if !entries.is_empty() {
            metrics::counter!("claviger_cache_evictions_total", "cause" => cause).increment(entries.len() as u64);
        }
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
    /// the tenant has used its share, or the arena is full and no other tenant has more.
    fn keep(&self, ask: &Load<'_>, plaintext: &Secret, version: u32, begun: Instant) -> Result<(), &'static str> {
        if !ask.epoch_guard.holds() {
            return Err("stale");
        }
        if plaintext.is_empty() || plaintext.len() > MAX_LEN {
            return Err("length");
        }
        let Taken { share, evicted } = self.shares.take(ask.epoch_guard.tenant(), plaintext.len());
        self.wipe("size", &evicted);
        let share = share?;
        let name = share.name();
        let bytes = self.arena.store(plaintext.expose()).map_err(|_| "arena_full")?;
        let entry = Arc::new(Entry::new(ask.key, ask.epoch_guard, (bytes, share), version, ask.rules, begun));
        if entry.is_over(Instant::now()) {
            return Err("too_old");
        }
        if !self.shares.attach(name, &entry) {
            return Err("arena_full");
        }
        if let Some(replaced) = self.entries.insert(ask.key, Arc::clone(&entry)) {
            replaced.wipe();
        }
        // An invalidation between the check above and `attach` did not see the entry.
        if !ask.epoch_guard.holds() {
            self.wipe("invalidated", &[entry]);
            return Err("stale");
        }
        // An eviction between `attach` and the insert did not find the entry in the map.
        if entry.is_wiped() {
            self.wipe("size", &[entry]);
            return Err("arena_full");
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

#[cfg(test)]
mod tests;
