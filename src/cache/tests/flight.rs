//! One load for all who ask at the same moment, and what of it is shared.

use std::future::{pending, ready};
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::Secret;
use tokio::sync::{Barrier, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::{Bench, Fail, Found, LONG, Loaded, at, lasting, loaded, race, until};
use crate::cache::Rules;
use crate::keys::EpochGuard;

/// A cache with a load under way that ends when it is told how.
struct Flying {
    bench: Arc<Bench>,
    epoch_guard: Arc<EpochGuard>,
    leader: JoinHandle<Result<Found, Fail>>,
    land: oneshot::Sender<Loaded>,
}

impl Flying {
    async fn new() -> Self {
        let bench = Arc::new(Bench::new().await);
        let epoch_guard = Arc::new(bench.world.epoch_guard("k").await);
        let (land, landing) = oneshot::channel();
        let leader = tokio::spawn({
            let (bench, epoch_guard) = (Arc::clone(&bench), Arc::clone(&epoch_guard));
            async move {
                // Dropped without a word, it panics in the load.
                let load = async { landing.await.unwrap() };
                bench.ask(&epoch_guard, at(0), "leader", LONG, load).await
            }
        });
        let flying = Self {
            bench,
            epoch_guard,
            leader,
            land,
        };
        until("the load is under way", || flying.bench.loads() == 1).await;
        flying
    }

    /// One who asks for the same, and would load `own`.
    fn wait(&self, patience: Duration, own: Loaded) -> JoinHandle<Result<Found, Fail>> {
        let (bench, epoch_guard) = (Arc::clone(&self.bench), Arc::clone(&self.epoch_guard));
        tokio::spawn(async move { bench.ask(&epoch_guard, at(0), "waiter", patience, ready(own)).await })
    }

    /// Until so many wait: the map, the leader and each of them hold the flight.
    async fn joined(&self, waiters: usize) {
        until("the others wait", || {
            let flight = self.bench.cache.flights.get(&at(0)).map(|flight| Arc::strong_count(&flight));
            flight == Some(2 + waiters)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_callers_make_one_load() {
    let flying = Flying::new().await;
    let waiters: JoinSet<_> = (0..63)
        .map(|_| {
            let waiter = flying.wait(LONG, Err(Fail::Down));
            async move { waiter.await.unwrap().unwrap() }
        })
        .collect();
    flying.joined(63).await;
    flying.land.send(loaded(b"dek")).unwrap();
    let led = flying.leader.await.unwrap().unwrap();
    assert_eq!((led.cached, led.coalesced_with), (false, None));
    for waited in waiters.join_all().await {
        assert_eq!(waited.plaintext, Secret::copy_from(b"dek"));
        assert_eq!((waited.cached, waited.coalesced_with.as_deref()), (false, Some("leader")));
    }
    assert_eq!(flying.bench.loads(), 1);
    assert!(flying.bench.cache.flights.is_empty());
    let hit = flying.bench.get(&flying.epoch_guard, at(0), b"other").await;
    assert_eq!((hit.cached, hit.plaintext), (true, Secret::copy_from(b"dek")));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_just_after_a_landing_does_not_load_again() {
    const ROUNDS: usize = 5_000;
    let bench = Bench::new().await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    let runtime = tokio::runtime::Handle::current();
    let call = |round| drop(runtime.block_on(bench.get(&epoch_guard, at(round), b"dek")));
    tokio::task::block_in_place(|| race(ROUNDS, call, call));
    assert_eq!(bench.loads(), ROUNDS);
}

#[tokio::test]
async fn each_waiter_has_its_own_deadline() {
    let flying = Flying::new().await;
    let patient = flying.wait(LONG, Err(Fail::Down));
    let impatient = flying.wait(Duration::from_millis(5), loaded(b"never"));
    assert_eq!(impatient.await.unwrap().err(), Some(Fail::TimedOut));
    flying.joined(1).await;
    flying.land.send(loaded(b"dek")).unwrap();
    assert_eq!(patient.await.unwrap().unwrap().plaintext, Secret::copy_from(b"dek"));
    assert_eq!(flying.bench.loads(), 1);
}

#[tokio::test]
async fn a_failure_of_the_leaders_request_alone_is_not_the_waiters() {
    for own in [Fail::TimedOut, Fail::Ended] {
        let flying = Flying::new().await;
        let waiters = [flying.wait(LONG, loaded(b"own")), flying.wait(LONG, loaded(b"own"))];
        flying.joined(2).await;
        flying.land.send(Err(own.clone())).unwrap();
        assert_eq!(flying.leader.await.unwrap().err(), Some(own));
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap().unwrap().plaintext, Secret::copy_from(b"own"));
        }
        assert_eq!(flying.bench.loads(), 2, "one of them leads for both");
    }
}

#[tokio::test]
async fn another_failure_is_shared_and_forgotten() {
    let flying = Flying::new().await;
    let waiter = flying.wait(LONG, loaded(b"own"));
    flying.joined(1).await;
    flying.land.send(Err(Fail::Down)).unwrap();
    assert_eq!(waiter.await.unwrap().err(), Some(Fail::Down));
    assert_eq!(flying.bench.loads(), 1);
    assert!(!flying.bench.get(&flying.epoch_guard, at(0), b"dek").await.cached);
    assert_eq!(flying.bench.loads(), 2);
}

#[tokio::test]
async fn when_the_leader_panics_another_one_loads() {
    let flying = Flying::new().await;
    let waiters = [flying.wait(LONG, loaded(b"own")), flying.wait(LONG, loaded(b"own"))];
    flying.joined(2).await;
    drop(flying.land);
    assert!(flying.leader.await.is_err_and(|error| error.is_panic()));
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap().plaintext, Secret::copy_from(b"own"));
    }
    assert_eq!(flying.bench.loads(), 2, "the panicked one and one more");
    assert!(flying.bench.cache.flights.is_empty());
}

#[tokio::test]
async fn when_the_leader_is_dropped_another_one_loads() {
    let flying = Flying::new().await;
    let waiter = flying.wait(LONG, loaded(b"own"));
    flying.joined(1).await;
    flying.leader.abort();
    assert_eq!(waiter.await.unwrap().unwrap().plaintext, Secret::copy_from(b"own"));
    assert!(flying.bench.cache.flights.is_empty());
}

#[tokio::test]
async fn another_entry_does_not_wait() {
    let flying = Flying::new().await;
    assert!(!flying.bench.get(&flying.epoch_guard, at(1), b"other").await.cached);
    assert!(!flying.leader.is_finished());
}

/// Two who ask for the same, and both load: neither load ends before the other began.
async fn both_load(rules: Rules) -> Bench {
    let bench = Bench::under(rules).await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    let both = Barrier::new(2);
    let load = || async {
        both.wait().await;
        loaded(b"dek")
    };
    let (one, two) = tokio::join!(
        bench.ask(&epoch_guard, at(0), "one", LONG, load()),
        bench.ask(&epoch_guard, at(0), "two", LONG, load()),
    );
    for found in [one.unwrap(), two.unwrap()] {
        assert_eq!((found.cached, found.coalesced_with), (false, None));
    }
    assert_eq!(bench.loads(), 2);
    assert_eq!(bench.get(&epoch_guard, at(0), b"dek").await.cached, rules.enabled);
    bench
}

#[tokio::test]
async fn without_coalescing_each_caller_is_seen_and_the_entry_is_kept() {
    let bench = both_load(Rules {
        coalesce: false,
        ..lasting()
    })
    .await;
    assert_eq!(bench.count(), 1);
    assert_eq!(bench.cache.shares.taken(), 1);
}

#[tokio::test]
async fn with_the_cache_off_nothing_is_shared_kept_or_remembered() {
    let bench = both_load(Rules {
        enabled: false,
        ..lasting()
    })
    .await;
    assert_eq!(bench.count(), 0);
    assert!(bench.all_shares_are_back());
    let epoch_guard = bench.world.epoch_guard("other").await;
    let loads = bench.loads();
    for _ in 0..2 {
        let refused = bench.ask(&epoch_guard, at(1), "r", LONG, ready(Err(Fail::Rejected))).await;
        assert_eq!(refused.err(), Some(Fail::Rejected));
    }
    assert_eq!(bench.loads(), loads + 2);
}

#[tokio::test]
async fn a_hit_needs_no_deadline_and_no_load() {
    let bench = Bench::new().await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    bench.get(&epoch_guard, at(0), b"dek").await;
    let hit = bench.ask(&epoch_guard, at(0), "late", Duration::ZERO, pending()).await.unwrap();
    assert!(hit.cached);
    assert_eq!(bench.loads(), 1);
}
