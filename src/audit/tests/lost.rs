//! A log's file that something else removes, replaces, cuts or damages.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use claviger_provider::KeyId;

use super::*;

/// Records this many unwraps of tenant 1.
async fn unwraps(log: &Log, count: usize) {
    for _ in 0..count {
        unwrap_once(log, tenant(1)).await.unwrap();
    }
}

fn file(bench: &Bench) -> File {
    File::options().write(true).open(bench.log_path()).unwrap()
}

/// The numbers of tenant 1 that the log has.
fn numbers(bench: &Bench) -> Vec<u64> {
    let of_tenant = bench.records().into_iter().filter(|(_, record)| record.tenant() == tenant(1));
    of_tenant.map(|(_, record)| record.sequence()).collect()
}

/// The lost parts that records of the log report.
fn reported(bench: &Bench) -> Vec<Lost> {
    bench.records().iter().filter_map(|(_, record)| record.lost()).collect()
}

/// Asks for the health until the log's thread has found it sound again.
async fn until_checked(log: &Log, in_place: impl Fn() -> bool) {
    let sound = async {
        while !in_place() || log.health() != Health::Sound {
            log.check();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), sound)
        .await
        .expect("the log does not come back");
}

/// A start that reads the whole log finds the same as one that reads the sidecar.
async fn assert_reopens(bench: &Bench) {
    let before = bench.records();
    let Recovered { log, was_clean, .. } = bench.open();
    assert!(was_clean);
    log.close().await;
    fs::remove_file(bench.index_path()).unwrap();
    let Recovered { log, .. } = bench.open();
    log.close().await;
    assert_eq!(bench.records()[..before.len()], before);
}

#[tokio::test]
async fn a_file_that_was_removed_or_moved_away_is_put_back_whole() {
    for moved in [false, true] {
        let bench = Bench::new();
        let Recovered { log, .. } = bench.open();
        unwraps(&log, 50).await;
        if moved {
            fs::rename(bench.log_path(), bench.folder.path().join("elsewhere")).unwrap();
        } else {
            fs::remove_file(bench.log_path()).unwrap();
        }
        until_checked(&log, || bench.log_path().exists()).await;
        unwraps(&log, 10).await;
        assert_eq!(numbers(&bench), (0..60).collect::<Vec<_>>(), "moved: {moved}");
        assert_eq!(reported(&bench), []);
        assert!(
            matches!(bench.try_open(Bench::options()), Err(OpenError::InUse)),
            "the new file is not locked"
        );
        log.close().await;
        assert!(bench.open().was_clean);
    }
}

#[tokio::test]
async fn a_file_in_the_place_of_the_log_is_kept_under_another_name() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwraps(&log, 5).await;
    for (content, end) in [("another file", "replaced"), ("a third one", "replaced-2")] {
        let other = bench.folder.path().join("other");
        fs::write(&other, content).unwrap();
        let inode = fs::metadata(&other).unwrap().ino();
        fs::rename(&other, bench.log_path()).unwrap();
        until_checked(&log, || fs::metadata(bench.log_path()).unwrap().ino() != inode).await;
        assert_eq!(numbers(&bench), (0..5).collect::<Vec<_>>());
        let kept = bench.folder.path().join(format!("audit-00000000000000000000.log.{end}"));
        assert_eq!(fs::read_to_string(kept).unwrap(), content);
    }
}

#[tokio::test]
async fn a_cut_file_keeps_what_is_left_and_reports_the_rest() {
    for keep in [0, 30, 60] {
        let bench = Bench::new();
        let Recovered { log, .. } = bench.open();
        unwraps(&log, 100).await;
        let places: Vec<u64> = bench.records().iter().map(|(position, _)| position.0).collect();
        // In the middle of a record; or with the first line, too.
        let length = if keep == 0 { 0 } else { places[keep] + 100 };
        file(&bench).set_len(length).unwrap();
        // Found by the append, not by a look.
        let receipt = unwrap_once(&log, tenant(1)).await.unwrap();
        assert_eq!(receipt.sequence, 100, "no number is given twice");
        assert!(receipt.position.0 > places[99], "no position is given twice");
        let left = numbers(&bench);
        assert_eq!(left[..keep], (0..keep as u64).collect::<Vec<_>>());
        // The last page was in memory.
        assert!(left.ends_with(&[95, 96, 97, 98, 99, 100]), "{left:?}");
        let [lost] = reported(&bench)[..] else {
            panic!("one part is lost: {:?}", reported(&bench))
        };
        assert_eq!(lost.from.get(), places[keep]);
        assert_eq!(lost.to.get(), places[left[keep] as usize]);
        assert_eq!(log.lost_until(), lost.to.get());
        unwraps(&log, 3).await;
        log.close().await;
        assert_reopens(&bench).await;
    }
}

#[tokio::test]
async fn a_cut_within_the_last_page_loses_nothing() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwraps(&log, 100).await;
    let length = fs::metadata(bench.log_path()).unwrap().len();
    file(&bench).set_len(bench.end() - 20).unwrap();
    until_checked(&log, || fs::metadata(bench.log_path()).unwrap().len() == length).await;
    unwraps(&log, 1).await;
    assert_eq!(numbers(&bench), (0..101).collect::<Vec<_>>());
    assert_eq!(reported(&bench), []);
}

#[tokio::test]
async fn while_no_copy_can_be_made_everything_is_refused() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwraps(&log, 50).await;
    bench.disk.set(|disk| disk.failing_copies = usize::MAX);
    fs::remove_file(bench.log_path()).unwrap();
    until_refused(&log).await;
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap_err().reason(), Reason::LogLost);
    // A crash now: the next start says what is lost.
    let crashed = tempfile::tempdir().unwrap();
    fs::copy(bench.index_path(), crashed.path().join("audit.index")).unwrap();
    let refused = open(crashed.path(), &bench.origin, Bench::options(), Vec::new());
    assert!(matches!(refused, Err(OpenError::Lost { found: 0, .. })), "{refused:?}");

    bench.disk.set(|disk| disk.failing_copies = 0);
    until_checked(&log, || bench.log_path().exists()).await;
    let receipt = unwrap_once(&log, tenant(1)).await.unwrap();
    assert_eq!(receipt.sequence, 50);
    let restarted: Vec<_> = bench
        .records()
        .into_iter()
        .filter(|(_, record)| record.kind() == Kind::Restarted)
        .collect();
    assert_eq!(restarted.len(), 1);
    let restarted = &restarted[0].1;
    assert_eq!((restarted.cause(), restarted.lost()), (Some(Cause::LogLost), None));
    assert!(restarted.unrecorded().is_some_and(|records| records > 0));
}

#[tokio::test]
async fn a_crash_while_a_cut_file_is_brought_back_is_no_torn_end() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwraps(&log, 100).await;
    let places: Vec<u64> = bench.records().iter().map(|(position, _)| position.0).collect();
    bench.disk.set(|disk| disk.failing_syncs = usize::MAX);
    file(&bench).set_len(places[40]).unwrap();
    until_refused(&log).await;
    // Until the file has its length again, with zeros in it.
    let extended = async {
        while fs::metadata(bench.log_path()).unwrap().len() <= places[99] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), extended).await.unwrap();
    let crashed = bench.crashed();
    let refused = crashed.try_open(Bench::options());
    assert!(
        matches!(refused, Err(OpenError::Damaged { at, .. }) if at == places[40]),
        "{refused:?}"
    );
    let Recovered { log, .. } = crashed.try_open(accepting(None)).unwrap();
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 100);
    log.close().await;
    assert_reopens(&crashed).await;
}

async fn until_refused(log: &Log) {
    let lost = async {
        while log.health() != Health::LogLost {
            log.check();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), lost).await.expect("it is not found");
}

#[tokio::test]
async fn a_stop_right_after_a_failed_copy_tries_once_more() {
    let bench = Bench::new();
    let options = Options {
        retry_after: Duration::from_secs(3600),
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    unwraps(&log, 20).await;
    bench.disk.set(|disk| disk.failing_copies = 1);
    fs::remove_file(bench.log_path()).unwrap();
    until_refused(&log).await;
    log.close().await;
    assert_eq!(numbers(&bench), (0..20).collect::<Vec<_>>());
}

/// Options of a start that accepts a lost log, beside a store with that last position.
fn accepting(stored: Option<Position>) -> Options {
    Options {
        accept_lost_log: true,
        stored,
        ..Bench::options()
    }
}

/// A closed log of 100 records of tenant 1, with their places.
async fn closed() -> (Bench, Vec<Position>) {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwraps(&log, 100).await;
    log.close().await;
    let places = bench.records().iter().map(|(position, _)| *position).collect();
    (bench, places)
}

#[tokio::test]
async fn a_start_goes_on_with_what_is_left_only_if_the_operator_accepts_it() {
    for keep in [None, Some(0), Some(40)] {
        let (bench, places) = closed().await;
        match keep {
            None => fs::remove_file(bench.log_path()).unwrap(),
            Some(0) => file(&bench).set_len(0).unwrap(),
            Some(keep) => file(&bench).set_len(places[keep].0 + 10).unwrap(),
        }
        let keep = keep.unwrap_or(0);
        let refused = open(bench.folder.path(), &bench.origin, Bench::options(), Vec::new());
        assert!(refused.is_err(), "it starts without a word");
        let Recovered { log, was_clean, .. } = open(bench.folder.path(), &bench.origin, accepting(Some(places[99])), Vec::new()).unwrap();
        assert!(!was_clean);
        let receipt = unwrap_once(&log, tenant(1)).await.unwrap();
        assert_eq!(receipt.sequence, 100, "no number is given twice");
        assert!(receipt.position > places[99], "no position is given twice");
        log.close().await;
        let [lost] = reported(&bench)[..] else { panic!("one part is lost") };
        assert!(lost.from.get() <= places[keep].0 && places[99].0 < lost.to.get(), "{lost:?}");
        assert_eq!(numbers(&bench).len(), keep + 1);
        let Recovered {
            log, was_clean, history, ..
        } = bench.open();
        assert!(was_clean, "the loss is told once");
        assert_eq!(
            history.missing_in(&[places[99]], Some(places[99])).unwrap(),
            [],
            "a store's change in the lost part"
        );
        log.close().await;
        assert_reopens(&bench).await;
    }
}

/// A start that accepts the loss of a whole log is killed at each step: the next one lacks no more than what is
/// recorded as lost.
#[tokio::test]
async fn killed_at_each_step_a_start_that_accepts_a_loss_leaves_no_new_one() {
    for step in 0.. {
        let (bench, places) = closed().await;
        fs::remove_file(bench.log_path()).unwrap();
        fs::remove_file(bench.index_path()).unwrap();
        // What is lost is longer than a first file, so that the start closes it and begins the next one.
        let accepting = || Options {
            segments: segments::small().segments,
            ..accepting(Some(places[99]))
        };
        bench.disk.set(|disk| disk.killed_at = Some(disk.steps + step));
        if let Ok(Recovered { log, .. }) = bench.try_open(accepting()) {
            log.close().await;
        }
        let is_whole = bench.disk.get(|disk| disk.killed_at.is_some_and(|at| disk.steps <= at));
        bench.disk.set(|disk| disk.killed_at = None);
        let again = bench.try_open(Options {
            accept_lost_log: false,
            ..accepting()
        });
        let Recovered { log, .. } = match again {
            // Not marked as lost yet.
            Err(OpenError::PutBack { .. }) => bench.try_open(accepting()).unwrap(),
            again => again.unwrap_or_else(|error| panic!("step {step}: {error}")),
        };
        unwraps(&log, 3).await;
        log.close().await;
        assert_eq!(reported(&bench).len(), 1, "step {step}: {:?}", reported(&bench));
        if is_whole {
            assert!(step > 10, "{step} steps are too few");
            return;
        }
    }
}

#[tokio::test]
async fn damage_in_the_middle_is_skipped_and_what_follows_is_kept() {
    let (bench, places) = closed().await;
    // As a cut leaves it that is followed by an append.
    let zeros = vec![0; (places[60].0 - places[40].0 - 10) as usize];
    file(&bench).write_all_at(&zeros, places[40].0 + 10).unwrap();
    fs::remove_file(bench.index_path()).unwrap();
    assert!(matches!(bench.try_open(Bench::options()), Err(OpenError::Damaged { .. })));
    let Recovered { log, .. } = bench.try_open(accepting(None)).unwrap();
    log.close().await;
    assert_eq!(reported(&bench), [Lost::new(places[40].0, places[60].0)]);
    assert_eq!(numbers(&bench), (0..40).chain(60..100).collect::<Vec<_>>());
    assert_reopens(&bench).await;
}

#[tokio::test]
async fn a_start_that_accepts_a_lost_log_changes_nothing_in_a_whole_one() {
    let (bench, _) = closed().await;
    let before = fs::read(bench.log_path()).unwrap();
    let Recovered { log, was_clean, .. } = bench.try_open(accepting(None)).unwrap();
    assert!(was_clean);
    log.close().await;
    assert_eq!(fs::read(bench.log_path()).unwrap(), before);
}

/// Makes a change of that outcome. Returns the position of its intent.
async fn change(log: &Log, outcome: Outcome) -> Position {
    let change = StateChange::new(Verb::Create, Object::Key, &KeyId::from_bytes([1; 16]));
    let intent = log.intent(log.entry(tenant(1), Action::CreateKey), change, soon()).await.unwrap();
    let position = intent.position();
    intent.resolve(outcome, |_| (), (), soon()).await.map(drop).unwrap();
    position
}

#[tokio::test]
async fn a_change_in_a_lost_part_is_missed_where_the_store_had_its_position() {
    for (outcome, goes_on) in [
        (Outcome::Success, false),
        (Outcome::Success, true),
        (Outcome::Interrupted, false),
        (Outcome::Interrupted, true),
        (Outcome::Failed("internal"), false),
    ] {
        let bench = Bench::new();
        let Recovered { log, .. } = bench.open();
        let position = change(&log, outcome).await;
        unwraps(&log, 100).await;
        file(&bench).set_len(position.0).unwrap();
        unwraps(&log, 1).await;
        assert_eq!(reported(&bench).len(), 1);
        if goes_on {
            change(&log, Outcome::Success).await;
        }
        log.close().await;
        let Recovered { log, history, .. } = bench.open();
        let missed = (outcome == Outcome::Success).then_some(position);
        assert_eq!(history.lacks_lost(None), missed, "{outcome:?} {goes_on}");
        assert_eq!(history.lacks_lost(Some(Position(position.0 - 1))), missed, "{outcome:?} {goes_on}");
        assert_eq!(history.lacks_lost(Some(position)), None, "{outcome:?} {goes_on}");
        log.close().await;
        // Without the sidecar, the store tells what it had.
        fs::remove_file(bench.index_path()).unwrap();
        let stored = Options {
            stored: Some(position),
            ..Bench::options()
        };
        bench.try_open(stored).unwrap().log.close().await;
        let Recovered { log, history, .. } = bench.open();
        assert_eq!(history.lacks_lost(None), Some(position), "{outcome:?} {goes_on}");
        log.close().await;
    }
}

#[tokio::test]
async fn the_sidecar_of_another_copy_hides_no_open_intent() {
    for is_longer in [true, false] {
        let bench = Bench::new();
        let Recovered { log, .. } = bench.open();
        unwraps(&log, 10).await;
        // The store and the sidecar are of this copy.
        let other = bench.crashed();
        let Recovered { log: of_other, .. } = other.open();
        unwraps(&of_other, 50).await;
        let stored = change(&of_other, Outcome::Success).await;
        of_other.close().await;
        let last = change(&log, Outcome::Success).await;
        let disable = EmergencyRevocation::Disable(KeyId::from_bytes([1; 16])).at_lifts(0);
        let open = log
            .intent(log.entry(tenant(1), Action::Disable), disable.into(), soon())
            .await
            .unwrap();
        unwraps(&log, if is_longer { 100 } else { 1 }).await;
        let crashed = bench.crashed();
        fs::copy(other.index_path(), crashed.index_path()).unwrap();
        let options = Options {
            compared: Some(stored),
            ..accepting(Some(stored))
        };
        let Recovered {
            log,
            open_intents,
            history,
            ..
        } = crashed.try_open(options).unwrap();
        let positions: Vec<_> = open_intents.iter().map(OpenIntent::position).collect();
        assert_eq!(positions, [open.position()], "longer: {is_longer}");
        assert_eq!(history.last_effective(), Some(if is_longer { last } else { stored }));
        log.close().await;
    }
}

/// The start that accepts the loss is killed before it applies them to the store.
#[tokio::test]
async fn the_revocations_of_a_shorter_copy_are_missing_until_the_store_is_compared_with_them() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    // The store is of this copy.
    let other = bench.crashed();
    let Recovered { log: of_other, .. } = other.open();
    unwraps(&of_other, 50).await;
    let stored = change(&of_other, Outcome::Success).await;
    let disable = EmergencyRevocation::Disable(KeyId::from_bytes([1; 16])).at_lifts(0);
    let entry = log.entry(tenant(1), Action::Disable);
    let intent = log.intent(entry, disable.into(), soon()).await.unwrap();
    let revocation = intent.position();
    intent.resolve(Outcome::Success, |_| (), (), soon()).await.map(drop).unwrap();
    log.close().await;
    let missing = |bench: &Bench, accept_lost_log: bool, stored: Position| {
        let options = Options {
            accept_lost_log,
            compared: Some(stored),
            ..accepting(Some(stored))
        };
        let Recovered { history, .. } = bench.try_open(options).unwrap();
        let missing = history.missing_in(&[stored], Some(stored)).unwrap();
        let positions: Vec<_> = missing.iter().map(|change| change.position).collect();
        (positions, history.until_compared())
    };
    let (positions, until) = missing(&bench, true, stored);
    assert_eq!(positions, [revocation]);
    for _ in 0..2 {
        assert_eq!(missing(&bench.crashed(), false, stored), (vec![revocation], until));
    }
    assert_eq!(missing(&bench.crashed(), false, until.unwrap()), (Vec::new(), None));
}

#[tokio::test]
async fn after_another_copy_of_the_log_each_number_may_be_given() {
    let (bench, places) = closed().await;
    let options = Options {
        // Another record is there.
        last_record: Some(LastRecord {
            position: places[99],
            crc: 0,
        }),
        ..accepting(None)
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    // All that the other copy had may have been its.
    let next = unwrap_once(&log, tenant(2)).await.unwrap().sequence;
    assert!(next >= (places[99].0 + (128 << 20)) / 128, "{next}");
    log.close().await;
    assert_reopens(&bench).await;
}
