#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::scripted::{Scripted, Step, context, cx, kek, wrapped};
use super::{BreakerState, Pipeline, PipelineConfig};
use crate::{Call, ErrorKind, Generated, KeyId, KeyRequest, KeySpec, Output, ProviderKind, Retry, Secret, SeverSwitch};

fn pipeline(steps: impl IntoIterator<Item = Step>) -> (Pipeline, Arc<Scripted>) {
    let scripted = Arc::new(Scripted::new(steps));
    let provider = Arc::clone(&scripted) as Arc<dyn Call>;
    let pipeline = Pipeline::new(provider, &PipelineConfig::default(), SeverSwitch::default());
    (pipeline, scripted)
}

fn hang() -> impl Iterator<Item = Step> {
    std::iter::repeat_with(|| Step::Hang).take(20)
}

#[tokio::test(start_paused = true)]
async fn every_operation_passes_all_layers() {
    let (pipeline, scripted) = pipeline([]);
    let (cx, kek, context, secret) = (cx(Duration::from_secs(10)), kek(), context(), Secret::random(32));
    let request = KeyRequest {
        key_id: KeyId::random(),
        made_as: KeyId::random(),
        repeated: false,
        spec: KeySpec::Aes256,
        adopt: None,
    };
    pipeline.wrap_key(&cx, &kek, &secret, &context).await.unwrap();
    pipeline.unwrap_key(&cx, &wrapped(), &context).await.unwrap();
    pipeline.generate_data_key(&cx, &kek, 32, &context).await.unwrap();
    pipeline.rewrap_key(&cx, &wrapped(), &kek, &context).await.unwrap();
    pipeline.create_key(&cx, &request).await.unwrap();
    pipeline.rotate(&cx, &kek).await.unwrap();
    pipeline.describe(&cx, &kek).await.unwrap();
    pipeline.import(&cx, &kek, &secret).await.unwrap();
    pipeline.set_state(&cx, &kek, false).await.unwrap();
    pipeline.schedule_deletion(&cx, &kek, 30).await.unwrap();
    pipeline.probe(&cx, &[]).await.unwrap();
    assert_eq!(scripted.calls(), 11);
    assert_eq!((pipeline.kind(), pipeline.breaker()), (ProviderKind::Vault, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn the_owner_reads_messages_only_where_the_configuration_says_so() {
    for owner_reads_messages in [false, true] {
        let config = PipelineConfig {
            owner_reads_messages,
            ..PipelineConfig::default()
        };
        let scripted = Arc::new(Scripted::new([Step::Fail(ErrorKind::ProviderDenied, Retry::Never)]));
        let pipeline = Pipeline::new(scripted, &config, SeverSwitch::default());
        let error = pipeline.probe(&cx(Duration::from_secs(5)), &[]).await.unwrap_err();
        assert_eq!(error.owner_may_read, owner_reads_messages);
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_costs_three_attempts_and_never_more_than_the_deadline() {
    for (deadline, calls, least, most) in [
        (20, 3, 9_000, 9_150),
        (10, 3, 9_000, 9_150),
        (5, 2, 5_000, 5_000),
        (2, 1, 2_000, 2_000),
    ] {
        let (pipeline, scripted) = pipeline(hang());
        let start = Instant::now();
        let error = pipeline.probe(&cx(Duration::from_secs(deadline)), &[]).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamTimeout);
        assert_eq!(scripted.calls(), calls, "deadline {deadline} s");
        // The timers tick in milliseconds.
        let took = start.elapsed().as_millis();
        assert!((least..=most + 2).contains(&took), "deadline {deadline} s took {took} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_idempotent_is_tried_once() {
    let (pipeline, scripted) = pipeline(hang());
    let error = pipeline.rotate(&cx(Duration::from_secs(10)), &kek()).await.unwrap_err();
    assert_eq!((error.kind, scripted.calls()), (ErrorKind::UpstreamTimeout, 1));
}

/// Confirms a change, then fails.
struct HalfDone;

#[async_trait::async_trait]
impl Call for HalfDone {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vault
    }

    fn capabilities(&self) -> crate::Capabilities {
        super::scripted::capable()
    }

    async fn call(&self, cx: &crate::OpContext, _: crate::Op<'_>) -> Result<Output, crate::Error> {
        let attempt = crate::CallSink::from(cx).begin("Rotate").changing();
        attempt.finish(None, crate::CallResult::Ok);
        Err(crate::Error::new(ErrorKind::ProviderDenied, "the description afterwards"))
    }
}

#[tokio::test]
async fn a_rotation_that_was_confirmed_and_then_failed_is_unclear() {
    let pipeline = Pipeline::new(Arc::new(HalfDone), &PipelineConfig::default(), SeverSwitch::default());
    let cx = cx(Duration::from_secs(10));
    assert_eq!(pipeline.rotate(&cx, &kek()).await.unwrap_err().kind, ErrorKind::ProviderDenied);
    assert!(cx.trace().is_unclear());
}

#[tokio::test(start_paused = true)]
async fn an_opening_circuit_ends_the_retries_and_then_refuses_at_once() {
    let down = || Step::Fail(ErrorKind::UpstreamUnavailable, Retry::Backoff);
    let (pipeline, scripted) = pipeline(std::iter::repeat_with(down).take(20));
    let cx = cx(Duration::from_secs(10));
    assert_eq!(pipeline.probe(&cx, &[]).await.unwrap_err().kind, ErrorKind::UpstreamUnavailable);
    assert_eq!(scripted.calls(), 3);
    // The fifth failure opens the circuit; the third attempt of this call is refused by it.
    assert_eq!(pipeline.probe(&cx, &[]).await.unwrap_err().kind, ErrorKind::CircuitOpen);
    assert_eq!((scripted.calls(), pipeline.breaker()), (5, BreakerState::Open));
    assert_eq!(pipeline.probe(&cx, &[]).await.unwrap_err().kind, ErrorKind::CircuitOpen);
    assert_eq!(scripted.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn answers_without_sense_open_the_circuit_and_are_not_repeated() {
    let nonsense = || {
        Step::Output(Output::Generated(Generated {
            plaintext: Secret::random(16),
            wrapped: wrapped(),
        }))
    };
    let (pipeline, scripted) = pipeline(std::iter::repeat_with(nonsense).take(5));
    let cx = cx(Duration::from_secs(10));
    for _ in 0..5 {
        let error = pipeline.generate_data_key(&cx, &kek(), 32, &context()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamProtocol);
    }
    assert_eq!((scripted.calls(), pipeline.breaker()), (5, BreakerState::Open));
}

#[tokio::test]
async fn another_operations_reply_is_our_own_fault() {
    let (pipeline, _) = pipeline([Step::Output(Output::Done)]);
    let error = pipeline.probe(&cx(Duration::from_secs(10)), &[]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
}

#[tokio::test(start_paused = true)]
async fn a_sever_ends_what_is_under_way_and_drops_the_provider() {
    // One operation hangs at the provider; one waits between two attempts.
    let (pipeline, scripted) = pipeline([Step::Hang, Step::Fail(ErrorKind::RateLimited, Retry::After(Duration::from_secs(5)))]);
    let cx = cx(Duration::from_secs(10));
    let hangs = pipeline.probe(&cx, &[]);
    let pauses = pipeline.probe(&cx, &[]);
    let start = Instant::now();
    let cut = async {
        scripted.arrived(2).await;
        pipeline.sever();
        pipeline.switch().stopped().await;
    };
    let (hangs, pauses, ()) = tokio::join!(hangs, pauses, cut);
    assert_eq!(hangs.unwrap_err().kind, ErrorKind::Severed);
    assert_eq!(pauses.unwrap_err().kind, ErrorKind::Severed);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(Arc::strong_count(&scripted), 1, "the provider is still there");

    assert_eq!(pipeline.clone().probe(&cx, &[]).await.unwrap_err().kind, ErrorKind::Severed);
    assert_eq!((scripted.calls(), pipeline.breaker()), (2, BreakerState::Closed));
    assert_eq!(pipeline.kind(), ProviderKind::Vault);
    assert!(!pipeline.capabilities().keys.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_of_a_severed_connection_never_calls() {
    let (switch, scripted) = (SeverSwitch::default(), Arc::new(Scripted::new([])));
    switch.sever();
    let provider = Arc::clone(&scripted) as Arc<dyn Call>;
    let pipeline = Pipeline::new(provider, &PipelineConfig::default(), switch);
    assert_eq!(Arc::strong_count(&scripted), 1, "the provider was kept");
    let error = pipeline.probe(&cx(Duration::from_secs(10)), &[]).await.unwrap_err();
    assert_eq!((error.kind, scripted.calls()), (ErrorKind::Severed, 0));
}
