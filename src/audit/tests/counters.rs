//! Counts are bounded, summed, and kept while the log is not available.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use claviger_provider::PrincipalId;

use super::*;

fn v4(network: u32, host: u8) -> IpAddr {
    Ipv4Addr::from((10 << 24) + (network << 8) + u32::from(host)).into()
}

type Sum<'a> = (Option<Source>, Vec<(&'a str, u64)>);

fn sums(records: &[(Position, Record)]) -> Vec<Sum<'_>> {
    records
        .iter()
        .map(|(_, record)| (record.source, record.counts().collect()))
        .collect()
}

#[tokio::test]
async fn failures_are_summed_by_network_and_code() {
    let bench = Bench::new();
    let Recovered { log, counters, .. } = bench.open();
    for host in 0..10 {
        let answer = counters.failed(v4(1, host), "unauthenticated", "a refusal");
        assert!(answer.receipt().is_none());
        assert_eq!(answer.into_value(), "a refusal");
    }
    let _ = counters.failed(v4(1, 200), "too_large", ());
    let _ = counters.failed(Ipv6Addr::LOCALHOST.into(), "unauthenticated", ());
    counters.flush(&log).await.unwrap();
    counters.flush(&log).await.unwrap();
    let records = bench.records();
    let mut found = sums(&records);
    found.sort();
    let network = |address| Some(Source::network_of(address));
    let expected = [
        (network(v4(1, 0)), vec![("too_large", 1), ("unauthenticated", 10)]),
        (network(Ipv6Addr::LOCALHOST.into()), vec![("unauthenticated", 1)]),
    ];
    assert_eq!(found, expected);
    for (_, record) in &records {
        assert_eq!((record.kind(), record.tenant()), (Kind::Aggregate, TenantId::INSTALLATION));
        assert_eq!(record.operation(), Operation::Internal(Internal::Authenticate));
        let window = record.window().unwrap();
        assert!(window.from <= window.to);
    }
}

#[tokio::test]
async fn sources_beyond_a_thousand_share_one_count() {
    let bench = Bench::new();
    let Recovered { log, counters, .. } = bench.open();
    let syncs = bench.disk.get(|disk| disk.syncs);
    for network in 0..5000 {
        let _ = counters.failed(v4(network, 1), "unauthenticated", ());
    }
    counters.flush(&log).await.unwrap();
    assert_eq!(bench.disk.get(|disk| disk.syncs) - syncs, 1);
    let records = bench.records();
    assert_eq!(records.len(), MAX_SEPARATE + 1);
    let others: Vec<_> = sums(&records).into_iter().filter(|(source, _)| source.is_none()).collect();
    assert_eq!(others, [(None, vec![("unauthenticated", 4000)])]);
}

#[tokio::test]
async fn refusals_of_the_limiter_are_recorded_with_the_principals_tenant() {
    let bench = Bench::new();
    let Recovered { log, counters, .. } = bench.open();
    let principal = |n: u16| PrincipalId::from_bytes(u128::from(n).to_be_bytes());
    for n in 0..1200 {
        let _ = counters.limited(tenant(1), Some(principal(n)), "rate_limited", ());
        let _ = counters.limited(tenant(1), Some(principal(n)), "rate_limited", ());
    }
    counters.flush(&log).await.unwrap();
    let records = bench.records();
    let own: Vec<_> = records.iter().filter(|(_, record)| record.tenant() == tenant(1)).collect();
    assert_eq!(own.len(), MAX_SEPARATE);
    assert!(
        own.iter()
            .all(|(_, record)| record.principal.is_some() && record.counts().eq([("rate_limited", 2)]))
    );
    let rest: Vec<_> = records
        .iter()
        .filter(|(_, record)| record.tenant() == TenantId::INSTALLATION)
        .collect();
    assert_eq!(rest.len(), 1);
    assert!(rest[0].1.counts().eq([("rate_limited", 400)]));
}

#[tokio::test]
async fn counts_wait_for_the_log_and_are_recorded_once() {
    let bench = Bench::new();
    let Recovered { log, counters, .. } = bench.open();
    bench.disk.set(|disk| disk.failing_syncs = 1);
    let _ = counters.failed(v4(1, 1), "unauthenticated", ());
    let _ = counters.limited(tenant(1), Some(PrincipalId::from_bytes([2; 16])), "rate_limited", ());
    assert_eq!(counters.flush(&log).await.unwrap_err().reason(), Reason::WriteFailed);
    let _ = counters.failed(v4(1, 2), "unauthenticated", ());
    counters.flush(&log).await.unwrap();
    let mut found: Vec<_> = bench
        .records()
        .iter()
        .flat_map(|(_, record)| record.counts().map(|(code, n)| (code.to_owned(), n)).collect::<Vec<_>>())
        .collect();
    found.sort();
    assert_eq!(found, [("rate_limited".to_owned(), 1), ("unauthenticated".to_owned(), 2)]);
}

#[tokio::test]
async fn a_flush_records_only_what_was_counted_since_the_last_one() {
    let bench = Bench::new();
    let Recovered { log, counters, .. } = bench.open();
    counters.flush(&log).await.unwrap();
    assert!(bench.records().is_empty());
    let _ = counters.failed(v4(1, 1), "unauthenticated", ());
    counters.flush(&log).await.unwrap();
    counters.flush(&log).await.unwrap();
    assert_eq!(bench.records().len(), 1);
}

#[test]
fn a_service_endpoint_responds_without_a_record() {
    let bench = Bench::new();
    let Recovered { counted, .. } = bench.open();
    let answer = counted.answer(200).map(|status| status + 4);
    assert!(answer.receipt().is_none());
    assert_eq!(answer.into_value(), 204);
}
