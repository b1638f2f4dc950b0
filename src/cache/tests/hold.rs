//! What is kept, for whom, and what drops it: epochs and drops.

use std::future::ready;
use std::time::{Duration, Instant};

use claviger_guarded::LockedBytes;

use super::{Bench, Fail, LONG, at, is_wiped, loaded, move_connection_on, move_on, race};
use crate::keys::EpochGuard;
use crate::keys::fixture::{new_connection, new_key, new_tenant, reached};

/// Puts entries from..to in place and gives their locked bytes.
pub(super) async fn fill(bench: &Bench, epoch_guard: &EpochGuard, from: usize, to: usize) -> Vec<LockedBytes> {
    let mut all = Vec::new();
    for number in from..to {
        assert!(!bench.get(epoch_guard, at(number), b"data key").await.cached);
        all.push(bench.bytes(at(number)).unwrap());
    }
    assert!(!all.iter().any(is_wiped));
    all
}

/// An epoch guard on a key of another tenant.
pub(super) async fn stranger(bench: &Bench) -> EpochGuard {
    of_tenant(bench, "stranger").await
}

/// An epoch guard on a key of a new tenant.
pub(super) async fn of_tenant(bench: &Bench, name: &str) -> EpochGuard {
    let store = bench.world.store.as_ref();
    let tenant = new_tenant(store, name, false).await;
    let connection = new_connection(store, tenant, "c").await;
    let key = new_key(store, &connection, "k").await;
    let entry = reached(&bench.world.directory(), tenant, key.id).await.unwrap();
    entry.epoch_guard().unwrap()
}

#[tokio::test]
async fn an_epoch_that_moved_during_the_load_leaves_nothing() {
    for moves in [move_on, move_connection_on] {
        let bench = Bench::new().await;
        let entry = bench.world.loaded("k").await;
        let epoch_guard = entry.epoch_guard().unwrap();
        let load = async {
            moves(&entry);
            bench.cache.drop_key(entry.tenant(), entry.id());
            loaded(b"stale")
        };
        // The caller has what it asked for: whether that is handed on, the gate decides.
        assert!(!bench.ask(&epoch_guard, at(0), "r", LONG, load).await.unwrap().cached);
        assert_eq!(bench.count(), 0);
        assert!(bench.all_shares_are_back());
        assert!(!bench.get(&epoch_guard, at(0), b"again").await.cached);
    }
}

#[tokio::test]
async fn a_dropped_key_leaves_no_bytes_however_many_entries_it_had() {
    let bench = Bench::new().await;
    let (dropped, other) = (bench.world.epoch_guard("dropped").await, bench.world.epoch_guard("other").await);
    let gone = fill(&bench, &dropped, 0, 1_500).await;
    let stay = fill(&bench, &other, 2_000, 2_010).await;
    bench.cache.drop_key(dropped.tenant(), dropped.key());
    assert!(gone.iter().all(is_wiped));
    assert!(!stay.iter().any(is_wiped));
    assert_eq!(bench.count(), 10);
    assert!(!bench.get(&dropped, at(0), b"anew").await.cached);
    assert!(bench.get(&other, at(2_000), b"x").await.cached);
}

#[tokio::test]
async fn a_dropped_connection_leaves_no_bytes_of_any_of_its_keys() {
    let bench = Bench::new().await;
    let (one, two, other) = (
        bench.world.epoch_guard("one").await,
        bench.world.epoch_guard("two").await,
        stranger(&bench).await,
    );
    let mut gone = fill(&bench, &one, 0, 500).await;
    gone.extend(fill(&bench, &two, 1_000, 1_500).await);
    let stay = fill(&bench, &other, 2_000, 2_010).await;
    bench.cache.drop_connection(one.tenant(), one.connection());
    assert!(gone.iter().all(is_wiped));
    assert!(!stay.iter().any(is_wiped));
    bench.cache.drop_connection(other.tenant(), other.connection());
    assert!(stay.iter().all(is_wiped));
    assert_eq!(bench.count(), 0);
    assert!(bench.all_shares_are_back());
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_that_race_with_loads_leave_nothing_of_the_old_epoch() {
    let bench = Bench::new().await;
    let entry = bench.world.loaded("k").await;
    let runtime = tokio::runtime::Handle::current();
    let load = |round| {
        let epoch_guard = entry.epoch_guard().unwrap();
        let epoch = epoch_guard.key_epoch();
        runtime.block_on(bench.get(&epoch_guard, at(round), b"data key"));
        // What is there now, the load's or not, was made under an epoch that holds.
        if let Some(bytes) = bench.bytes(at(round))
            && entry.epoch_guard().unwrap().key_epoch() != epoch
        {
            assert!(wiped_soon(&bytes), "an entry of an old epoch stays");
        }
    };
    let cut = |_| {
        move_on(&entry);
        bench.cache.drop_key(entry.tenant(), entry.id());
    };
    tokio::task::block_in_place(|| race(3_000, load, cut));
    bench.cache.drop_key(entry.tenant(), entry.id());
    assert_eq!(bench.count(), 0);
    assert!(bench.all_shares_are_back());
}

/// The cut that moved the epoch may still be at it.
fn wiped_soon(bytes: &LockedBytes) -> bool {
    let given_up = Instant::now() + Duration::from_secs(5);
    while !is_wiped(bytes) && Instant::now() < given_up {
        std::thread::yield_now();
    }
    is_wiped(bytes)
}

#[tokio::test]
async fn only_a_rejection_is_remembered() {
    let bench = Bench::new().await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    for (number, fail, loads) in [(0, Fail::Down, 2), (1, Fail::TimedOut, 4), (2, Fail::Rejected, 5)] {
        for _ in 0..2 {
            let failed = bench.ask(&epoch_guard, at(number), "r", LONG, ready(Err(fail.clone()))).await;
            assert_eq!(failed.err(), Some(fail.clone()));
        }
        assert_eq!(bench.loads(), loads, "{fail:?}");
    }
    assert!(!bench.get(&epoch_guard, at(3), b"another blob").await.cached);
    assert_eq!(bench.count(), 1);
}
