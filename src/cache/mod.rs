//! The DEK cache: unwrapped keys, for a short while, in locked memory (`docs/cache.md`).
//!
//! Used by `broker/unwrap` alone. It saves the provider call and nothing else: whoever asks
//! was authorised before and is recorded after, hit or miss. An entry is found only under
//! the very tenant, key, key epoch, blob and context that made it.

mod entry;
mod flight;
mod rules;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use claviger_guarded::Arena;
use claviger_provider::{BoundContext, ConnectionId, Id, KeyId, Secret};
use moka::notification::RemovalCause;
use moka::sync::Cache;

use crate::envelope::Envelope;
use crate::keys::Watch;
use entry::{Entry, Lifetime, TenantBounds};
use flight::{Flights, Turn};
pub use rules::{Limits, Rules};

/// How long an authenticated refusal is remembered.
const REFUSAL_AGE: Duration = Duration::from_secs(5);
/// How many refusals are remembered.
const REFUSALS: u64 = 10_000;

/// Under what an entry is found: SHA-256 over the length-prefixed tenant, key, epochs, blob
/// and context. A wrong context or tenant can never hit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// For this blob and context, under the epochs of this watch.
    pub fn new(watch: &Watch, envelope: &Envelope, context: &BoundContext) -> Self {
        let mut hash = digest::Context::new(&digest::SHA256);
        let header = envelope.header();
        let epochs = [watch.key_epoch().to_be_bytes(), watch.connection_epoch().to_be_bytes()].concat();
        let (tenant, key) = (header.tenant(), header.key());
        let parts: [&[u8]; 5] = [tenant.bytes(), key.bytes(), &epochs, envelope.as_text().as_bytes(), context.bytes()];
        for part in parts {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        Self(key)
    }
}

/// One look at the cache.
pub struct Load<'a> {
    /// Under what.
    pub key: CacheKey,
    /// By which rules.
    pub rules: Rules,
    /// The epochs under which the caller looked.
    pub watch: &'a Watch,
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
}

impl<F: Fault> DekCache<F> {
    /// A cache within these limits.
    pub fn new(limits: &Limits, arena: Arena) -> Self {
        let bounds = Arc::new(TenantBounds::new(limits));
        let released = Arc::clone(&bounds);
        let entries = Cache::builder()
            .max_capacity(limits.bytes)
            .weigher(|_, entry: &Arc<Entry>| entry.weight())
            .expire_after(Lifetime)
            .support_invalidation_closures()
            // The bytes go here and not with the memory, which moka frees in its own time.
            .eviction_listener(move |_, entry: Arc<Entry>, cause: RemovalCause| {
                entry.wipe();
                released.release(&entry);
                metrics::counter!("claviger_cache_evictions_total", "cause" => cause_word(cause)).increment(1);
            })
            .build();
        Self {
            entries,
            refusals: Cache::builder().max_capacity(REFUSALS).time_to_live(REFUSAL_AGE).build(),
            flights: Flights::new(),
            arena,
            bounds,
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
            let (plaintext, version) = load().await?;
            return Ok(Found {
                plaintext,
                version,
                cached: false,
                coalesced_with: None,
            });
        }
        loop {
            if let Some((plaintext, version)) = self.hit(&ask.key) {
                metrics::counter!("claviger_cache_requests_total", "result" => "hit").increment(1);
                return Ok(Found {
                    plaintext,
                    version,
                    cached: true,
                    coalesced_with: None,
                });
            }
            if self.refusals.contains_key(&ask.key) {
                metrics::counter!("claviger_cache_requests_total", "result" => "refused").increment(1);
                return Err(F::rejected());
            }
            match flight::join(&self.flights, ask.key, ask.request_id) {
                Turn::Lead(lead) => {
                    metrics::counter!("claviger_cache_requests_total", "result" => "miss").increment(1);
                    let begun = Instant::now();
                    let loaded = load().await;
                    if let Ok((plaintext, version)) = &loaded {
                        self.keep(&ask, plaintext, *version, begun);
                    } else if loaded.as_ref().is_err_and(F::is_rejected) {
                        self.refusals.insert(ask.key, ());
                    }
                    lead.land(&loaded);
                    let (plaintext, version) = loaded?;
                    return Ok(Found {
                        plaintext,
                        version,
                        cached: false,
                        coalesced_with: None,
                    });
                }
                Turn::Wait(wait) => {
                    let landed = tokio::time::timeout_at(ask.deadline.into(), wait.landing())
                        .await
                        .map_err(|_| F::timed_out())?;
                    match landed {
                        Some(Ok((plaintext, version))) => {
                            metrics::counter!("claviger_cache_requests_total", "result" => "coalesced").increment(1);
                            return Ok(Found {
                                plaintext,
                                version,
                                cached: false,
                                coalesced_with: Some(wait.leader().to_owned()),
                            });
                        }
                        // Another one's deadline is not ours, and a leader that vanished said nothing.
                        Some(Err(fault)) if !fault.is_timed_out() => return Err(fault),
                        Some(Err(_)) | None => {}
                    }
                }
            }
        }
    }

    /// Drops every entry of a key, bytes included.
    pub fn drop_key(&self, key: KeyId) {
        self.drop_where(move |entry| entry.key() == key);
    }

    /// Drops every entry that came through a connection, bytes included.
    pub fn drop_connection(&self, connection: ConnectionId) {
        self.drop_where(move |entry| entry.connection() == connection);
    }

    fn drop_where(&self, matches: impl Fn(&Entry) -> bool + Send + Sync + 'static) {
        // It fails only on a cache that was built without support for it.
        if self.entries.invalidate_entries_if(move |_, entry| matches(entry)).is_err() {
            self.entries.invalidate_all();
        }
        self.settle();
    }

    /// Runs what moka leaves for later: it has no thread of its own. To be called at least
    /// once a second.
    pub fn settle(&self) {
        self.entries.run_pending_tasks();
        self.refusals.run_pending_tasks();
        metrics::gauge!("claviger_cache_entries").set(self.entries.entry_count() as f64);
    }

    fn hit(&self, key: &CacheKey) -> Option<(Secret, u32)> {
        let entry = self.entries.get(key)?;
        match entry.take_use() {
            Some(found) => Some(found),
            None => {
                self.entries.invalidate(key);
                None
            }
        }
    }

    /// Keeps what was loaded, unless key or connection moved on meanwhile, the tenant has
    /// its share, or the arena is full.
    fn keep(&self, ask: &Load<'_>, plaintext: &Secret, version: u32, begun: Instant) {
        if !ask.watch.holds() {
            return;
        }
        let Some(share) = self.bounds.take(ask.watch.tenant(), plaintext.len()) else {
            metrics::counter!("claviger_cache_requests_total", "result" => "tenant_full").increment(1);
            return;
        };
        let Ok(bytes) = self.arena.store(plaintext.expose()) else {
            self.bounds.give_back(share);
            return;
        };
        self.entries
            .insert(ask.key, Arc::new(Entry::new(ask.watch, bytes, version, ask.rules, begun, share)));
        // An invalidation that landed between the look and the insert did not see the entry.
        if !ask.watch.holds() {
            self.entries.invalidate(&ask.key);
        }
    }
}

const fn cause_word(cause: RemovalCause) -> &'static str {
    match cause {
        RemovalCause::Expired => "expired",
        RemovalCause::Explicit => "invalidated",
        RemovalCause::Replaced => "replaced",
        RemovalCause::Size => "size",
    }
}
