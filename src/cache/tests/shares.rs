//! Tenants' shares and the arena that they have together.

use std::ops::Range;

use claviger_guarded::{Arena, ArenaConfig};
use proptest::prelude::*;

use super::hold::{fill, of_tenant, stranger};
use super::{Bench, at, is_wiped, race, roomy};
use crate::cache::Limits;
use crate::keys::EpochGuard;

/// The smallest arena.
const SMALL: ArenaConfig = ArenaConfig { max_bytes: 1 };
/// Data keys of at most 64 bytes that fit in it.
const ENTRIES: usize = (64 << 10) / 64;

#[tokio::test]
async fn a_tenant_that_has_its_share_does_not_crowd_out_another() {
    let limits = Limits {
        entries_per_tenant: 3,
        ..roomy()
    };
    let bench = Bench::with(limits, ArenaConfig::default()).await;
    let (greedy, other) = (bench.world.epoch_guard("k").await, stranger(&bench).await);
    for number in 0..10 {
        bench.get(&greedy, at(number), b"data key").await;
    }
    assert_eq!(bench.count(), 3);
    fill(&bench, &other, 100, 103).await;
    for number in (0..3).chain(100..103) {
        assert!(bench.get(&other, at(number), b"x").await.cached, "{number}");
    }
    // Served from the provider all the same, each time.
    let loads = bench.loads();
    for _ in 0..2 {
        assert!(!bench.get(&greedy, at(5), b"data key").await.cached);
    }
    assert_eq!(bench.loads(), loads + 2);
    // And what is given back can be taken again.
    bench.cache.drop_key(greedy.tenant(), greedy.key());
    fill(&bench, &greedy, 200, 203).await;
    assert_eq!(bench.count(), 6);
}

#[tokio::test]
async fn a_tenants_bytes_are_bounded_too() {
    let limits = Limits {
        bytes_per_tenant: 10_000,
        ..roomy()
    };
    let bench = Bench::with(limits, ArenaConfig::default()).await;
    let (greedy, other) = (bench.world.epoch_guard("k").await, stranger(&bench).await);
    for number in 0..10 {
        bench.get(&greedy, at(number), &[7; 4096]).await;
    }
    assert_eq!(bench.count(), 2, "two slots fit, three do not");
    fill(&bench, &other, 100, 102).await;
}

#[tokio::test]
async fn what_the_arena_cannot_hold_is_served_uncached() {
    let bench = Bench::with(roomy(), ArenaConfig { max_bytes: 1 }).await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    for (number, len) in [(0, 4097), (1, 0)] {
        for _ in 0..2 {
            let found = bench.get(&epoch_guard, at(number), &vec![7; len]).await;
            assert_eq!((found.cached, found.plaintext.len()), (false, len));
        }
    }
    assert_eq!((bench.count(), bench.loads()), (0, 4));
    assert!(bench.all_shares_are_back());
}

#[tokio::test]
async fn a_wiped_entrys_slot_is_free_at_once() {
    let bench = Bench::with(roomy(), ArenaConfig { max_bytes: 1 }).await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    for round in 0..4 {
        for number in 0..1_024 {
            bench.get(&epoch_guard, at(round * 10_000 + number), b"data key").await;
        }
        assert_eq!(bench.count(), 1_024, "round {round}");
        assert!(!bench.get(&epoch_guard, at(9_999), b"one too many").await.cached);
        assert_eq!(bench.count(), 1_024);
        bench.cache.drop_key(epoch_guard.tenant(), epoch_guard.key());
    }
    assert!(bench.all_shares_are_back());
}

/// Puts entries in place without keeping a handle on their bytes, which would keep their slots.
async fn put(bench: &Bench, epoch_guard: &EpochGuard, numbers: Range<usize>) {
    for number in numbers {
        bench.get(epoch_guard, at(number), b"data key").await;
    }
}

/// How many of these entries the cache has.
fn kept(bench: &Bench, numbers: Range<usize>) -> usize {
    numbers.filter(|number| bench.bytes(at(*number)).is_some()).count()
}

#[tokio::test]
async fn the_largest_tenant_makes_room_for_smaller_ones() {
    let bench = Bench::with(roomy(), SMALL).await;
    let greedy = bench.world.epoch_guard("k").await;
    put(&bench, &greedy, 0..ENTRIES).await;
    let (one, two) = (of_tenant(&bench, "one").await, of_tenant(&bench, "two").await);
    let third = ENTRIES / 3;
    put(&bench, &one, 10_000..10_000 + third).await;
    put(&bench, &two, 20_000..20_000 + third).await;
    // The oldest entries of the largest are gone, and nothing else.
    assert_eq!(
        (kept(&bench, 0..2 * third), kept(&bench, 2 * third..ENTRIES)),
        (0, ENTRIES - 2 * third)
    );
    assert_eq!((kept(&bench, 10_000..20_000), kept(&bench, 20_000..30_000)), (third, third));
    assert_eq!((bench.count(), bench.cache.shares.taken()), (ENTRIES, ENTRIES));
    // A tenant that holds an equal part or more gets nothing of the others'.
    put(&bench, &greedy, 30_000..30_100).await;
    assert_eq!((kept(&bench, 10_000..30_000), kept(&bench, 30_000..30_100)), (2 * third, 0));
}

#[tokio::test]
async fn a_large_value_gets_room_among_small_ones() {
    let bench = Bench::with(roomy(), SMALL).await;
    let greedy = bench.world.epoch_guard("k").await;
    put(&bench, &greedy, 0..ENTRIES).await;
    let other = stranger(&bench).await;
    for number in 10_000..10_003 {
        bench.get(&other, at(number), &[7; 4096]).await;
        assert!(bench.get(&other, at(number), b"x").await.cached);
    }
    assert_eq!(kept(&bench, 0..ENTRIES), ENTRIES - 3 * 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_that_race_with_loads_lose_no_slot() {
    let bench = Bench::with(roomy(), SMALL).await;
    let (one, two) = (of_tenant(&bench, "one").await, of_tenant(&bench, "two").await);
    let runtime = tokio::runtime::Handle::current();
    let load = |epoch_guard: &EpochGuard, round: usize, slots: usize| {
        let number = round % 2_000;
        runtime.block_on(bench.get(epoch_guard, at(number + 10_000 * slots), &vec![7; 64 * slots]));
    };
    tokio::task::block_in_place(|| {
        race(
            3_000,
            |round| load(&one, round, 1 + round % 3),
            |round| load(&two, round, 4 + round % 9),
        );
    });
    assert_eq!(
        bench.cache.shares.taken(),
        bench.count(),
        "the map has what is charged, and nothing else"
    );
    for guard in [&one, &two] {
        bench.cache.drop_key(guard.tenant(), guard.key());
    }
    assert_eq!(bench.count(), 0);
    assert!(bench.all_shares_are_back());
    put(&bench, &one, 0..ENTRIES).await;
    assert_eq!(kept(&bench, 0..ENTRIES), ENTRIES);
}

#[tokio::test]
async fn three_tenants_within_their_shares_leave_a_fourth_its_entries() {
    let arena = ArenaConfig::default();
    let limits = Limits {
        entries_per_tenant: 10_000,
        bytes_per_tenant: 1 << 20,
    };
    let bench = Bench::with(limits, arena).await;
    let quiet = of_tenant(&bench, "quiet").await;
    let before = fill(&bench, &quiet, 0, 500).await;
    for (number, name) in ["one", "two", "three"].into_iter().enumerate() {
        let crowd = of_tenant(&bench, name).await;
        for entry in 0..1_000 {
            bench.get(&crowd, at(100_000 * (number + 1) + entry), &[7; 1025]).await;
        }
    }
    let after = fill(&bench, &quiet, 500, 1_000).await;
    assert!(!before.iter().chain(&after).any(is_wiped));
}

#[tokio::test]
async fn the_default_settings_fit_each_other() {
    // The defaults of `[cache]`.
    let limits = Limits {
        entries_per_tenant: 10_000,
        bytes_per_tenant: 1 << 20,
    };
    let bench = Bench::with(limits, ArenaConfig { max_bytes: 4 << 20 }).await;
    let epoch_guard = bench.world.epoch_guard("k").await;
    for number in 0..limits.entries_per_tenant + 1 {
        bench.get(&epoch_guard, at(number), &[7; 64]).await;
    }
    assert_eq!(bench.count(), limits.entries_per_tenant);
}

/// What a tenant does in the test below.
#[derive(Debug, Clone)]
enum Act {
    /// Unwraps a data key of this length.
    Load(usize),
    /// Disables its key.
    Drop,
}

fn acts() -> impl Strategy<Value = Vec<(usize, Act)>> {
    let load = (1_usize..=4096).prop_map(Act::Load);
    let short = (1_usize..=64).prop_map(Act::Load);
    let act = prop_oneof![8 => short, 8 => load, 1 => Just(Act::Drop)];
    prop::collection::vec((0..TENANTS, act), 1..400)
}

const TENANTS: usize = 4;

/// Bytes that each tenant holds, by the entries that are in the cache.
fn held(bench: &Bench, tenants: &[EpochGuard]) -> Vec<usize> {
    let of = |tenant: &EpochGuard| {
        let entries = bench.cache.shares.entries_of(tenant.tenant());
        entries
            .iter()
            .filter_map(|entry| entry.bytes())
            .map(|bytes| Arena::taken_by(bytes.len()))
            .sum()
    };
    tenants.iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever tenants do, what is charged is what the arena holds; an entry that leaves a tenant
    /// within its equal part is kept; and nobody within it, less one entry, loses any.
    #[test]
    fn every_tenant_keeps_its_part(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limits = Limits { entries_per_tenant: 600, bytes_per_tenant: 48 << 10 };
            let bench = Bench::with(limits, SMALL).await;
            let mut tenants = Vec::new();
            for name in ["a", "b", "c", "d"] {
                tenants.push(of_tenant(&bench, name).await);
            }
            let part = (64 << 10) / TENANTS;
            for (number, (tenant, act)) in acts.into_iter().enumerate() {
                let before = held(&bench, &tenants);
                match act {
                    Act::Load(len) => {
                        bench.get(&tenants[tenant], at(number), &vec![7; len]).await;
                        let wanted = before[tenant] + Arena::taken_by(len);
                        let after = held(&bench, &tenants);
                        if wanted <= part {
                            assert_eq!(after[tenant], wanted, "it is kept");
                        }
                        for (other, (before, after)) in before.iter().zip(&after).enumerate() {
                            // What is missing to a full arena before, and the last entry.
                            let least = part - 4096 / TENANTS - 4096;
                            assert!(other == tenant || after == before || *after >= least, "{before} to {after}");
                        }
                    }
                    Act::Drop => {
                        bench.cache.drop_key(tenants[tenant].tenant(), tenants[tenant].key());
                        assert_eq!(held(&bench, &tenants)[tenant], 0);
                    }
                }
                let all: usize = held(&bench, &tenants).iter().sum();
                assert_eq!((bench.cache.shares.used(), bench.cache.shares.taken()), (all, bench.count()));
            }
        });
    }
}
