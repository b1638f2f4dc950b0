//! Observers see exactly the durable frames, in the order of the file.

use futures::future::join_all;

use parking_lot::Mutex;

use super::*;

/// A committed frame, as the observer saw it.
type Frame = (TenantId, u64, Position, Vec<u8>);

/// Keeps the commits that it sees.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Vec<Frame>>>>);

impl CommitObserver for Seen {
    fn committed(&mut self, commit: &Commit<'_>) {
        let frames: Vec<Frame> = commit
            .frames()
            .map(|frame| (frame.tenant, frame.sequence, frame.position, frame.json.to_vec()))
            .collect();
        let bytes: usize = frames.iter().map(|(_, _, _, json)| frame::PREFIX + json.len()).sum();
        assert_eq!(bytes, commit.bytes());
        self.0.lock().push(frames);
    }
}

impl Seen {
    fn frames(&self) -> Vec<Frame> {
        self.0.lock().concat()
    }

    fn observer(&self) -> Vec<Box<dyn CommitObserver>> {
        vec![Box::new(self.clone())]
    }
}

/// The frames that the file has.
fn stored(bench: &Bench) -> Vec<Frame> {
    bench
        .records()
        .into_iter()
        .map(|(position, record)| (record.tenant(), record.sequence(), position, serde_json::to_vec(&record).unwrap()))
        .collect()
}

#[tokio::test]
async fn an_observer_sees_the_acknowledged_frames_in_order() {
    let (bench, seen) = (Bench::new(), Seen::default());
    let Recovered { log, .. } = bench.open_with(Bench::options(), seen.observer()).unwrap();
    let mut receipts = Vec::new();
    for round in 0..8 {
        let appends = (0..round + 1).map(|who| unwrap_once(&log, tenant(who)));
        receipts.extend(join_all(appends).await.into_iter().map(Result::unwrap));
    }
    log.close().await;
    let frames = seen.frames();
    assert_eq!(frames, stored(&bench));
    receipts.sort_by_key(|receipt| receipt.position);
    let acknowledged: Vec<_> = receipts
        .iter()
        .map(|receipt| (receipt.tenant, receipt.sequence, receipt.position))
        .collect();
    let observed: Vec<_> = frames.iter().map(|(tenant, sequence, at, _)| (*tenant, *sequence, *at)).collect();
    assert_eq!(observed, acknowledged);
}

#[tokio::test]
async fn a_refused_frame_is_never_seen_and_a_rewritten_page_is_not_seen_again() {
    let (bench, seen) = (Bench::new(), Seen::default());
    let Recovered { log, .. } = bench.open_with(Bench::options(), seen.observer()).unwrap();
    for _ in 0..3 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    bench.disk.set(|disk| disk.failing_syncs = 2);
    let mut refused = log.entry(tenant(1), Action::Unwrap);
    refused.justification = Some(Text::new("refused"));
    let refused = log.record(refused, Outcome::Success, (), soon()).await;
    assert_eq!(refused.unwrap_err().reason(), Reason::WriteFailed);
    assert!(unwrap_once(&log, tenant(1)).await.is_err(), "the repair fails too");
    assert_eq!(seen.frames().len(), 3);

    // The repair writes the last page again, and the next commit reports the lost records.
    let receipt = unwrap_once(&log, tenant(1)).await.unwrap();
    bench.disk.set(|disk| disk.failing_writes = 1);
    assert!(unwrap_once(&log, tenant(2)).await.is_err());
    unwrap_once(&log, tenant(2)).await.unwrap();
    log.close().await;
    let frames = seen.frames();
    assert_eq!(frames, stored(&bench));
    assert_eq!((frames.len(), receipt.sequence), (7, 3));
    assert!(!frames.iter().any(|(_, _, _, json)| json.windows(7).any(|part| part == b"refused")));
}

#[tokio::test]
async fn a_deferred_frame_is_seen_when_it_is_written_and_one_commit_is_seen_at_once() {
    let (bench, seen) = (Bench::new(), Seen::default());
    let Recovered { log, .. } = bench.open_with(Bench::options(), seen.observer()).unwrap();
    bench.disk.set(|disk| disk.failing_syncs = usize::MAX);
    let revocation = EmergencyRevocation::Suspend(tenant(4)).at_lifts(0);
    let record = log.entry(tenant(4), Action::ManageTenants);
    let deferred = log.record_revocation(record, revocation, Outcome::Success, (), soon()).await;
    assert!(deferred.unwrap_err().deferred());
    assert!(seen.frames().is_empty());
    bench.disk.set(|disk| disk.failing_syncs = 0);
    let entries = (0..3).map(|_| (log.entry(tenant(1), Action::Wrap), Outcome::Success, ())).collect();
    log.record_batch(entries, soon()).await.unwrap();
    log.close().await;
    assert_eq!(seen.frames(), stored(&bench));
    let commits: Vec<usize> = seen.0.lock().iter().map(Vec::len).collect();
    assert_eq!(commits, [4], "the deferred record and the batch share a commit");
}

#[tokio::test]
async fn after_a_restart_only_new_commits_are_seen() {
    let (bench, first, second) = (Bench::new(), Seen::default(), Seen::default());
    let Recovered { log, .. } = bench.open_with(Bench::options(), first.observer()).unwrap();
    unwrap_once(&log, tenant(1)).await.unwrap();
    let crashed = bench.crashed();
    let Recovered { log, .. } = crashed.open_with(Bench::options(), second.observer()).unwrap();
    unwrap_once(&log, tenant(1)).await.unwrap();
    log.close().await;
    assert_eq!(second.frames(), stored(&crashed)[1..]);
    let kinds: Vec<_> = crashed.records().iter().map(|(_, record)| record.kind()).collect();
    assert_eq!(kinds, [Kind::Outcome, Kind::Restarted, Kind::Outcome]);
}
