//! Background calls have a record soon, equal ones share it, and none is lost.

use claviger_provider::{BackgroundCalls, CallResult, CallSink, ConnectionId, ErrorKind, ProviderCall};

use super::*;

fn connection(number: u16) -> ConnectionId {
    ConnectionId::from_bytes(u128::from(number).to_be_bytes())
}

fn call(operation: &'static str, id: &str, result: CallResult) -> ProviderCall {
    ProviderCall::new(operation, Some(id), result)
}

/// A call that was refused, as [`call`] makes one.
fn refused() -> CallResult {
    CallResult::of(&Err::<(), _>(()), |()| CallResult::Error(ErrorKind::ProviderDenied))
}

/// How many calls the records of background calls report together.
fn reported(records: &[(Position, Record)]) -> u64 {
    records
        .iter()
        .map(|(_, record)| {
            let counted: u64 = record.counts().map(|(_, count)| count).sum();
            record.provider_calls().len() as u64 + record.provider_calls_omitted() + counted
        })
        .sum()
}

#[tokio::test]
async fn a_call_is_a_record_of_its_tenant_and_connection() {
    let bench = Bench::new();
    let Recovered { log, background, .. } = bench.open();
    background.called(tenant(1), connection(2), call("AssumeRole", "id-1", CallResult::Ok));
    background.called(tenant(1), connection(2), call("AssumeRole", "id-2", refused()));
    background.called(tenant(3), connection(4), call("auth/approle/login", "id-3", CallResult::Abandoned));
    background.flush(&log, false).await.unwrap();
    let mut records = bench.records();
    records.sort_by_key(|(_, record)| record.provider_calls()[0].request_id.clone());
    let expected = [
        (1, 2, "AssumeRole", "ok", Ending::Success, None),
        (1, 2, "AssumeRole", "provider_denied", Ending::Failed, Some("provider_denied")),
        (3, 4, "auth/approle/login", "abandoned", Ending::Interrupted, None),
    ];
    assert_eq!(records.len(), expected.len());
    for ((_, record), (who, which, operation, result, ending, code)) in records.iter().zip(expected) {
        assert_eq!(record.operation(), Operation::Internal(Internal::Background));
        assert_eq!((record.kind(), record.authn), (Kind::Outcome, Some(Authn::Gateway)));
        assert_eq!((record.tenant(), record.connection), (tenant(who), Some(connection(which))));
        assert_eq!((record.principal, record.request_id.as_ref()), (None, None));
        let calls: Vec<_> = record
            .provider_calls()
            .iter()
            .map(|call| (call.operation.as_str(), call.result.as_str()))
            .collect();
        assert_eq!(calls, [(operation, result)]);
        assert_eq!((record.ending(), record.code()), (Some(ending), code));
    }
}

#[tokio::test]
async fn equal_calls_share_a_record_and_a_new_result_is_recorded_at_once() {
    let bench = Bench::new();
    let Recovered { log, background, .. } = bench.open();
    for round in 0..40 {
        background.called(tenant(1), connection(2), call("token", &format!("id-{round}"), refused()));
        background.flush(&log, false).await.unwrap();
    }
    assert_eq!(bench.records().len(), 1, "39 calls wait for the end of the period");
    background.called(tenant(1), connection(2), call("token", "at last", CallResult::Ok));
    background.flush(&log, false).await.unwrap();
    assert_eq!(bench.records().len(), 2);
    // The end of the run records the rest: eight with their ids, the others counted.
    background.flush(&log, true).await.unwrap();
    let records = bench.records();
    assert_eq!((records.len(), reported(&records)), (3, 41));
    let rest = &records[2].1;
    assert_eq!((rest.provider_calls().len(), rest.provider_calls_omitted()), (8, 31));
    assert_eq!(rest.provider_calls()[0].request_id, Some(Text::new("id-1")));
    let window = rest.window().unwrap();
    assert!(window.from <= window.to);
}

#[tokio::test]
async fn calls_wait_for_the_log_and_are_recorded_once() {
    let bench = Bench::new();
    let Recovered { log, background, .. } = bench.open();
    bench.disk.set(|disk| disk.failing_syncs = 1);
    background.called(tenant(1), connection(2), call("token", "id-1", CallResult::Ok));
    assert_eq!(background.flush(&log, false).await.unwrap_err().reason(), Reason::WriteFailed);
    background.called(tenant(1), connection(2), call("token", "id-2", CallResult::Ok));
    background.flush(&log, false).await.unwrap();
    background.flush(&log, true).await.unwrap();
    let records = bench.records();
    let ids: Vec<_> = records
        .iter()
        .flat_map(|(_, record)| record.provider_calls().iter().map(|call| call.request_id.clone().unwrap()))
        .collect();
    assert_eq!((ids, records.len()), (vec![Text::new("id-1"), Text::new("id-2")], 1));
}

#[tokio::test]
async fn memory_is_bounded_and_every_call_is_counted() {
    let bench = Bench::new();
    let Recovered { log, background, .. } = bench.open();
    for who in 1..=9 {
        for number in 0..600 {
            background.called(tenant(who), connection(number), call("token", "id", refused()));
        }
    }
    background.flush(&log, false).await.unwrap();
    let records = bench.records();
    assert_eq!((records.len(), reported(&records)), (4097, 9 * 600));
    let (_, others) = records.last().unwrap();
    assert_eq!((others.kind(), others.tenant()), (Kind::Aggregate, TenantId::INSTALLATION));
    assert!(others.counts().eq([("provider_denied", 8 * 88 + 600)]));
}

#[tokio::test]
async fn a_tenant_with_many_failing_connections_leaves_room_for_the_others() {
    let bench = Bench::new();
    let Recovered { log, background, .. } = bench.open();
    for number in 0..5000 {
        background.called(tenant(1), connection(number), call("token", "id", refused()));
    }
    background.called(tenant(2), connection(1), call("token", "id", refused()));
    background.flush(&log, false).await.unwrap();
    let records = bench.records();
    let of = |who| records.iter().filter(|(_, record)| record.tenant() == tenant(who)).count();
    assert_eq!((of(1), of(2), reported(&records)), (512, 1, 5001));
}

#[tokio::test]
async fn an_aborted_operation_is_recorded_with_its_abandoned_call() {
    let bench = Bench::new();
    let Recovered { log, background, .. } = bench.open();
    {
        let polling = async {
            let operation = background.operation("rotation", tenant(1), connection(2), Duration::from_secs(1));
            let _attempt = CallSink::from(&*operation).begin("DescribeKey");
            std::future::pending::<()>().await;
        };
        futures::pin_mut!(polling);
        assert!(futures::poll!(&mut polling).is_pending());
    }
    background.flush(&log, true).await.unwrap();
    let records = bench.records();
    assert_eq!((records.len(), records[0].1.ending()), (1, Some(Ending::Interrupted)));
}

#[tokio::test]
async fn an_operation_without_a_request_is_recorded_with_all_its_calls() {
    let bench = Bench::new();
    let Recovered { log, background, .. } = bench.open();
    let patience = Duration::from_secs(1);
    let operation = background.operation("rotation", tenant(1), connection(2), patience);
    for number in 0..11 {
        let attempt = CallSink::from(&*operation).begin("DescribeKey");
        attempt.finish(Some(&format!("id-{number}")), CallResult::Ok);
    }
    drop(operation);
    drop(background.operation("rotation", tenant(1), connection(2), patience));
    background.flush(&log, false).await.unwrap();
    let records = bench.records();
    assert_eq!((records.len(), reported(&records)), (1, 11));
    assert_eq!(records[0].1.provider_calls_omitted(), 3);
}
