//! Appends on a healthy disk: sequence numbers, positions, and one sync for many.

use std::task::Poll;

use futures::future::join_all;
use futures::poll;

use super::*;

#[tokio::test]
async fn numbers_run_from_zero_for_each_tenant_across_a_reopen() {
    let bench = Bench::new();
    let Recovered { log, was_clean, .. } = bench.open();
    assert!(was_clean);
    for number in 0..3 {
        for who in [1, 2] {
            let receipt = unwrap_once(&log, tenant(who)).await.unwrap();
            assert_eq!((receipt.tenant, receipt.sequence), (tenant(who), number));
        }
    }
    let receipt = unwrap_once(&log, tenant(3)).await.unwrap();
    assert_eq!(
        receipt.index(),
        "11111111111111111111111111111111/n1/03030303030303030303030303030303#0"
    );
    log.close().await;
    let Recovered { log, was_clean, .. } = bench.open();
    assert!(was_clean);
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 3);
    assert_eq!(unwrap_once(&log, tenant(3)).await.unwrap().sequence, 1);
    log.close().await;
    let records = bench.records();
    assert_eq!(records.len(), 9, "a clean close leaves no `restarted` record");
    assert!(records.is_sorted_by_key(|(position, _)| *position));
}

#[tokio::test]
async fn a_receipt_has_the_position_of_the_record() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.push(unwrap_once(&log, tenant(1)).await.unwrap());
    }
    let places: Vec<_> = bench
        .records()
        .into_iter()
        .map(|(position, record)| (position, record.sequence()))
        .collect();
    assert_eq!(
        places,
        receipts
            .iter()
            .map(|receipt| (receipt.position, receipt.sequence))
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn what_queued_during_a_sync_is_one_commit() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let (writes, syncs) = bench.disk.get(|disk| (disk.writes, disk.syncs));
    bench.disk.set(|disk| disk.gate_closed = true);
    let mut first = Box::pin(unwrap_once(&log, tenant(1)));
    assert!(poll!(&mut first).is_pending());
    bench.disk.wait_at_gate();
    let mut rest: Vec<_> = (0..64).map(|who| Box::pin(unwrap_once(&log, tenant(who)))).collect();
    for append in &mut rest {
        assert!(poll!(append).is_pending(), "nothing is answered before its sync");
    }
    bench.disk.set(|disk| disk.gate_closed = false);
    first.await.unwrap();
    for receipt in join_all(rest).await {
        receipt.unwrap();
    }
    bench
        .disk
        .get(|disk| assert_eq!((disk.writes - writes, disk.syncs - syncs), (2, 2)));
    assert_eq!(bench.records().len(), 65);
}

#[tokio::test]
async fn a_batch_is_one_sync_and_in_order() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let syncs = bench.disk.get(|disk| disk.syncs);
    let entries = (0..1000)
        .map(|item| (log.entry(tenant(1), Action::Wrap), Outcome::Success, item))
        .collect();
    let recorded = log.record_batch(entries, soon()).await.unwrap();
    assert_eq!(bench.disk.get(|disk| disk.syncs) - syncs, 1);
    for (number, item) in recorded.iter().enumerate() {
        assert_eq!((*item.value(), item.receipt().unwrap().sequence), (number, number as u64));
    }
    let joined = Recorded::join(recorded).unwrap();
    assert!(joined.receipt().is_none());
    assert_eq!(joined.value().len(), 1000);
    assert!(
        Recorded::<()>::join(Vec::new()).is_none(),
        "an empty batch would be a response without a record"
    );
}

#[tokio::test]
async fn a_full_queue_holds_callers_until_their_deadline_and_counts_what_is_lost() {
    let bench = Bench::new();
    let options = Options {
        queue_bytes: 1,
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    bench.disk.set(|disk| disk.gate_closed = true);
    let mut first = Box::pin(unwrap_once(&log, tenant(1)));
    assert!(poll!(&mut first).is_pending());
    bench.disk.wait_at_gate();
    let late = log
        .record(log.entry(tenant(1), Action::Unwrap), Outcome::Success, (), Instant::now())
        .await;
    assert_eq!(late.unwrap_err().reason(), Reason::Deadline);
    // A caller that is cancelled while it waits for room is counted too.
    let mut given_up = Box::pin(unwrap_once(&log, tenant(1)));
    assert!(poll!(&mut given_up).is_pending());
    drop(given_up);
    bench.disk.set(|disk| disk.gate_closed = false);
    first.await.unwrap();
    unwrap_once(&log, tenant(1)).await.unwrap();
    let records = bench.records();
    let kinds: Vec<_> = records.iter().map(|(_, record)| record.kind()).collect();
    assert_eq!(kinds, [Kind::Outcome, Kind::Restarted, Kind::Outcome]);
    let restarted = &records[1].1;
    assert_eq!((restarted.cause(), restarted.unrecorded()), (Some(Cause::Overload), Some(2)));
}

#[tokio::test]
async fn a_hanging_disk_shows_in_the_health() {
    let bench = Bench::new();
    let options = Options {
        stall_after: Duration::ZERO,
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    bench.disk.set(|disk| disk.gate_closed = true);
    let late = log
        .record(log.entry(tenant(1), Action::Unwrap), Outcome::Success, (), Instant::now())
        .await;
    assert_eq!(
        late.unwrap_err().reason(),
        Reason::Deadline,
        "the caller gets its answer although the disk hangs"
    );
    bench.disk.wait_at_gate();
    assert_eq!(log.health(), Health::Stalled);
    bench.disk.set(|disk| disk.gate_closed = false);
    // The record of the caller that gave up was written all the same, before the next one.
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 1);
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_alone() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let mut record = log.entry(tenant(1), Action::Unwrap);
    record.context_shown = Some([("n".to_owned(), "v".repeat(MAX_JSON))].into_iter().collect());
    let refused = log.record(record, Outcome::Success, (), soon()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::TooLarge);
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 0);
    assert_eq!(log.health(), Health::Sound);
}

#[tokio::test]
async fn a_closed_log_refuses() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let mut queued = Box::pin(unwrap_once(&log, tenant(1)));
    let written = poll!(&mut queued);
    log.close().await;
    let written = match written {
        Poll::Ready(written) => written,
        Poll::Pending => queued.await,
    };
    assert_eq!(written.unwrap().sequence, 0, "what was queued before is written");
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap_err().reason(), Reason::Closed);
    assert_eq!(log.health(), Health::Closed);
}

#[tokio::test]
async fn two_processes_cannot_have_the_same_log() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Bench::new().origin;
    let Recovered { log, .. } = open(folder.path(), &origin, Bench::options(), Vec::new()).unwrap();
    assert!(matches!(
        open(folder.path(), &origin, Bench::options(), Vec::new()),
        Err(OpenError::InUse)
    ));
    log.close().await;
    let other = Origin {
        node: "n2".parse().unwrap(),
        ..origin.clone()
    };
    assert!(matches!(
        open(folder.path(), &other, Bench::options(), Vec::new()),
        Err(OpenError::Foreign { .. })
    ));
    let Recovered { log, was_clean, .. } = open(folder.path(), &origin, Bench::options(), Vec::new()).unwrap();
    assert!(was_clean);
    log.close().await;
    let file = folder.path().join("audit-00000000000000000000.log");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(
        open(folder.path(), &origin, Bench::options(), Vec::new()),
        Err(OpenError::Lost { found: 0, .. })
    ));
    std::fs::write(&file, "something else").unwrap();
    assert!(matches!(
        open(folder.path(), &origin, Bench::options(), Vec::new()),
        Err(OpenError::NotALog { at: 0, .. })
    ));
}
