//! The DEK cache: unwrapped keys, for a short while, in locked memory (`docs/cache.md`).
//!
//! Used by `broker/unwrap` alone. It saves the provider call and nothing else: whoever asks
//! was authorised before and is recorded after, hit or miss. An entry is found only under
//! the very tenant, key, epochs, blob and context that made it.
//!
//! moka chooses what to drop when there are too many entries. Age, idle time and uses are
//! the entry's own to judge, at each look and in [`DekCache::settle`]: moka's timers are a
//! second too coarse, and its invalidation by predicate wipes a few hundred entries at a
//! time, while a disable must leave no bytes behind.

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

/// How long an authenticated refusal is remembered.
const REFUSAL_AGE: Duration = Duration::from_secs(5);
/// How many refusals are remembered.
const REFUSALS: u64 = 10_000;

/// One look at the cache.
pub struct Load<'a> {
    /// Under what.
    pub key: CacheKey,
    /// By which rules.
    pub rules: Rules,
    /// The epochs under which the caller looked.
    pub epoch_guard: &'a EpochGuard,
    /// The caller's request, for the record of those who wait for it.
    pub request_id: &'a str,
    /// How long the caller waits for somebody else's provider call.
    pub deadline: Instant,
}

/// What was found.
pub struct Found {
    /// The bytes.
    pub plaintext: Secret,
    /// Our number of the version that opened the blob.
    pub version: u32,
    /// Whether no provider call of this request was needed because an entry was there.
    pub cached: bool,
    /// The request whose provider call this one shared.
    pub coalesced_with: Option<String>,
}

/// What a load can fail with, as far as the cache must know: its own words stay the broker's.
pub trait Fault: Clone + Send + Sync + 'static {
    /// The caller's own deadline passed.
    fn timed_out() -> Self;
    /// Whether it says that a deadline passed.
    fn is_timed_out(&self) -> bool;
    /// The provider, asked with an authenticated blob, said that it does not open.
    fn rejected() -> Self;
    /// Whether it says so.
    fn is_rejected(&self) -> bool;
}

/// The cache.
pub struct DekCache<F> {
    entries: Cache<CacheKey, Arc<Entry>>,
    refusals: Cache<CacheKey, ()>,
    flights: Flights<F>,
    arena: Arena,
    bounds: Arc<TenantBounds>,
    /// Looked up once: it is counted for nearly every unwrap.
    hits: metrics::Counter,
}

impl<F: Fault> DekCache<F> {
    /// A cache within these limits.
    pub fn new(limits: &Limits, arena: Arena) -> Self {
        let entries = Cache::builder()
            .max_capacity(limits.bytes)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            // The bytes go here and not with the memory, which moka frees in its own time.
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

    /// The entry of this key, or what `load` brings. While one caller loads, others who
    /// want the same wait for it, each no longer than its own deadline.
    ///
    /// # Errors
    /// What `load` says, or `deadline_exceeded` for one who waited too long.
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
                    // Another load may have landed since the look above. Those who joined
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
                        // Another one's deadline is not ours, and a leader that vanished said nothing.
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

    /// Drops every entry of a key; its bytes are zeroed when this returns. To be called
    /// after the key's epoch moved on: a load that lands later sees that and keeps nothing.
    pub fn drop_key(&self, key: KeyId) {
        self.drop_where("invalidated", |entry| entry.key() == key);
    }

    /// Drops every entry that came through a connection, as [`DekCache::drop_key`] does.
    pub fn drop_connection(&self, connection: ConnectionId) {
        self.drop_where("invalidated", |entry| entry.connection() == connection);
    }

    /// Zeroes and drops what is over, and runs what moka leaves for later: it has no thread
    /// of its own. To be called on a timer: bytes outlive their age by the timer's period,
    /// which should be half a second and must not be over one. It looks at every entry.
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
            // A younger entry that took the place meanwhile goes too: it costs one load.
            self.entries.invalidate(&key);
        }
        self.entries.run_pending_tasks();
    }

    /// What the cache can say without a load.
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

    /// Loads, and keeps what the load brought.
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

    /// Keeps what was loaded.
    ///
    /// # Errors
    /// Why not: key or connection moved on meanwhile, the load took longer than an entry may
    /// live, the tenant has its share, or the arena cannot hold it.
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
        // An invalidation that landed between the look and the insert did not see the entry.
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

/// Each request is counted once, by what became of it.
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
