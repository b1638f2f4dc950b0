//! A disk that is full, or fails to write.

use futures::future::join_all;

use claviger_provider::{ConnectionId, KeyId};

use super::*;

/// Asks for the health until it is sound: a log must recover without any record.
async fn until_sound(log: &Log) {
    let sound = async {
        while log.health() != Health::Sound {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), sound)
        .await
        .expect("the log does not recover");
}

fn kinds(records: &[(Position, Record)]) -> Vec<&'static str> {
    records.iter().map(|(_, record)| record.kind().as_str()).collect()
}

async fn revoke(log: &Log) -> Result<Recorded<()>, Unavailable> {
    let record = log.entry(tenant(1), Action::Disable);
    log.record_revocation(
        record,
        EmergencyRevocation::Disable(KeyId::from_bytes([4; 16])).at_lifts(1),
        Outcome::Success,
        (),
        soon(),
    )
    .await
}

#[tokio::test]
async fn a_failed_sync_refuses_the_commit_and_loses_nothing_that_was_acknowledged() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    for _ in 0..40 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    bench.disk.set(|disk| disk.failing_syncs = 1);
    let refused = unwrap_once(&log, tenant(1)).await.unwrap_err();
    assert_eq!((refused.reason(), refused.deferred()), (Reason::WriteFailed, false));
    let receipt = unwrap_once(&log, tenant(1)).await.unwrap();
    assert_eq!(receipt.sequence, 40, "a refused record leaves no hole in the numbers");
    let records = bench.records();
    assert_eq!(records.len(), 42);
    let restarted = &records[40].1;
    assert_eq!((restarted.cause(), restarted.unrecorded()), (Some(Cause::WriteFailed), Some(1)));
    assert_eq!(restarted.tenant(), TenantId::INSTALLATION);
    log.close().await;
    assert!(bench.open().was_clean);
}

#[tokio::test]
async fn while_syncs_fail_everything_is_refused_and_then_the_log_recovers_without_traffic() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwrap_once(&log, tenant(1)).await.unwrap();
    bench.disk.set(|disk| disk.failing_syncs = usize::MAX);
    let refused = join_all((0..10).map(|who| unwrap_once(&log, tenant(who)))).await;
    assert!(
        refused
            .iter()
            .all(|answer| answer.as_ref().is_err_and(|error| error.reason() == Reason::WriteFailed))
    );
    let refused = revoke(&log).await.unwrap_err();
    assert!(refused.deferred());
    assert_eq!(log.health(), Health::WriteFailed);
    assert_eq!(bench.records().len(), 1);
    bench.disk.set(|disk| disk.failing_syncs = 0);
    until_sound(&log).await;
    let records = bench.records();
    assert_eq!(kinds(&records), ["outcome", "restarted", "outcome"]);
    assert_eq!(records[1].1.unrecorded(), Some(10));
    assert_eq!(
        records[2].1.operation(),
        Action::Disable.into(),
        "the deferred record of the revocation"
    );
}

#[tokio::test]
async fn a_write_that_fails_halfway_leaves_no_trace() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwrap_once(&log, tenant(1)).await.unwrap();
    bench.disk.set(|disk| disk.failing_writes = 1);
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap_err().reason(), Reason::WriteFailed);
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap().sequence, 1);
    assert_eq!(kinds(&bench.records()), ["outcome", "restarted", "outcome"]);
}

#[tokio::test]
async fn after_a_failure_the_file_is_not_touched_for_a_while() {
    let bench = Bench::new();
    let options = Options {
        retry_after: Duration::from_secs(3600),
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    bench.disk.set(|disk| disk.failing_syncs = 1);
    assert!(unwrap_once(&log, tenant(1)).await.is_err());
    let writes = bench.disk.get(|disk| disk.writes);
    assert!(unwrap_once(&log, tenant(1)).await.is_err());
    assert_eq!(bench.disk.get(|disk| disk.writes), writes);
}

#[tokio::test]
async fn a_full_disk_stops_everything_but_revocations_before_the_reserve_is_used() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwrap_once(&log, tenant(1)).await.unwrap();
    let whole = Bench::options().reserve_bytes;
    bench.until_reserved(&log).await;

    bench.disk.leave(Bench::options().floor_bytes);
    log.check();
    let refused = unwrap_once(&log, tenant(1)).await.unwrap_err();
    assert_eq!((refused.reason(), log.health()), (Reason::DiskFull, Health::DiskFull));
    let change = StateChange::new(Verb::Rotate, Object::Key, &KeyId::from_bytes([4; 16]));
    let refused = log.intent(log.entry(tenant(1), Action::Rotate), change, soon()).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::DiskFull);
    assert_eq!(bench.reserve(), whole);
    let told = async {
        while log.disk_lasts() != Some(Duration::ZERO) {
            log.check();
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await;
    told.expect("a disk that takes no ordinary record lasts 0 s");

    bench.disk.leave(0);
    assert_eq!(revoke(&log).await.unwrap().receipt().unwrap().sequence, 1);
    let sever = StateChange::from(EmergencyRevocation::Sever(ConnectionId::from_bytes([6; 16])).at_lifts(0));
    let intent = log.intent(log.entry(tenant(1), Action::Sever), sever, soon()).await.unwrap();
    intent.resolve(Outcome::Success, |_| {}, (), soon()).await.unwrap().into_value();
    assert!(
        unwrap_once(&log, tenant(1)).await.is_err(),
        "the rest of the reserve is for revocations"
    );

    bench.disk.set(|disk| disk.capacity = None);
    until_sound(&log).await;
    assert_eq!(bench.reserve(), whole);
    unwrap_once(&log, tenant(1)).await.unwrap();
    let records = bench.records();
    let expected = ["outcome", "outcome", "intent", "outcome", "restarted", "outcome"];
    assert_eq!(kinds(&records), expected);
    assert_eq!((records[4].1.cause(), records[4].1.unrecorded()), (Some(Cause::DiskFull), Some(2)));
}

#[tokio::test]
async fn the_free_space_is_asked_for_once_a_second() {
    let bench = Bench::new();
    let begun = Instant::now();
    let Recovered { log, .. } = bench.open();
    for _ in 0..200 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    let (looks, syncs) = bench.disk.get(|disk| (disk.looks, disk.syncs));
    let seconds = begun.elapsed().as_secs() as usize;
    assert!(syncs >= 200 && looks <= seconds + 2, "{looks} looks in {seconds} s");
    bench.disk.set(|disk| disk.claimed = Some(Bench::options().floor_bytes));
    log.check();
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap_err().reason(), Reason::DiskFull);
}

#[tokio::test]
async fn when_no_next_file_can_be_made_the_reserve_is_it_and_only_for_revocations() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    bench.until_reserved(&log).await;
    // A disk that is fuller than it reports.
    bench.disk.leave(100);
    bench.disk.set(|disk| disk.claimed = Some(1 << 40));
    let mut written = 0;
    let refused = loop {
        match unwrap_once(&log, tenant(1)).await {
            Ok(_) => written += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.reason(), Reason::DiskFull);
    assert!(written > 100, "the whole file is used");
    assert_eq!((bench.log_paths().len(), bench.reserve()), (1, Bench::options().reserve_bytes));
    assert_eq!(revoke(&log).await.unwrap().receipt().unwrap().sequence, written);
    assert_eq!((bench.log_paths().len(), bench.reserve()), (2, 0));
    assert!(
        unwrap_once(&log, tenant(1)).await.is_err(),
        "the rest of the reserve is for revocations"
    );
    revoke(&log).await.unwrap().into_value();
    // Until not even the reserve is left.
    let refused = loop {
        if let Err(refused) = revoke(&log).await {
            break refused;
        }
    };
    assert_eq!((refused.reason(), refused.deferred()), (Reason::DiskFull, true));
    let before = bench.records().len();

    bench.disk.set(|disk| (disk.capacity, disk.claimed) = (None, None));
    until_sound(&log).await;
    assert_eq!(bench.reserve(), Bench::options().reserve_bytes, "the reserve is whole again");
    unwrap_once(&log, tenant(1)).await.unwrap();
    log.close().await;
    let records = bench.records();
    assert_eq!(kinds(&records[before..]), ["outcome", "restarted", "outcome"]);
    assert_eq!(
        records[before].1.change().and_then(|change| change.revocation()),
        Some(EmergencyRevocation::Disable(KeyId::from_bytes([4; 16])).at_lifts(1)),
        "the deferred record of the revocation"
    );
    assert!(bench.open().was_clean);
}

#[tokio::test]
async fn a_reserve_that_a_start_shortened_is_used_and_made_whole_when_there_is_room() {
    let whole = 256 << 10;
    let options = || Options {
        reserve_bytes: whole,
        floor_bytes: 0,
        ..Bench::options()
    };
    for used in [false, true] {
        let bench = Bench::new();
        let Recovered { log, .. } = bench.try_open(options()).unwrap();
        bench.until_reserve_has(whole, &log).await;
        log.close().await;
        let reserve = File::options().write(true).open(bench.folder.path().join("audit.reserve"));
        reserve.unwrap().set_len(whole / 2).unwrap();
        // Not even what it lacks.
        bench.disk.leave(whole / 4);
        let Recovered { log, .. } = bench.try_open(options()).unwrap();
        assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap_err().reason(), Reason::DiskFull);
        assert_eq!(bench.reserve(), whole / 2);
        if used {
            while bench.log_paths().len() == 1 {
                revoke(&log).await.unwrap().into_value();
            }
            let last = bench.log_paths().pop().unwrap();
            assert_eq!((last.metadata().unwrap().len(), bench.reserve()), (whole / 2, 0));
            revoke(&log).await.unwrap().into_value();
        }
        bench.disk.set(|disk| disk.capacity = None);
        until_sound(&log).await;
        bench.until_reserve_has(whole, &log).await;
        unwrap_once(&log, tenant(1)).await.unwrap();
        log.close().await;
        assert!(bench.try_open(options()).unwrap().was_clean);
    }
}

#[tokio::test]
async fn deferred_records_are_bounded() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    bench.disk.set(|disk| disk.failing_syncs = usize::MAX);
    let answers = join_all((0..4097).map(|_| revoke(&log))).await;
    let deferred = answers
        .iter()
        .filter(|answer| answer.as_ref().is_err_and(Unavailable::deferred))
        .count();
    assert_eq!(deferred, 4096);
    assert_eq!(answers[4096].as_ref().unwrap_err().reason(), Reason::Overload);
}

#[tokio::test]
async fn a_log_opens_on_a_full_disk_and_takes_revocations() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwrap_once(&log, tenant(1)).await.unwrap();
    let crashed = bench.crashed();
    crashed.disk.set(|disk| disk.capacity = Some(0));
    let Recovered { log, was_clean, .. } = crashed.open();
    assert!(!was_clean);
    assert_eq!(unwrap_once(&log, tenant(1)).await.unwrap_err().reason(), Reason::DiskFull);
    revoke(&log).await.unwrap().into_value();
    crashed.disk.set(|disk| disk.capacity = None);
    until_sound(&log).await;
    let records = crashed.records();
    assert_eq!(kinds(&records), ["outcome", "restarted", "outcome", "restarted"]);
    let causes: Vec<_> = records.iter().filter_map(|(_, record)| record.cause()).collect();
    assert_eq!(causes, [Cause::UncleanStop, Cause::DiskFull]);
}

/// The number that names the reserve's file, not its path.
fn inode(bench: &Bench) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(bench.folder.path().join("audit.reserve")).unwrap().ino()
}

#[tokio::test]
async fn each_start_makes_the_reserve_anew_where_the_disk_has_room_for_both() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    bench.until_reserved(&log).await;
    log.close().await;
    let (first, whole) = (inode(&bench), Bench::options().reserve_bytes);
    // Room for everything but another reserve.
    bench.disk.leave(whole / 2);
    let options = Options {
        floor_bytes: 0,
        ..Bench::options()
    };
    let Recovered { log, .. } = bench.try_open(options).unwrap();
    for _ in 0..10 {
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    assert_eq!((inode(&bench), bench.reserve()), (first, whole), "the old one stays");
    assert_eq!(log.health(), Health::Sound);
    bench.disk.set(|disk| disk.capacity = None);
    let renewed = async {
        while inode(&bench) == first {
            log.check();
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), renewed)
        .await
        .expect("the reserve is not made anew");
    assert_eq!(bench.reserve(), whole);
    let second = inode(&bench);
    for _ in 0..10 {
        log.check();
        unwrap_once(&log, tenant(1)).await.unwrap();
    }
    assert_eq!(inode(&bench), second, "once");
    log.close().await;
}
