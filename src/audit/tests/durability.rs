//! Process-crash mode: what is answered is in the kernel, changes are on the disk, and nothing but
//! what is on the disk is shown on.

use claviger_provider::{ConnectionId, KeyId};
use futures::future::join_all;
use parking_lot::Mutex;

use super::*;

/// Without a sync that nobody waits for.
fn options() -> Options {
    Options {
        durability: Durability::ProcessCrash,
        sync_every: Duration::from_secs(3600),
        ..Bench::options()
    }
}

/// With the usual syncs.
fn syncing() -> Options {
    let sync_every = Options::default().sync_every;
    Options { sync_every, ..options() }
}

fn syncs(bench: &Bench) -> usize {
    bench.disk.get(|disk| disk.syncs)
}

/// Waits for the sync of what was written, which no caller waits for.
async fn until_synced(bench: &Bench) {
    let synced = async {
        while !bench.disk.unsynced().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), synced)
        .await
        .expect("no sync follows");
}

/// Whether the frame at that place is marked as the first of a commit.
fn is_marked(bench: &Bench, receipt: &Receipt) -> bool {
    let bytes = std::fs::read(bench.log_path()).unwrap();
    frame::parse(&bytes[receipt.position.0 as usize..]).unwrap().1
}

#[tokio::test]
async fn a_record_is_answered_when_it_is_written_and_survives_the_process() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(options()).unwrap();
    let before = syncs(&bench);
    let mut receipts = Vec::new();
    for _ in 0..20 {
        receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
    }
    assert_eq!(syncs(&bench), before);
    let crashed = bench.crashed();
    let Recovered { log: next, was_clean, .. } = crashed.try_open(options()).unwrap();
    assert!(!was_clean);
    assert_eq!(unwrap_once(&next, tenant(1)).await.unwrap().sequence, 20);
    next.close().await;
    let records = crashed.records();
    for receipt in &receipts {
        assert!(
            records
                .iter()
                .any(|(at, record)| (*at, record.sequence()) == (receipt.position, receipt.sequence))
        );
    }
    let restarted = records.iter().find(|(_, record)| record.kind() == Kind::Restarted).unwrap();
    assert_eq!(restarted.1.durability(), Some(Durability::ProcessCrash));
    log.close().await;
    assert!(bench.open().was_clean, "a clean close syncs");
}

#[tokio::test]
async fn a_sync_follows_without_traffic_and_is_shared() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(syncing()).unwrap();
    let (before, begun) = (syncs(&bench), Instant::now());
    for _ in 0..200 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    until_synced(&bench).await;
    let most = 1 + begun.elapsed().as_millis() / syncing().sync_every.as_millis();
    let taken = syncs(&bench) - before;
    assert!(
        taken >= 1 && taken as u128 <= most,
        "{taken} syncs for 200 records, at most {most} are due"
    );
}

#[tokio::test]
async fn a_change_and_a_revocation_are_synced_before_their_answer() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(options()).unwrap();
    let written = unwrap_once(&log, tenant(1)).await.unwrap();
    let is_synced = |position: Position| !bench.disk.unsynced().iter().any(|range| range.contains(&position.0));
    assert!(!is_synced(written.position), "nothing else is");
    let change = StateChange::new(Verb::Rotate, Object::Key, &KeyId::from_bytes([4; 16]));
    let intent = log.intent(log.entry(tenant(1), Action::Rotate), change, soon()).await.unwrap();
    assert!(is_synced(intent.position()));
    unwrap_once(&log, tenant(1)).await.unwrap();
    let recorded = intent.resolve(Outcome::Success, |_| {}, (), soon()).await.unwrap();
    assert!(is_synced(recorded.receipt().unwrap().position));
    unwrap_once(&log, tenant(1)).await.unwrap();
    let sever = EmergencyRevocation::Sever(ConnectionId::from_bytes([6; 16])).at_lifts(0);
    let record = log.entry(tenant(1), Action::Sever);
    let recorded = log.record_revocation(record, sever, Outcome::Success, (), soon()).await.unwrap();
    assert!(is_synced(recorded.receipt().unwrap().position));
}

#[tokio::test]
async fn only_the_first_frame_after_a_sync_is_marked_so_a_torn_end_is_no_damage() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(options()).unwrap();
    let mut receipts = Vec::new();
    for _ in 0..5 {
        receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
    }
    let marked: Vec<_> = receipts.iter().map(|receipt| is_marked(&bench, receipt)).collect();
    assert_eq!(marked, [true, false, false, false, false]);
    // A power loss: a page in the middle did not reach the disk.
    let crashed = bench.crashed();
    let mut bytes = std::fs::read(crashed.log_path()).unwrap();
    let at = receipts[2].position.0 as usize;
    bytes[at..at + 16].fill(0);
    std::fs::write(crashed.log_path(), bytes).unwrap();
    let Recovered { log: next, .. } = crashed.try_open(options()).unwrap();
    assert_eq!(unwrap_once(&next, tenant(1)).await.unwrap().sequence, 2);
    let change = StateChange::new(Verb::Rotate, Object::Key, &KeyId::from_bytes([4; 16]));
    let _intent = log.intent(log.entry(tenant(1), Action::Rotate), change, soon()).await.unwrap();
    let after = unwrap_once(&log, tenant(1)).await.unwrap();
    assert!(is_marked(&bench, &after));
}

/// How many frames an observer has seen.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u64>>>);

impl CommitObserver for Seen {
    fn committed(&mut self, commit: &Commit<'_>) {
        self.0.lock().extend(commit.frames().map(|frame| frame.sequence));
    }
}

#[tokio::test]
async fn observers_see_synced_records_only() {
    let (bench, seen) = (Bench::new(), Seen::default());
    let Recovered { log, .. } = bench.open_with(options(), vec![Box::new(seen.clone())]).unwrap();
    for _ in 0..3 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    assert!(seen.0.lock().is_empty());
    log.close().await;
    assert_eq!(*seen.0.lock(), [0, 1, 2]);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_answered_and_what_was_is_written_anew() {
    for retry_after in [Duration::from_secs(3600), Duration::from_millis(1)] {
        let (bench, seen) = (Bench::new(), Seen::default());
        // Long enough for the records to be answered before.
        let sync_every = Duration::from_millis(500);
        let options = Options {
            retry_after,
            sync_every,
            ..options()
        };
        let Recovered { log, .. } = bench.open_with(options, vec![Box::new(seen.clone())]).unwrap();
        bench.disk.set(|disk| disk.failing_syncs = 1);
        let answered = join_all((0..8).map(|_| unwrap_once(&log, tenant(1)))).await;
        let answered: Vec<_> = answered.into_iter().map(Result::unwrap).collect();
        let failed = async {
            while bench.disk.get(|disk| disk.failing_syncs > 0) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), failed)
            .await
            .expect("no sync follows");
        if retry_after > Duration::from_secs(1) {
            let refused = unwrap_once(&log, tenant(1)).await.unwrap_err();
            assert_eq!((refused.reason(), log.health()), (Reason::WriteFailed, Health::WriteFailed));
            assert!(seen.0.lock().is_empty());
        }
        // The end does not wait for the pause.
        log.close().await;
        let records = bench.records();
        for receipt in &answered {
            assert!(
                records
                    .iter()
                    .any(|(at, record)| (*at, record.sequence()) == (receipt.position, receipt.sequence))
            );
        }
        assert_eq!(seen.0.lock()[..8], [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}

#[tokio::test]
async fn a_change_that_fails_takes_nothing_with_it_that_was_answered() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.try_open(options()).unwrap();
    bench.disk.set(|disk| disk.failing_syncs = 1);
    let answered = unwrap_once(&log, tenant(1)).await.unwrap();
    let change = StateChange::new(Verb::Rotate, Object::Key, &KeyId::from_bytes([4; 16]));
    let refused = log.intent(log.entry(tenant(1), Action::Rotate), change, soon()).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::WriteFailed);
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 1);
    log.close().await;
    let records = bench.records();
    assert!(records.iter().any(|(at, _)| *at == answered.position));
    assert!(!records.iter().any(|(_, record)| record.kind() == Kind::Intent));
}

/// The next file is begun while records are in the last one that were answered and not synced.
#[tokio::test]
async fn what_is_not_synced_is_synced_before_the_next_file_begins() {
    let (bench, seen) = (Bench::new(), Seen::default());
    let options = Options {
        segments: SegmentSizes {
            first: 8 << 10,
            most: 8 << 10,
        },
        ..options()
    };
    let Recovered { log, .. } = bench.open_with(options.clone(), vec![Box::new(seen.clone())]).unwrap();
    let mut receipts = Vec::new();
    while bench.log_paths().len() < 3 {
        let files = bench.log_paths().len();
        let receipt = unwrap_once(&log, tenant(1)).await.unwrap();
        if bench.log_paths().len() > files {
            assert_eq!(seen.0.lock().len(), receipts.len(), "all of the file before is durable");
            assert_eq!(bench.disk.unsynced().len(), 1, "and only the record is not");
        }
        receipts.push(receipt);
    }
    // After a power loss the files before are whole.
    let crashed = bench.crashed();
    let last = crashed.log_paths().pop().unwrap();
    let header = std::fs::read(&last).unwrap().iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut bytes = std::fs::read(&last).unwrap();
    bytes[header..].fill(0);
    std::fs::write(&last, bytes).unwrap();
    let Recovered { log: next, .. } = crashed.try_open(options).unwrap();
    assert_eq!(unwrap_once(&next, tenant(1)).await.unwrap().sequence, receipts.len() as u64 - 1);
    next.close().await;
    log.close().await;
    let records = bench.records();
    for receipt in &receipts {
        assert!(
            records
                .iter()
                .any(|(at, record)| (*at, record.sequence()) == (receipt.position, receipt.sequence))
        );
    }
}

#[tokio::test]
async fn a_failed_sync_before_the_next_file_takes_nothing_with_it_that_was_answered() {
    let bench = Bench::new();
    let options = Options {
        segments: SegmentSizes {
            first: 4 << 10,
            most: 4 << 10,
        },
        ..options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    bench.disk.set(|disk| disk.failing_syncs = 1);
    let mut receipts = Vec::new();
    let refused = loop {
        match unwrap_once(&log, tenant(1)).await {
            Ok(receipt) => receipts.push(receipt),
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused.reason(), bench.log_paths().len()), (Reason::WriteFailed, 1));
    assert!(receipts.len() > 1, "the first file is full");
    receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
    assert_eq!(bench.log_paths().len(), 2);
    log.close().await;
    let records = bench.records();
    for receipt in &receipts {
        assert!(
            records
                .iter()
                .any(|(at, record)| (*at, record.sequence()) == (receipt.position, receipt.sequence))
        );
    }
}
