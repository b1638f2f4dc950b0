//! A sync that failed is not believed, neither by the process nor by the next one: the kernel reads what was
//! written from memory, and no later sync writes it.

use claviger_provider::{ConnectionId, KeyId};

use super::*;

/// Without a sync that nobody waits for, and without a repair before the end.
fn options(durability: Durability) -> Options {
    Options {
        durability,
        sync_every: Duration::from_secs(3600),
        retry_after: Duration::from_secs(3600),
        // One file has it all.
        segments: SegmentSizes {
            first: 1 << 20,
            most: 1 << 20,
        },
        ..Bench::options()
    }
}

/// Records more than a few pages, in one commit or in several.
async fn record_many(log: &Log) -> Result<Vec<Receipt>, Unavailable> {
    let entries = (0..60)
        .map(|_| (log.entry(tenant(1), Action::Wrap), Outcome::Success, ()))
        .collect();
    let recorded = log.record_batch(entries, soon()).await?;
    Ok(recorded.iter().map(|recorded| recorded.receipt().unwrap().clone()).collect())
}

/// Syncs in each durability.
async fn intend(log: &Log) -> Result<Intent, Unavailable> {
    let change = StateChange::new(Verb::Rotate, Object::Key, &KeyId::from_bytes([4; 16]));
    log.intent(log.entry(tenant(1), Action::Rotate), change, soon()).await
}

/// Ends the process of a log: it does nothing more.
async fn kill(bench: &Bench, log: Log) {
    bench.disk.set(|disk| disk.killed_at = Some(0));
    log.close().await;
    bench.disk.set(|disk| disk.killed_at = None);
}

fn assert_has(bench: &Bench, receipts: &[Receipt]) {
    let records = bench.records();
    for receipt in receipts {
        let has = |(at, record): &(Position, Record)| (*at, record.sequence()) == (receipt.position, receipt.sequence);
        assert!(records.iter().any(has), "{receipt:?} is missing");
    }
}

#[tokio::test]
async fn what_a_failed_sync_left_in_memory_is_on_the_disk_before_a_start_goes_on() {
    for (durability, failing_starts) in [
        (Durability::PowerLoss, 0),
        (Durability::PowerLoss, 2),
        (Durability::ProcessCrash, 0),
        (Durability::ProcessCrash, 1),
    ] {
        let bench = Bench::new();
        let Recovered { log, .. } = bench.try_open(options(durability)).unwrap();
        let mut answered = record_many(&log).await.unwrap();
        bench.disk.set(|disk| (disk.reads_on, disk.failing_syncs) = (true, 1));
        // With process-crash they are answered, and the sync of the intent fails.
        answered.extend(record_many(&log).await.unwrap_or_default());
        assert!(intend(&log).await.is_err());
        assert!(bench.disk.get(|disk| disk.lacking()) > 2);
        kill(&bench, log).await;

        // The next process reads it, and must not take it for durable.
        bench.disk.set(|disk| disk.failing_syncs = failing_starts);
        for _ in 0..failing_starts {
            let refused = bench.try_open(options(durability));
            assert!(matches!(refused, Err(OpenError::Io { what: "synced", .. })), "{refused:?}");
        }
        let Recovered { log, .. } = bench.try_open(options(durability)).unwrap();
        answered.extend(record_many(&log).await.unwrap());
        let _intent = intend(&log).await.unwrap();
        let records = bench.records();
        kill(&bench, log).await;
        bench.disk.lose_power(&bench.log_path());

        let Recovered { log, .. } = bench.try_open(options(durability)).unwrap();
        assert_eq!(bench.records()[..records.len()], records, "{durability:?}");
        assert_has(&bench, &answered);
        log.close().await;
    }
}

#[tokio::test]
async fn a_process_that_goes_on_after_a_failed_sync_writes_again_what_it_answered() {
    for durability in [Durability::PowerLoss, Durability::ProcessCrash] {
        let bench = Bench::new();
        let options = Options {
            retry_after: Duration::ZERO,
            ..options(durability)
        };
        let Recovered { log, .. } = bench.try_open(options.clone()).unwrap();
        let mut answered = record_many(&log).await.unwrap();
        for _ in 0..3 {
            bench.disk.set(|disk| (disk.reads_on, disk.failing_syncs) = (true, 1));
            answered.extend(record_many(&log).await.unwrap_or_default());
            // With power-loss, the records were refused, and the repair comes before the intent.
            let intent = intend(&log).await;
            assert_eq!(intent.is_err(), durability == Durability::ProcessCrash);
            answered.extend(record_many(&log).await.unwrap());
        }
        let sever = EmergencyRevocation::Sever(ConnectionId::from_bytes([6; 16])).at_lifts(0);
        let record = log.entry(tenant(1), Action::Sever);
        let severed = log.record_revocation(record, sever, Outcome::Success, (), soon()).await.unwrap();
        answered.push(severed.receipt().unwrap().clone());
        kill(&bench, log).await;
        bench.disk.lose_power(&bench.log_path());

        let Recovered { log, .. } = bench.try_open(options).unwrap();
        assert_has(&bench, &answered);
        log.close().await;
    }
}
