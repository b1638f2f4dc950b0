//! Removing the part of a log in which records are lost: the numbers that jumped there are known from what is left.

use std::fs;

use super::keep::{LEAST, killed_at_each_step, shorten};
use super::segments::{accepting, path_of, small, starts, unwraps};
use super::*;

/// A log of which a part is lost, and went on. Of the tenants, 1 has records everywhere, 2 the first one and one in the
/// lost part, 3 one in the lost part, 4 the first one behind it, and 5 none.
async fn with_loss(at_the_end: bool) -> (Bench, Lost) {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(small()).unwrap();
    unwrap_once(&log, tenant(2)).await.unwrap();
    while starts(&bench).len() < 3 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    let lost_from = starts(&bench)[2];
    for number in [2, 3] {
        unwrap_once(&log, tenant(number)).await.unwrap();
    }
    assert_eq!(starts(&bench).len(), 3);
    let bench = if at_the_end {
        bench.crashed()
    } else {
        // The sidecar knows all numbers then.
        unwraps(&log, 40).await;
        log.close().await;
        bench
    };
    fs::remove_file(path_of(&bench, lost_from)).unwrap();
    let Recovered { log, .. } = bench.try_open(accepting()).unwrap();
    unwraps(&log, 30).await;
    unwrap_once(&log, tenant(4)).await.unwrap();
    unwraps(&log, 70).await;
    log.close().await;
    let lost = bench.records().into_iter().find_map(|(_, record)| record.lost()).unwrap();
    (bench, lost)
}

/// The next number of each tenant, which a start gives. Leaves the log as it is.
async fn next_numbers(bench: &Bench, without_index: bool) -> Vec<u64> {
    let copy = bench.crashed();
    if without_index {
        fs::remove_file(copy.index_path()).unwrap();
    }
    let opened = copy.try_open(small());
    let Recovered { log, .. } =
        opened.unwrap_or_else(|error| panic!("from {}, without its sidecar: {without_index}: {error}", starts(bench)[0]));
    let mut numbers = Vec::new();
    for number in 1..=5 {
        numbers.push(unwrap_once(&log, tenant(number)).await.unwrap().sequence);
    }
    log.close().await;
    // What was written is whole.
    read_copy(copy.folder.path()).unwrap();
    numbers
}

#[tokio::test]
async fn without_the_lost_part_every_number_is_known_from_what_is_left() {
    for at_the_end in [false, true] {
        let (bench, lost) = with_loss(at_the_end).await;
        let known = next_numbers(&bench, false).await;
        assert_eq!(known[4] > 0, at_the_end, "{known:?}");
        let Recovered { log, .. } = bench.try_open(small()).unwrap();
        let (mut before, mut after) = (0, 0);
        // Removed are the part before the lost one, the lost one, and parts behind it.
        while starts(&bench).len() > 2 {
            let one = Keep {
                bytes: None,
                age: Some(Duration::ZERO),
                archive: None,
            };
            let keeper = Keeper::on(bench.disk.clone(), bench.folder.path(), &bench.origin, one, LEAST);
            let survey = log.survey().await.unwrap();
            let Some(part) = keeper.next_part(&survey).unwrap() else { break };
            keeper.remove(&log, part, None).await.unwrap();
            let begin = starts(&bench)[0];
            let is_told = begin >= lost.to.get();
            before += usize::from(!is_told);
            after += usize::from(is_told);
            assert_eq!(next_numbers(&bench, false).await, known, "with the sidecar, from {begin}");
            let found = next_numbers(&bench, true).await;
            if is_told {
                assert_eq!(found, known, "without the sidecar, from {begin}");
            } else {
                assert!(found.iter().zip(&known).all(|(found, known)| found >= known), "{found:?} {known:?}");
            }
        }
        assert!(before > 0 && after > 2, "{before} {after}");
        log.close().await;
    }
}

/// A rule by which all goes that may.
fn all(_: &Bench) -> Keep {
    Keep {
        bytes: Some(LEAST),
        age: None,
        archive: None,
    }
}

#[tokio::test]
async fn killed_while_the_lost_part_is_removed_no_number_is_given_twice_or_left_open() {
    for at_the_end in [false, true] {
        let (original, lost) = with_loss(at_the_end).await;
        let known = next_numbers(&original, false).await;
        killed_at_each_step(&original, all, async |bench, keeper, step| {
            fs::remove_file(bench.index_path()).unwrap();
            let opened = bench.try_open(small());
            let Recovered { log, .. } = opened.unwrap_or_else(|error| panic!("step {step}: {error}"));
            let mut given = Vec::new();
            for number in 1..=5 {
                given.push(unwrap_once(&log, tenant(number)).await.unwrap().sequence);
            }
            assert!(
                given.iter().zip(&known).all(|(given, known)| given >= known),
                "step {step}: {given:?} {known:?}"
            );
            shorten(&log, keeper).await.unwrap_or_else(|error| panic!("step {step}: {error}"));
            assert!(starts(bench)[0] >= lost.to.get(), "step {step}: the lost part is still there");
            log.close().await;
            let next: Vec<_> = given.iter().map(|number| number + 1).collect();
            assert_eq!(next_numbers(bench, true).await, next, "step {step}");
        })
        .await;
    }
}

#[tokio::test]
async fn killed_while_the_lost_part_is_removed_the_store_may_have_its_last_change_there() {
    let (original, lost) = with_loss(false).await;
    killed_at_each_step(&original, all, async |bench, _, step| {
        let options = Options {
            stored: Some(Position(lost.from.get() + 1)),
            ..small()
        };
        let opened = bench.try_open(options);
        let Recovered { log, .. } = opened.unwrap_or_else(|error| panic!("step {step}: {error}"));
        log.close().await;
    })
    .await;
}
