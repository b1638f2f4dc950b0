//! How long an entry lives: age, idle time and uses, and that its bytes go with it.

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{ProviderKind, TenantId};
use proptest::prelude::*;

use super::{Bench, Fail, LONG, at, is_wiped, lasting, loaded, roomy, until};
use crate::cache::entry::Entry;
use crate::cache::shares::Shares;
use crate::cache::{MAX_AGE, Rules};
use crate::keys::fixture::{connection, row};
use crate::store::model::{CacheSettings, Custody};

/// An entry on its own, under these rules, whose load began now.
async fn entry(bench: &Bench, rules: Rules) -> (Entry, Instant) {
    let epoch_guard = bench.world.epoch_guard("entry").await;
    let shares = Arc::new(Shares::new(&roomy(), 1 << 20));
    let bytes = bench.cache.arena.store(b"data key").unwrap();
    let begun = Instant::now();
    let share = shares.take(epoch_guard.tenant(), 8).share.unwrap();
    (Entry::new(at(0), &epoch_guard, (bytes, share), 1, rules, begun), begun)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn an_age_is_absolute_and_capped_and_idle_time_is_not() {
    let bench = Bench::new().await;
    let rules = Rules {
        max_age: secs(3_600),
        max_idle: secs(3_600),
        ..Rules::default()
    };
    let (old, begun) = entry(&bench, rules).await;
    assert!(!old.is_over(begun + secs(299)));
    assert!(old.take_use().is_some());
    assert!(old.is_over(begun + MAX_AGE), "whatever the rules say, and however it is used");
}

#[tokio::test]
async fn an_entry_that_nobody_uses_is_over_before_its_age() {
    let bench = Bench::new().await;
    let rules = Rules {
        max_age: secs(60),
        max_idle: secs(15),
        ..Rules::default()
    };
    let (idle, begun) = entry(&bench, rules).await;
    assert!(!idle.is_over(begun + secs(14)));
    assert!(idle.is_over(begun + secs(59)));
    // A clock that is read before the entry's own beginning makes it young, not old.
    assert!(!idle.is_over(begun.checked_sub(secs(1)).unwrap()));
}

#[tokio::test]
async fn uses_do_not_lengthen_an_age_and_the_bytes_go_with_it() {
    let age = Duration::from_millis(200);
    let bench = Bench::under(Rules {
        max_age: age,
        max_idle: age,
        ..Rules::default()
    })
    .await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    let before = Instant::now();
    bench.get(&epoch_guard, at(0), b"dek").await;
    let loaded_at = Instant::now();
    let bytes = bench.bytes(at(0)).unwrap();
    // Without a rest, so that idle time has no part in it; nobody settles meanwhile.
    let mut last_hit = None;
    loop {
        let asked = Instant::now();
        if !bench.get(&epoch_guard, at(0), b"next").await.cached {
            assert!(Instant::now() >= before + age, "it lived shorter than its age");
            break;
        }
        last_hit = Some(asked);
    }
    assert!(last_hit.is_none_or(|hit| hit < loaded_at + age), "it lived longer than its age");
    assert!(is_wiped(&bytes), "another entry took its place");
    assert_eq!(bench.loads(), 2);
}

#[tokio::test]
async fn what_is_over_is_wiped_on_the_timer_though_nobody_asks_for_it() {
    let bench = Bench::under(Rules {
        max_age: secs(60),
        max_idle: Duration::from_millis(30),
        ..Rules::default()
    })
    .await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    let mut all = Vec::new();
    for number in 0..1_000 {
        bench.get(&epoch_guard, at(number), b"dek").await;
        all.extend(bench.bytes(at(number)));
    }
    let since = Instant::now();
    until("every entry is over", || since.elapsed() > Duration::from_millis(30)).await;
    bench.cache.sweep();
    assert!(all.iter().all(is_wiped), "one settling is enough");
    assert_eq!(bench.count(), 0);
    assert!(bench.all_shares_are_back());
}

#[tokio::test]
async fn settling_leaves_what_is_not_over() {
    let bench = Bench::new().await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    bench.get(&epoch_guard, at(0), b"dek").await;
    bench.cache.sweep();
    assert!(bench.get(&epoch_guard, at(0), b"dek").await.cached);
}

#[tokio::test]
async fn the_age_counts_from_before_the_provider_was_asked() {
    let age = Duration::from_millis(20);
    let bench = Bench::under(Rules {
        max_age: age,
        max_idle: age,
        ..Rules::default()
    })
    .await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    let load = async {
        let asked = Instant::now();
        until("the load took longer than an entry may live", || asked.elapsed() >= age).await;
        loaded(b"dek")
    };
    bench.ask(&epoch_guard, at(0), "slow", LONG, load).await.unwrap();
    assert_eq!(bench.count(), 0, "it was over before it could be kept");
    assert!(bench.all_shares_are_back());
}

#[tokio::test]
async fn an_entry_is_used_as_often_as_it_may_and_wiped_with_the_last_use() {
    let bench = Bench::under(Rules { max_uses: 3, ..lasting() }).await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    for round in 1..=3 {
        assert!(!bench.get(&epoch_guard, at(0), b"dek").await.cached);
        let bytes = bench.bytes(at(0)).unwrap();
        for _ in 0..3 {
            assert!(!is_wiped(&bytes));
            assert!(bench.get(&epoch_guard, at(0), b"dek").await.cached);
        }
        assert!(is_wiped(&bytes));
        assert!(bench.all_shares_are_back());
        assert_eq!(bench.loads(), round);
    }
    bench.cache.sweep();
    assert_eq!(bench.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_race_gives_more_uses_than_there_are() {
    let bench = Bench::new().await;
    let rules = Rules {
        max_uses: 100,
        ..lasting()
    };
    let (entry, _) = entry(&bench, rules).await;
    let used = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..100).filter(|_| entry.take_use().is_some()).count()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    // The last one may wipe while another that was counted before it has not copied yet.
    assert!((90..=100).contains(&used), "{used}");
    assert!(entry.bytes().is_none());
}

#[tokio::test]
async fn a_rejection_is_forgotten_after_five_seconds() {
    let bench = Bench::new().await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    let refused = bench.ask(&epoch_guard, at(0), "r", LONG, ready(Err(Fail::Rejected))).await;
    let since = Instant::now();
    assert_eq!(refused.err(), Some(Fail::Rejected));
    loop {
        let asked = Instant::now();
        match bench.ask(&epoch_guard, at(0), "r", LONG, ready(loaded(b"dek"))).await {
            Ok(found) => {
                assert!(!found.cached && since.elapsed() >= secs(4));
                break;
            }
            Err(fail) => assert!(fail == Fail::Rejected && asked - since <= secs(5), "remembered for too long"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.loads(), 2);
}

#[tokio::test]
async fn external_custody_is_cached_only_where_its_owner_wants_it_and_never_coalesced() {
    let bench = Bench::new().await;
    let (mut key, _) = row(&bench.world.connection, "k");
    for provider in ProviderKind::ALL {
        key.primary.custody = Custody::of(provider);
        let external = provider.external_custody();
        key.cache.enabled = None;
        assert_eq!(
            Rules::of(key.cache, key.primary.custody, Rules::default()).enabled,
            !external,
            "{provider}"
        );
        key.cache.enabled = Some(true);
        let wanted = Rules::of(key.cache, key.primary.custody, Rules::default());
        assert_eq!((wanted.enabled, wanted.coalesce), (true, !external), "{provider}");
        key.cache.enabled = Some(false);
        assert!(!Rules::of(key.cache, key.primary.custody, Rules::default()).enabled);
    }
}

proptest! {
    /// No settings of a key make an entry live longer than the cap, or turn on a cache in
    /// which nothing could be found.
    #[test]
    fn no_settings_lead_beyond_the_caps(
        enabled: Option<bool>, max_age_s: Option<u32>, max_idle_s: Option<u32>, max_uses: Option<u32>,
        age in 0u64..100_000, idle in 0u64..100_000,
    ) {
        let (mut key, _) = row(&connection(TenantId::random(), "c"), "k");
        key.cache = CacheSettings { enabled, max_age_s, max_idle_s, max_uses };
        let defaults = Rules { max_age: secs(age), max_idle: secs(idle), ..Rules::default() };
        let rules = Rules::of(key.cache, key.primary.custody, defaults);
        prop_assert!(rules.max_age <= MAX_AGE && rules.max_idle <= rules.max_age);
        if rules.enabled {
            prop_assert!(enabled != Some(false) && rules.max_uses > 0);
            prop_assert!(!rules.max_age.is_zero() && !rules.max_idle.is_zero());
        }
    }
}
