//! The cache over real keys and a real arena. Clocks are real too: ages are short, and a test
//! waits for a condition and never for a span.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

mod flight;
mod hold;
mod key;
mod life;
mod shares;

use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use claviger_guarded::{Arena, ArenaConfig, LockedBytes};
use claviger_provider::Secret;

use super::{CacheKey, DekCache, Fault, Found, Limits, Load, Rules};
use crate::keys::EpochGuard;
use crate::keys::fixture::{Reached, World};
use crate::store::model::{Connection, Key};

/// The broker's failures, as few as the cache tells apart.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fail {
    TimedOut,
    /// The credential of the request that made the load ended.
    Ended,
    Rejected,
    Down,
}

impl Fault for Fail {
    fn timed_out() -> Self {
        Self::TimedOut
    }

    fn is_of_request_alone(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Ended)
    }

    fn rejected() -> Self {
        Self::Rejected
    }

    fn is_rejected(&self) -> bool {
        *self == Self::Rejected
    }
}

type Loaded = Result<(Secret, u32), Fail>;

/// A cache, and how often something was loaded for it.
struct Bench {
    cache: DekCache<Fail>,
    world: World,
    rules: Rules,
    loads: AtomicUsize,
}

impl Bench {
    async fn new() -> Self {
        Self::with(roomy(), ArenaConfig::default()).await
    }

    async fn with(limits: Limits, arena: ArenaConfig) -> Self {
        Self {
            cache: DekCache::new(&limits, Arena::new(arena)),
            world: World::new().await,
            rules: lasting(),
            loads: AtomicUsize::new(0),
        }
    }

    async fn under(rules: Rules) -> Self {
        Self {
            rules,
            ..Self::new().await
        }
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    /// Asks for an entry, loading through `load` what is not there.
    async fn ask(
        &self,
        epoch_guard: &EpochGuard,
        key: CacheKey,
        request_id: &str,
        patience: Duration,
        load: impl Future<Output = Loaded>,
    ) -> Result<Found, Fail> {
        let ask = Load {
            key,
            rules: self.rules,
            epoch_guard,
            request_id,
            deadline: Instant::now() + patience,
        };
        self.cache
            .get_or_load(ask, async || {
                self.loads.fetch_add(1, Ordering::SeqCst);
                load.await
            })
            .await
    }

    /// Asks for an entry whose load brings these bytes at once.
    async fn get(&self, epoch_guard: &EpochGuard, key: CacheKey, bytes: &[u8]) -> Found {
        self.ask(epoch_guard, key, "request", LONG, ready(loaded(bytes))).await.unwrap()
    }

    /// The locked bytes of an entry that is there.
    fn bytes(&self, key: CacheKey) -> Option<LockedBytes> {
        self.cache.entries.get(&key)?.bytes()
    }

    fn count(&self) -> usize {
        self.cache.entries.len()
    }

    /// Whether no tenant holds a share.
    fn all_shares_are_back(&self) -> bool {
        self.cache.shares.taken() == 0 && self.cache.shares.used() == 0
    }
}

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn roomy() -> Limits {
    Limits {
        entries_per_tenant: 100_000,
        bytes_per_tenant: 64 << 20,
    }
}

/// Nothing goes idle while a test runs.
fn lasting() -> Rules {
    Rules {
        max_idle: LONG,
        ..Rules::default()
    }
}

fn loaded(bytes: &[u8]) -> Loaded {
    Ok((Secret::copy_from(bytes), 1))
}

/// One of many keys of entries.
fn at(number: usize) -> CacheKey {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.to_be_bytes());
    CacheKey(key)
}

fn is_wiped(bytes: &LockedBytes) -> bool {
    bytes.is_wiped()
}

/// Polls until the condition holds; fails when it does not come to hold.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let given_up = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < given_up, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Moves the key's epoch on, as a disable does.
fn move_on(entry: &Reached) {
    let key = entry.view().unwrap().key;
    let moved = Key {
        epoch: key.epoch + 1,
        ..Key::clone(&key)
    };
    entry.put(moved, None);
}

/// Moves the connection's epoch on, as a sever does.
fn move_connection_on(entry: &Reached) {
    let connection = entry.connection().view();
    let moved = Connection {
        epoch: connection.epoch + 1,
        ..Connection::clone(&connection)
    };
    entry.connection().put(moved);
}

/// Runs both at once on threads of their own, `rounds` times, each time starting them as
/// close together as can be and one of them a little later than the round before.
fn race(rounds: usize, one: impl Fn(usize) + Sync, two: impl Fn(usize) + Sync) {
    let arrived = AtomicUsize::new(0);
    let run = |round: usize, head_start: usize, side: &dyn Fn(usize)| {
        let _let_go = LetGo(&arrived);
        arrived.fetch_add(1, Ordering::SeqCst);
        while arrived.load(Ordering::SeqCst) < 2 * (round + 1) {
            std::thread::yield_now();
        }
        for _ in 0..head_start {
            std::hint::spin_loop();
        }
        side(round);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| (0..rounds).for_each(|round| run(round, 20 * (round % 97), &one)));
        scope.spawn(|| (0..rounds).for_each(|round| run(round, 20 * (round % 89), &two)));
    });
}

/// Lets the other side run on alone when this one panics.
struct LetGo<'a>(&'a AtomicUsize);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(usize::MAX / 2, Ordering::SeqCst);
        }
    }
}
