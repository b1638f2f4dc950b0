//! Crashes: whatever the end of the file, acknowledged records are never missing, and damage
//! before the end is never ignored.

use std::collections::BTreeMap;

use futures::future::join_all;
use proptest::prelude::*;

use super::*;

/// Opens what a crash left, closes it, and returns its records. `None` if the log was refused.
async fn reopened(bench: &Bench) -> Option<Vec<(Position, Record)>> {
    let Recovered { log, .. } = bench.try_open(Bench::options()).ok()?;
    log.close().await;
    Some(bench.records())
}

/// As a crash leaves a file of zeros of which the rest was never written.
fn zero_from(bench: &Bench, at: u64) {
    let mut bytes = std::fs::read(bench.log_path()).unwrap();
    bytes[at as usize..].fill(0);
    std::fs::write(bench.log_path(), bytes).unwrap();
}

fn overwrite(bench: &Bench, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    File::options()
        .write(true)
        .open(bench.log_path())
        .unwrap()
        .write_all_at(bytes, at)
        .unwrap();
}

fn assert_numbers_run(records: &[(Position, Record)]) {
    let mut next = BTreeMap::new();
    for (_, record) in records {
        let expected = next.entry(record.tenant()).or_insert(0);
        assert_eq!(record.sequence(), *expected);
        *expected += 1;
    }
}

#[tokio::test]
async fn truncated_at_every_byte_of_the_last_frames_the_whole_ones_stay() {
    let bench = Bench::new();
    // A short file, since it is written and read a thousand times.
    let options = Options {
        segments: SegmentSizes {
            first: 8 << 10,
            most: 8 << 10,
        },
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    for _ in 0..3 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    let before = bench.records();
    let length = bench.end();
    let ends: Vec<u64> = before[1..].iter().map(|(position, _)| position.0).chain([length]).collect();
    let crashed = bench.crashed();
    let whole = std::fs::read(bench.log_path()).unwrap();
    let index = std::fs::read(bench.index_path()).unwrap();
    for kept in before[1].0.0..=length {
        std::fs::write(crashed.log_path(), &whole).unwrap();
        zero_from(&crashed, kept);
        std::fs::write(crashed.index_path(), &index).unwrap();
        let records = reopened(&crashed).await.unwrap();
        let stay = ends.iter().filter(|end| **end <= kept).count();
        assert_eq!(records[..stay], before[..stay], "truncated to {kept}");
        assert_eq!(records.len(), stay + 1, "truncated to {kept}");
        assert_eq!(records[stay].1.cause(), Some(Cause::UncleanStop));
        let torn = !ends.contains(&kept) && kept > before[1].0.0;
        assert_eq!(records[stay].1.truncated_bytes.is_some(), torn, "truncated to {kept}");
    }
}

#[tokio::test]
async fn a_commit_whose_pages_came_out_of_order_is_torn_and_an_acknowledged_one_is_damaged() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    for _ in 0..3 {
        let entries = (0..4).map(|_| (log.entry(tenant(1), Action::Wrap), Outcome::Success, ())).collect();
        log.record_batch(entries, soon()).await.unwrap();
    }
    let records = bench.records();
    for (number, (position, _)) in records.iter().enumerate() {
        // A length, a checksum, a body that never reached the disk; whole frames follow.
        for at in [0, 5, 40] {
            let crashed = bench.crashed();
            overwrite(&crashed, position.0 + at, &[0xaa, 0]);
            let left = reopened(&crashed).await;
            if number < 8 {
                assert!(left.is_none(), "record {number} was followed by a commit");
            } else {
                assert_eq!(left.unwrap()[..number], records[..number]);
            }
        }
    }
    let crashed = bench.crashed();
    overwrite(&crashed, records[5].0.0, &[0xff; 8]);
    let refused = crashed.try_open(Bench::options());
    assert!(matches!(refused, Err(OpenError::Damaged { at, .. }) if at == records[5].0.0));
    // A refused log is not changed.
    assert_eq!(
        std::fs::metadata(crashed.log_path()).unwrap().len(),
        std::fs::metadata(bench.log_path()).unwrap().len()
    );
}

#[tokio::test]
async fn what_the_last_process_may_not_have_synced_is_written_again_before_it_is_synced() {
    // With the sidecar of the start, in one file and in several.
    for files in [1, 3] {
        let bench = Bench::new();
        let options = Options {
            segments: SegmentSizes {
                first: 4 << 10,
                most: 4 << 10,
            },
            ..Bench::options()
        };
        let Recovered { log, .. } = bench.try_open(options).unwrap();
        let mut receipts = Vec::new();
        while receipts.len() < 3 || bench.log_paths().len() < files {
            receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
        }
        receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
        let paths = bench.log_paths();
        let begin = paths[..files - 1]
            .iter()
            .map(|path| std::fs::metadata(path).unwrap().len())
            .sum::<u64>();
        let first = receipts.iter().find(|receipt| receipt.position.0 > begin).unwrap();
        let (first, end) = (first.position.0 - begin, bench.end() - begin);
        let crashed = bench.crashed();
        // The disk of a start: the pages are clean, so only what is written again reaches it.
        let closed = crashed.disk.clone();
        closed.set(|disk| disk.gate_closed = true);
        let opening = std::thread::spawn(move || {
            let _ = crashed.open();
        });
        closed.wait_at_gate();
        let written = closed.unsynced();
        assert!(
            written.iter().any(|range| range.start <= first && range.end >= end),
            "{written:?} lacks {first} to {end} of file {files}"
        );
        closed.set(|disk| disk.gate_closed = false);
        opening.join().unwrap();
        log.close().await;
    }
}

#[tokio::test]
async fn a_missing_end_is_detected() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    for _ in 0..3 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    log.close().await;
    let last = bench.records()[2].0;
    let end = bench.end();
    let whole = std::fs::read(bench.log_path()).unwrap();
    for truncated in [false, true] {
        match truncated {
            true => std::fs::write(bench.log_path(), &whole[..last.0 as usize]).unwrap(),
            false => zero_from(&bench, last.0),
        }
        let refused = bench.try_open(Bench::options());
        assert!(
            matches!(refused, Err(OpenError::Lost { expected, found }) if (expected, found) == (end, last.0)),
            "{refused:?}"
        );
    }
    // Even without a sidecar: the zeros behind the end are missing.
    std::fs::remove_file(bench.index_path()).unwrap();
    std::fs::write(bench.log_path(), &whole[..end as usize]).unwrap();
    let refused = bench.try_open(Bench::options());
    assert!(matches!(refused, Err(OpenError::LacksNext { at }) if at == end), "{refused:?}");
}

#[tokio::test]
async fn a_log_without_the_last_record_that_the_store_knows_is_refused() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    for _ in 0..3 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    log.close().await;
    let records = bench.records();
    let (before, position) = (records[1].0, records[2].0);
    let bytes = std::fs::read(bench.log_path()).unwrap();
    let crc = crc32c::crc32c(frame::parse(&bytes[position.0 as usize..]).unwrap().0);
    for (position, crc, expected) in [
        (position, crc, true),
        // Another record is at its place, or none.
        (position, crc ^ 1, false),
        (before, crc, false),
        (Position(position.0 + 1), crc, false),
        (Position(bench.end()), crc, false),
    ] {
        let options = Options {
            last_record: Some(LastRecord { position, crc }),
            ..Bench::options()
        };
        match bench.try_open(options) {
            Ok(Recovered { log, .. }) if expected => log.close().await,
            Err(OpenError::PutBack { at }) => assert!(!expected && at == position.0, "{position:?}"),
            other => panic!("{position:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_removed_or_repeated_record_is_detected() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    for _ in 0..4 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    let places: Vec<usize> = bench.records().iter().map(|(position, _)| position.0 as usize).collect();
    let bytes = std::fs::read(bench.log_path()).unwrap();
    let without = [&bytes[..places[1]], &bytes[places[2]..]].concat();
    let twice = [&bytes[..places[2]], &bytes[places[1]..]].concat();
    for forged in [without, twice] {
        let crashed = bench.crashed();
        std::fs::write(crashed.log_path(), forged).unwrap();
        assert!(matches!(crashed.try_open(Bench::options()), Err(OpenError::Damaged { .. })));
    }
}

#[tokio::test]
async fn an_intent_with_a_verb_of_a_later_release_is_refused() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let change = StateChange::new(Verb::Import, Object::Key, &claviger_provider::KeyId::from_bytes([4; 16]));
    let intent = log.intent(log.entry(tenant(1), Action::CreateKey), change, soon()).await.unwrap();
    let crashed = bench.crashed();
    let bytes = std::fs::read(crashed.log_path()).unwrap();
    let at = intent.position().0 as usize;
    let json = String::from_utf8(frame::parse(&bytes[at..]).unwrap().0.to_vec()).unwrap();
    let later = json.replace("\"import\"", "\"shrink\"");
    assert_ne!(later, json);
    overwrite(&crashed, at as u64 + 4, &crc32c::crc32c(later.as_bytes()).to_be_bytes());
    overwrite(&crashed, (at + frame::PREFIX) as u64, later.as_bytes());
    for accept_lost_log in [false, true] {
        let options = Options {
            accept_lost_log,
            ..Bench::options()
        };
        let refused = crashed.try_open(options).map(drop);
        assert!(refused.is_err_and(|error| error.to_string().contains("newer release")));
    }
    intent.resolve(Outcome::Success, |_| {}, (), soon()).await.unwrap().into_value();
}

#[tokio::test]
async fn without_its_sidecar_a_log_is_read_to_the_same_end() {
    let bench = Bench::new();
    let options = Options {
        snapshot_bytes: 1000,
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    let change = StateChange::new(Verb::Create, Object::Key, &claviger_provider::KeyId::from_bytes([4; 16]));
    let open = log.intent(log.entry(tenant(7), Action::CreateKey), change, soon()).await.unwrap();
    for who in 0..50 {
        unwrap_once(&log, tenant(who % 5)).await.unwrap();
        let intent = log.intent(log.entry(tenant(6), Action::CreateKey), change, soon()).await.unwrap();
        intent.resolve(Outcome::Success, |_| {}, (), soon()).await.unwrap().into_value();
    }
    // The sidecar is written by a thread of its own: wait for one that covers more than the first.
    let summed = async {
        while std::fs::read(bench.index_path()).unwrap().len() < 300 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), summed)
        .await
        .expect("no sidecar was written");
    let good = std::fs::read(bench.index_path()).unwrap();
    let mut flipped = good.clone();
    flipped[60] ^= 1;
    let mut found = Vec::new();
    for sidecar in [Some(good), Some(flipped), Some(Vec::new()), None] {
        let crashed = bench.crashed();
        match sidecar {
            Some(bytes) => std::fs::write(crashed.index_path(), bytes).unwrap(),
            None => std::fs::remove_file(crashed.index_path()).unwrap(),
        }
        let Recovered {
            log,
            open_intents,
            history,
            was_clean,
            ..
        } = crashed.open();
        assert!(!was_clean);
        let mut next = Vec::new();
        for who in 0..8 {
            next.push(unwrap_once(&log, tenant(who)).await.unwrap().sequence);
        }
        let open: Vec<_> = open_intents.iter().map(OpenIntent::position).collect();
        let changes: Vec<_> = history
            .missing_in(&[], None)
            .unwrap()
            .iter()
            .map(|change| change.position)
            .collect();
        found.push((next, open, changes));
    }
    // The installation's own log (tenant 0) has the `restarted` record too.
    assert_eq!(found[0].0, [11, 10, 10, 10, 10, 0, 100, 1]);
    assert_eq!(found[0].1, [open.position()]);
    assert_eq!(found[0].2.len(), 50);
    assert!(found.iter().all(|one| *one == found[0]));
}

#[tokio::test]
async fn a_crash_before_the_first_record_is_detected() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let crashed = bench.crashed();
    assert!(!crashed.open().was_clean);
    unwrap_once(&log, tenant(1)).await.unwrap();
    log.close().await;
    // Opened after a clean close, and crashed before anything was written.
    let Recovered { was_clean, .. } = bench.open();
    assert!(was_clean);
    assert!(!bench.crashed().open().was_clean);
}

#[derive(Debug, Clone)]
struct Batch {
    tenants: Vec<u8>,
    text: String,
}

fn batches() -> impl Strategy<Value = Vec<Vec<Batch>>> {
    let batch = (prop::collection::vec(0..4_u8, 1..5), ".{0,40}").prop_map(|(tenants, text)| Batch { tenants, text });
    // Each inner list is appended concurrently, by as many callers.
    prop::collection::vec(prop::collection::vec(batch, 1..5), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn after_a_crash_at_any_byte_no_acknowledged_record_is_missing(rounds in batches(), place in 0.0..1.0_f64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let Recovered { log, .. } = bench.open();
            // The file's length after each round, and the number of records acknowledged by then.
            let mut acknowledged = Vec::new();
            let mut count = 0;
            for round in &rounds {
                let appends = round.iter().map(|batch| {
                    let entries = batch.tenants.iter().map(|who| {
                        let mut record = log.entry(tenant(*who), Action::Wrap);
                        record.justification = Some(Text::new(batch.text.clone()));
                        (record, Outcome::Success, ())
                    });
                    log.record_batch(entries.collect(), soon())
                });
                for recorded in join_all(appends).await {
                    count += recorded.unwrap().len();
                }
                acknowledged.push((bench.end(), count));
            }
            let before = bench.records();
            let start = before[0].0.0;
            let length = acknowledged.last().unwrap().0;
            let kept_bytes = start + ((length - start) as f64 * place) as u64;
            let crashed = bench.crashed();
            zero_from(&crashed, kept_bytes);
            let after = reopened(&crashed).await.unwrap();
            let due = acknowledged.iter().filter(|(end, _)| *end <= kept_bytes).map(|(_, count)| *count).max().unwrap_or(0);
            let kept = after.len() - 1;
            assert!(kept >= due, "{kept} of {due} acknowledged records are left");
            assert_eq!(after[..kept], before[..kept]);
            assert_numbers_run(&after);
        });
    }
}
