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

/// A provider with a budget that plays this.
fn budgeted(budget: Duration, steps: impl IntoIterator<Item = Step>) -> (Pipeline, Arc<Scripted>) {
    let scripted = Arc::new(Scripted::new(steps).within(budget));
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
        taken: false,
    };
    pipeline.wrap_key(&cx, &kek, &secret, &context).await.unwrap();
    pipeline.unwrap_key(&cx, &wrapped(), &context).await.unwrap();
    pipeline.generate_data_key(&cx, &kek, 32, &context).await.unwrap();
    pipeline.rewrap_key(&cx, &wrapped(), &kek, &context).await.unwrap();
    pipeline.create_key(&cx, &request).await.unwrap();
    pipeline.find_made(&cx, &request).await.unwrap();
    pipeline.rotate(&cx, &kek).await.unwrap();
    pipeline.describe(&cx, &kek).await.unwrap();
    pipeline.import(&cx, &kek, &secret).await.unwrap();
    pipeline.set_state(&cx, &kek, false).await.unwrap();
    pipeline.schedule_deletion(&cx, &kek, 30).await.unwrap();
    pipeline.probe(&cx, &[]).await.unwrap();
    assert_eq!(scripted.calls(), 12);
    assert_eq!((pipeline.kind(), pipeline.breaker()), (ProviderKind::Vault, BreakerState::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_call_has_the_providers_budget_where_that_is_longer_than_an_attempt() {
    for (budget, once) in [(8, true), (1, false)] {
        let (pipeline, scripted) = budgeted(Duration::from_secs(budget), hang());
        pipeline.describe(&cx(Duration::from_secs(8)), &kek()).await.unwrap_err();
        assert_eq!(scripted.calls() == 1, once, "{budget}");
    }
}

/// A caller who grants less than an attempt's time, and more than the provider's own budget.
#[tokio::test(start_paused = true)]
async fn a_provider_with_a_budget_has_its_fair_chance_with_it() {
    let late = || Step::Fail(ErrorKind::UpstreamTimeout, Retry::Never);
    let (second, context) = (Duration::from_secs(1), context());
    for (budget, kind) in [(second, ErrorKind::CircuitOpen), (2 * second, ErrorKind::UpstreamTimeout)] {
        let (pipeline, _) = budgeted(budget, std::iter::repeat_with(late).take(6));
        for _ in 0..5 {
            let error = pipeline
                .unwrap_key(&cx(second + second / 2), &wrapped(), &context)
                .await
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::UpstreamTimeout);
        }
        let error = pipeline
            .unwrap_key(&cx(second + second / 2), &wrapped(), &context)
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind);
    }
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
        let error = pipeline.describe(&cx(Duration::from_secs(deadline)), &kek()).await.unwrap_err();
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
async fn a_call_and_its_retries_count_once_and_an_open_circuit_refuses_at_once() {
    let (pipeline, scripted) = pipeline(std::iter::repeat_with(|| Step::Unreachable).take(40));
    let (cx, kek) = (cx(Duration::from_secs(10)), kek());
    for call in 1..=5 {
        assert_eq!(pipeline.breaker(), BreakerState::Closed, "after {} calls", call - 1);
        let error = pipeline.describe(&cx, &kek).await.unwrap_err();
        assert_eq!((error.kind, scripted.calls()), (ErrorKind::UpstreamUnavailable, call * 3));
    }
    assert_eq!(pipeline.breaker(), BreakerState::Open);
    assert_eq!(pipeline.describe(&cx, &kek).await.unwrap_err().kind, ErrorKind::CircuitOpen);
    assert_eq!(scripted.calls(), 15);
}

#[tokio::test(start_paused = true)]
async fn an_opening_circuit_ends_retries_that_are_under_way() {
    // One call waits between its attempts while five others fail.
    let pause = Step::Fail(ErrorKind::RateLimited, Retry::After(Duration::from_secs(2)));
    let (pipeline, scripted) = pipeline(std::iter::once(pause).chain(std::iter::repeat_with(|| Step::Unreachable).take(40)));
    let (cx, kek) = (cx(Duration::from_secs(10)), kek());
    let waits = pipeline.describe(&cx, &kek);
    let others = async {
        scripted.arrived(1).await;
        for _ in 0..5 {
            pipeline.describe(&cx, &kek).await.unwrap_err();
        }
    };
    let (waits, ()) = tokio::join!(waits, others);
    assert_eq!(waits.unwrap_err().kind, ErrorKind::RateLimited, "its own error, not the circuit's");
    assert_eq!((scripted.calls(), pipeline.breaker()), (16, BreakerState::Open));
}

#[tokio::test(start_paused = true)]
async fn answers_without_sense_open_the_keys_circuit_and_are_not_repeated() {
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
    assert_eq!(
        (scripted.calls(), pipeline.breaker(), pipeline.open_keys()),
        (5, BreakerState::Closed, 1)
    );
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
