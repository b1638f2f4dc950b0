//! Sequence numbers are given before the commit and count after it: a failed one gives them back.

use claviger_provider::KeyId;
use futures::future::join_all;
use futures::poll;

use super::*;

/// Asserts that each receipt names the place of its record.
fn assert_places(bench: &Bench, receipts: &[Receipt]) {
    let records = bench.records();
    for receipt in receipts {
        let found = records.iter().find(|(position, _)| *position == receipt.position);
        let found = found.map(|(_, record)| (record.tenant(), record.sequence()));
        assert_eq!(found, Some((receipt.tenant, receipt.sequence)));
    }
}

/// A commit of one record fails while the next one is open. The numbers of that have more digits
/// before than after.
async fn fail_with_one_open<T>(bench: &Bench, log: &Log, failing: impl Future<Output = Result<T, Unavailable>>) {
    for _ in 0..9 {
        unwrap_once(log, tenant(1)).await.unwrap();
    }
    bench.disk.set(|disk| (disk.gate_closed, disk.failing_syncs) = (true, 1));
    let mut failing = Box::pin(failing);
    assert!(poll!(&mut failing).is_pending());
    bench.disk.wait_at_gate();
    let mut open: Vec<_> = [1, 2, 1].into_iter().map(|who| Box::pin(unwrap_once(log, tenant(who)))).collect();
    for append in &mut open {
        assert!(poll!(append).is_pending());
    }
    bench.disk.set(|disk| disk.gate_closed = false);
    assert_eq!(failing.await.err().unwrap().reason(), Reason::WriteFailed);
    let mut receipts: Vec<_> = join_all(open).await.into_iter().map(Result::unwrap).collect();
    receipts.push(unwrap_once(log, tenant(1)).await.unwrap());
    let numbers: Vec<_> = receipts.iter().map(|receipt| receipt.sequence).collect();
    assert_eq!(numbers, [9, 0, 10, 11]);
    assert_places(bench, &receipts);
    log.close().await;
    assert!(bench.open().was_clean, "the numbers have no gap");
}

#[tokio::test]
async fn a_failed_commit_gives_its_numbers_back_and_the_open_one_is_numbered_anew() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    fail_with_one_open(&bench, &log, unwrap_once(&log, tenant(1))).await;
}

#[tokio::test]
async fn a_failed_intent_of_which_no_record_reports_gives_its_number_back() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let change = StateChange::new(Verb::Rotate, Object::Key, &KeyId::from_bytes([4; 16]));
    let intent = log.intent(log.entry(tenant(1), Action::Rotate), change, soon());
    fail_with_one_open(&bench, &log, intent).await;
    assert!(bench.records().iter().all(|(_, record)| record.kind() == Kind::Outcome));
}

#[tokio::test]
async fn what_is_queued_while_the_log_fails_gets_the_numbers_of_what_was_refused() {
    let bench = Bench::new();
    let options = Options {
        retry_after: Duration::from_millis(1),
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    let mut receipts = Vec::new();
    let rounds = async {
        let mut round = 0;
        // In a round that begins within the pause after the last one's failure, all are refused.
        while round < 20 || receipts.len() < 100 {
            // Syncs fail in turn, while records of all tenants are on their way.
            bench.disk.set(|disk| disk.failing_syncs = round % 3);
            let appends = (0..32).map(|who| unwrap_once(&log, tenant(who % 5)));
            receipts.extend(join_all(appends).await.into_iter().flatten());
            round += 1;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), rounds)
        .await
        .expect("records are written between failures");
    bench.disk.set(|disk| disk.failing_syncs = 0);
    // A failed sync leaves its bytes in the file until the next record.
    let last = async {
        loop {
            if let Ok(receipt) = unwrap_once(&log, tenant(1)).await {
                return receipt;
            }
        }
    };
    receipts.push(tokio::time::timeout(Duration::from_secs(30), last).await.expect("the log recovers"));
    assert_places(&bench, &receipts);
    log.close().await;
    // Reading it whole checks that the numbers have no gap.
    std::fs::remove_file(bench.index_path()).unwrap();
    bench.open().log.close().await;
}
