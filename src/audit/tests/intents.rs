//! Intents and their outcomes: one each, across crashes, and what recovery returns of them.

use claviger_provider::{Id, KeyId, TokenId};

use super::*;

fn rotate() -> StateChange {
    StateChange::new(Verb::Rotate, Object::Key, &KeyId::from_bytes([4; 16])).at_provider()
}

async fn begin(log: &Log, who: u8) -> Intent {
    let mut record = log.entry(tenant(who), Action::Rotate);
    record.key = Some(KeyId::from_bytes([4; 16]));
    record.request_id = Some(Text::new("r-1"));
    log.intent(record, rotate(), soon()).await.unwrap()
}

#[tokio::test]
async fn an_outcome_names_its_intent_and_takes_over_what_it_said() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwrap_once(&log, tenant(1)).await.unwrap();
    let intent = begin(&log, 1).await;
    let position = intent.position();
    let complete = |record: &mut Record| record.key_version = Some(2.into());
    let recorded = intent.resolve(Outcome::Success, complete, "new version", soon()).await.unwrap();
    assert_eq!(recorded.receipt().unwrap().sequence, 2);
    assert_eq!(recorded.into_value(), "new version");
    let records = bench.records();
    let (at, announced) = &records[1];
    assert_eq!(
        (*at, announced.kind(), announced.change()),
        (position, Kind::Intent, Some(rotate()))
    );
    assert_eq!((announced.ending(), announced.intent()), (None, None));
    let (_, outcome) = &records[2];
    assert_eq!(
        (outcome.kind(), outcome.intent(), outcome.ending()),
        (Kind::Outcome, Some(1), Some(Ending::Success))
    );
    assert_eq!(outcome.change(), Some(rotate()));
    assert_eq!(outcome.key_version, Some(2.into()));
    assert_eq!(outcome.request_id, Some(Text::new("r-1")));
}

#[tokio::test]
async fn an_intent_that_a_crash_left_open_is_handed_out_until_it_has_its_outcome() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let first = begin(&log, 1).await;
    let second = begin(&log, 2).await;
    let done = begin(&log, 1).await;
    done.resolve(Outcome::Failed("provider_denied"), |_| {}, (), soon())
        .await
        .unwrap()
        .into_value();
    let crashed = bench.crashed();
    let (first, second) = (first.position(), second.position());

    // A start that is refused before it resolves them leaves them open.
    for _ in 0..2 {
        let Recovered {
            log,
            open_intents,
            was_clean,
            ..
        } = crashed.open();
        assert_eq!(open_intents.iter().map(OpenIntent::position).collect::<Vec<_>>(), [first, second]);
        drop(open_intents);
        log.close().await;
        assert!(!was_clean || crashed.records().len() == 5);
    }
    let Recovered { log, open_intents, .. } = crashed.open();
    let [one, two] = <[OpenIntent; 2]>::try_from(open_intents).unwrap();
    assert_eq!((one.tenant(), one.record().change()), (tenant(1), Some(rotate())));
    one.resolve(&log, Outcome::Success, soon()).await.unwrap();
    let receipt = two.resolve(&log, Outcome::Failed("internal"), soon()).await.unwrap();
    assert_eq!(receipt.tenant, tenant(2));
    log.close().await;
    let Recovered { open_intents, history, .. } = crashed.open();
    assert!(open_intents.is_empty());
    let changes = history.missing_in(&[], None).unwrap();
    assert_eq!(
        changes.iter().map(|change| change.position).collect::<Vec<_>>(),
        [first],
        "a failed one changed nothing"
    );
    assert_eq!(changes[0].outcome.intent(), Some(0));
}

#[tokio::test]
async fn an_intent_that_is_dropped_is_interrupted() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let intent = begin(&log, 1).await;
    let position = intent.position();
    drop(intent);
    unwrap_once(&log, tenant(1)).await.unwrap();
    let outcome = &bench.records()[1].1;
    assert_eq!((outcome.ending(), outcome.intent()), (Some(Ending::Interrupted), Some(0)));
    log.close().await;
    let Recovered { open_intents, history, .. } = bench.open();
    assert!(open_intents.is_empty());
    assert_eq!(
        history.missing_in(&[], None).unwrap()[0].position,
        position,
        "its effect may have happened"
    );
}

#[tokio::test]
async fn an_intent_whose_caller_gave_up_has_its_outcome_too() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    bench.disk.set(|disk| disk.gate_closed = true);
    let late = log
        .intent(log.entry(tenant(1), Action::Rotate), rotate(), Instant::now())
        .await
        .unwrap_err();
    assert_eq!((late.reason(), late.deferred()), (Reason::Deadline, false));
    {
        let record = log.entry(tenant(1), Action::Rotate);
        let mut given_up = Box::pin(log.intent(record, rotate(), soon()));
        assert!(futures::poll!(&mut given_up).is_pending());
    }
    bench.disk.set(|disk| disk.gate_closed = false);
    let closed = async {
        while bench.records().len() < 4 {
            unwrap_once(&log, tenant(2)).await.unwrap();
        }
        while bench.records().iter().filter(|(_, record)| record.intent().is_some()).count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed)
        .await
        .expect("the intents stay open");
    for (_, outcome) in bench.records().iter().filter(|(_, record)| record.intent().is_some()) {
        assert_eq!(
            (outcome.ending(), outcome.code()),
            (Some(Ending::Failed), Some("deadline_exceeded"))
        );
    }
    log.close().await;
    let Recovered { open_intents, history, .. } = bench.open();
    assert!(open_intents.is_empty());
    assert!(history.missing_in(&[], None).unwrap().is_empty());
}

#[tokio::test]
async fn a_refused_outcome_is_deferred() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let intent = begin(&log, 1).await;
    bench.disk.set(|disk| disk.failing_syncs = 1);
    let refused = intent.resolve(Outcome::Success, |_| {}, (), soon()).await.unwrap_err();
    assert!(refused.deferred());
    unwrap_once(&log, tenant(1)).await.unwrap();
    assert_eq!(bench.records()[1].1.ending(), Some(Ending::Success));
    log.close().await;
    assert!(bench.open().open_intents.is_empty());
}

#[tokio::test]
async fn history_has_the_changes_that_an_older_store_has_missed() {
    let bench = Bench::new();
    let Recovered { log, history, .. } = bench.open();
    assert!(history.missing_in(&[], None).unwrap().is_empty());
    let mut positions = Vec::new();
    for outcome in [Outcome::Success, Outcome::Failed("internal"), Outcome::Success] {
        let intent = begin(&log, 1).await;
        positions.push(intent.position());
        intent.resolve(outcome, |_| {}, (), soon()).await.unwrap().into_value();
        unwrap_once(&log, tenant(2)).await.unwrap();
    }
    let revoke = EmergencyRevocation::Revoke(TokenId::from_bytes([5; 16])).at_lifts(0);
    let record = log.entry(tenant(1), Action::ManageTokens);
    let revoked = log.record_revocation(record, revoke, Outcome::Success, (), soon()).await.unwrap();
    positions.push(revoked.receipt().unwrap().position);
    let open = begin(&log, 3).await;
    let crashed = bench.crashed();
    let Recovered { history, open_intents, .. } = crashed.open();

    let missing = |applied: &[Position]| {
        let missing = history.missing_in(applied, applied.last().copied()).unwrap();
        missing.iter().map(|change| change.position).collect::<Vec<_>>()
    };
    let after = |applied: Option<Position>| missing(applied.as_slice());
    assert_eq!(after(None), [positions[0], positions[2], positions[3]]);
    assert_eq!(after(Some(positions[0])), [positions[2], positions[3]]);
    assert_eq!(after(Some(positions[2])), [positions[3]]);
    assert_eq!(after(Some(positions[3])), []);
    // A later change in the store does not show an earlier one.
    assert_eq!(missing(&[positions[0], positions[3]]), [positions[2]]);
    assert_eq!(missing(&[positions[0], positions[2], positions[3]]), []);
    assert_eq!(
        history.missing_in(&[positions[2]], Some(positions[2])).unwrap()[0]
            .outcome
            .change()
            .unwrap()
            .revocation(),
        Some(revoke)
    );
    // The store may have applied an open intent: it has not missed that change.
    assert_eq!(after(Some(open.position())), []);
    assert_eq!(open_intents[0].position(), open.position());

    let length = std::fs::metadata(crashed.log_path()).unwrap().len();
    for nonsense in [0, positions[0].0 + 1, length, u64::MAX] {
        let refused = history.missing_in(&[Position(nonsense)], Some(Position(nonsense)));
        assert!(
            matches!(refused, Err(OpenError::StoreAhead { applied }) if applied == nonsense),
            "{nonsense}"
        );
    }
}

#[tokio::test]
async fn a_response_can_be_withheld_after_its_record() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    unwrap_once(&log, tenant(1)).await.unwrap();
    let record = log.entry(tenant(1), Action::Unwrap);
    let recorded = log.record(record.clone(), Outcome::Success, "a plaintext", soon()).await.unwrap();
    let instead = recorded.withhold(&log, record, "key_disabled", "a refusal", soon()).await.unwrap();
    assert_eq!((*instead.value(), instead.receipt().unwrap().sequence), ("a refusal", 2));
    let record = &bench.records()[2].1;
    assert_eq!(
        (record.kind(), record.withholds(), record.code()),
        (Kind::Withheld, Some(1), Some("key_disabled"))
    );
}

#[tokio::test]
async fn a_tenants_records_are_in_its_own_log_alone() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    for who in [1, 2, 1] {
        begin(&log, who)
            .await
            .resolve(Outcome::Success, |_| {}, (), soon())
            .await
            .unwrap()
            .into_value();
    }
    for (_, record) in bench.records() {
        let json = serde_json::to_string(&record).unwrap();
        let other = tenant(3 - record.tenant().bytes()[0]);
        assert!(!json.contains(&other.to_string()));
    }
}
