//! Each fault of the fake through the pipeline.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::{BreakerState, PipelineConfig};
use claviger_provider::{
    BoundContext, Call, ErrorKind, Kek, KeyId, KeyRequest, KeySpec, OpContext, Pipeline, Provider, ProviderKind, Retry, Rotation, Secret,
    SeverSwitch, TenantId, Wrapped,
};
use claviger_testkit::battery::{self, Factory};
use claviger_testkit::{FakeConfig, FakeProvider, FakeServer, Fault, Plan};
use tokio::time::Instant;

fn cx(seconds: u64) -> OpContext {
    OpContext::new(
        "test",
        TenantId::random(),
        "system",
        (Instant::now() + Duration::from_secs(seconds)).into_std(),
    )
}

fn context() -> BoundContext {
    BoundContext::new(BTreeMap::new(), b"context".to_vec())
}

struct Bench {
    server: Arc<FakeServer>,
    pipeline: Pipeline,
    kek: Kek,
    dek: Secret,
    wrapped: Wrapped,
}

impl Bench {
    async fn new() -> Self {
        let server = FakeServer::new();
        let config = FakeConfig::capable(ProviderKind::Vault, Rotation::InPlace);
        let provider = FakeProvider::new(Arc::clone(&server), config);
        let pipeline = Pipeline::new(
            Arc::new(provider) as Arc<dyn Call>,
            &PipelineConfig::default(),
            SeverSwitch::default(),
        );
        let request = KeyRequest {
            key_id: KeyId::random(),
            made_as: KeyId::random(),
            repeated: false,
            spec: KeySpec::Aes256,
            adopt: None,
            taken: false,
        };
        let kek = pipeline.create_key(&cx(10), &request).await.unwrap().kek(request.key_id).unwrap();
        let dek = Secret::random(32);
        let wrapped = pipeline.wrap_key(&cx(10), &kek, &dek, &context()).await.unwrap();
        server.faults().reset_journal();
        Self {
            server,
            pipeline,
            kek,
            dek,
            wrapped,
        }
    }

    async fn unwrap(&self) -> Result<Secret, (ErrorKind, Retry)> {
        let result = self.pipeline.unwrap_key(&cx(10), &self.wrapped, &context()).await;
        result.map_err(|error| (error.kind, error.retry))
    }

    fn calls(&self) -> u64 {
        self.server.faults().journal().total()
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_has_its_error_and_its_number_of_attempts() {
    let minute = Duration::from_secs(60);
    for (fault, kind, retry, attempts) in [
        (Fault::Denied, ErrorKind::ProviderDenied, Retry::Never, 1),
        (Fault::Throttled { retry_after_ms: None }, ErrorKind::RateLimited, Retry::Backoff, 3),
        (
            Fault::Throttled {
                retry_after_ms: Some(60_000),
            },
            ErrorKind::RateLimited,
            Retry::After(minute),
            1,
        ),
        (Fault::Unavailable, ErrorKind::UpstreamUnavailable, Retry::Backoff, 3),
        (Fault::Reset, ErrorKind::UpstreamUnavailable, Retry::Backoff, 3),
        (Fault::Hang, ErrorKind::UpstreamTimeout, Retry::Backoff, 3),
        (Fault::Slow, ErrorKind::UpstreamTimeout, Retry::Backoff, 3),
        (Fault::Garbage, ErrorKind::UpstreamProtocol, Retry::Never, 1),
        (Fault::KeyMissing, ErrorKind::KeyNotFound, Retry::Never, 1),
        (Fault::KeyDisabled, ErrorKind::KeyState, Retry::Never, 1),
    ] {
        let bench = Bench::new().await;
        bench.server.faults().always(fault);
        let start = Instant::now();
        assert_eq!(bench.unwrap().await, Err((kind, retry)), "{fault:?}");
        assert!(start.elapsed() <= Duration::from_secs(10), "{fault:?} took {:?}", start.elapsed());
        assert_eq!(bench.calls(), attempts, "{fault:?}");
        bench.server.faults().clear();
        assert_eq!(bench.unwrap().await.unwrap(), bench.dek, "{fault:?} is over");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_strike_so_many_times_and_only_their_operation() {
    let bench = Bench::new().await;
    bench.server.faults().plan(Plan {
        op: Some("unwrap_key".into()),
        fault: Fault::Unavailable,
        times: NonZeroU32::new(2),
    });
    bench.pipeline.probe(&cx(10), &[]).await.unwrap();
    assert_eq!(bench.unwrap().await.unwrap(), bench.dek, "the third attempt succeeds");
    let journal = bench.server.faults().journal();
    assert_eq!((journal.of("unwrap_key"), journal.of("probe"), journal.struck), (3, 1, 2));
}

#[tokio::test]
async fn wrong_bytes_are_for_the_commitment_to_find_and_wrong_lengths_for_the_pipeline() {
    let bench = Bench::new().await;
    bench.server.faults().always(Fault::WrongBytes);
    let other = bench.unwrap().await.unwrap();
    assert!(other != bench.dek && other.len() == bench.dek.len());
    bench.server.faults().clear();
    bench.server.faults().always(Fault::WrongLength);
    let generated = bench.pipeline.generate_data_key(&cx(10), &bench.kek, 32, &context()).await;
    assert_eq!(generated.unwrap_err().kind, ErrorKind::UpstreamProtocol);
    assert_eq!(bench.unwrap().await.unwrap().len(), 31);
}

#[tokio::test]
async fn who_waits_at_the_gate_goes_on_when_it_opens() {
    let bench = Bench::new().await;
    let faults = Arc::clone(bench.server.faults());
    faults.next(Fault::Slow, NonZeroU32::new(3).unwrap());
    let (a, b, c, seen) = tokio::join!(bench.unwrap(), bench.unwrap(), bench.unwrap(), async {
        let seen = faults.wait_for(|journal| journal.at_gate == 3, Duration::from_secs(30)).await;
        faults.open_gate();
        seen
    });
    assert_eq!(seen.unwrap().most_at_once, 3);
    for opened in [a, b, c] {
        assert_eq!(opened.unwrap(), bench.dek);
    }
    assert_eq!(faults.journal().at_gate, 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_opens_the_circuit_and_its_end_closes_it() {
    let bench = Bench::new().await;
    bench.server.faults().always(Fault::Unavailable);
    for _ in 0..5 {
        bench.unwrap().await.unwrap_err();
    }
    // What names a key counts for that key, a call and its retries once.
    assert_eq!((bench.pipeline.breaker(), bench.pipeline.open_keys()), (BreakerState::Closed, 1));
    assert_eq!(bench.calls(), 15);
    bench.server.faults().clear();
    assert!(matches!(bench.unwrap().await, Err((ErrorKind::CircuitOpen, Retry::After(_)))));
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(bench.unwrap().await.unwrap(), bench.dek);
    assert_eq!(bench.pipeline.open_keys(), 0);
}

/// A reset loses the response, not the effect: operations that are not idempotent must not be
/// repeated.
#[tokio::test]
async fn a_reset_rotation_was_done_and_is_done_once() {
    let bench = Bench::new().await;
    bench.server.faults().next(Fault::Reset, NonZeroU32::MIN);
    let error = bench.pipeline.rotate(&cx(10), &bench.kek).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UpstreamUnavailable);
    let described = bench.pipeline.describe(&cx(10), &bench.kek).await.unwrap();
    assert_eq!(described.versions.len(), 2);
    assert_eq!(bench.server.faults().journal().of("rotate"), 1);
}

/// The battery must fail on a provider that misbehaves.
#[tokio::test]
async fn the_battery_finds_what_lies() {
    for (fault, case) in [
        (Fault::WrongBytes, "every_length_comes_back"),
        (Fault::WrongLength, "generated_keys_open_and_differ"),
        (Fault::KeyDisabled, "a_new_key_is_described"),
    ] {
        let server = FakeServer::new();
        server.faults().always(fault);
        let factory: Factory = Arc::new(move || {
            let config = FakeConfig::capable(ProviderKind::Aws, Rotation::InPlace);
            let provider = FakeProvider::new(Arc::clone(&server), config);
            Box::pin(async { Arc::new(provider) as Arc<dyn Provider> })
        });
        let failed = battery::run(&factory, KeySpec::Aes256).await.unwrap_err();
        assert!(failed.iter().any(|(name, _)| *name == case), "{fault:?}: {failed:?}");
    }
}

#[tokio::test]
async fn keys_of_the_server_can_be_adopted_and_vanish() {
    let bench = Bench::new().await;
    bench.server.make_key("theirs");
    let request = KeyRequest {
        key_id: KeyId::random(),
        made_as: KeyId::random(),
        repeated: false,
        spec: KeySpec::Aes256,
        adopt: Some("theirs".into()),
        taken: false,
    };
    let kek = bench
        .pipeline
        .create_key(&cx(10), &request)
        .await
        .unwrap()
        .kek(request.key_id)
        .unwrap();
    let wrapped = bench.pipeline.wrap_key(&cx(10), &kek, &bench.dek, &context()).await.unwrap();
    bench.server.remove_key("theirs");
    let error = bench.pipeline.unwrap_key(&cx(10), &wrapped, &context()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::KeyNotFound);
}
