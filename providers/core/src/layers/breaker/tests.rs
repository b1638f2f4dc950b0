#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::advance;

use super::{Breaker, BreakerConfig, BreakerState, Circuits};
use crate::layers::scripted::{Scripted, Step, cx, kek};
use crate::{Call, Concerns, ErrorKind, Kek, KeyRequest, KeySpec, Op, Retry};

const ATTEMPT: Duration = Duration::from_secs(3);
const DOWN: Step = Step::Unreachable;
const BAD: Step = Step::Fail(ErrorKind::UpstreamUnavailable, Retry::Backoff);

struct Bench {
    scripted: Arc<Scripted>,
    circuits: Arc<Circuits>,
    breaker: Arc<Breaker>,
}

fn key(id: &str) -> Kek {
    let mut key = kek();
    key.key.id = id.to_owned();
    key
}

/// A call that counts for the key that it names.
async fn generate(breaker: &Breaker, kek: &Kek, deadline: Duration) -> Result<(), crate::Error> {
    let context = crate::layers::scripted::context();
    let op = Op::GenerateDataKey {
        kek,
        bytes: 32,
        context: &context,
    };
    breaker.call(&cx(deadline), op).await.map(drop)
}

impl Bench {
    fn new(config: BreakerConfig) -> Self {
        let scripted = Arc::new(Scripted::new([]));
        let circuits = Circuits::new(config.clone());
        let inner = Arc::clone(&scripted) as Arc<dyn Call>;
        let breaker = Arc::new(Breaker::new(inner, Arc::clone(&circuits), ATTEMPT, &config));
        Self {
            scripted,
            circuits,
            breaker,
        }
    }

    fn state(&self) -> BreakerState {
        self.circuits.connection()
    }

    /// Makes one call for which the provider plays `step`.
    async fn call(&self, step: Step) -> Result<(), ErrorKind> {
        self.call_with("key", step).await
    }

    /// The same with a key.
    async fn call_with(&self, id: &str, step: Step) -> Result<(), ErrorKind> {
        self.scripted.then([step]);
        let called = generate(&self.breaker, &key(id), Duration::from_secs(9)).await;
        called.map_err(|error| error.kind)
    }

    /// Calls while the circuit is open: the call is refused and not sent.
    async fn refused(&self) -> Duration {
        self.refused_for("key", Concerns::Connection).await
    }

    /// The same with a key, where a circuit of this is open.
    async fn refused_for(&self, id: &str, concerns: Concerns) -> Duration {
        let before = self.scripted.calls();
        let error = generate(&self.breaker, &key(id), Duration::from_secs(9)).await.unwrap_err();
        assert_eq!((error.kind, self.scripted.calls()), (ErrorKind::CircuitOpen, before));
        assert_eq!(error.concerns, concerns);
        match error.retry {
            Retry::After(wait) => wait,
            Retry::Never | Retry::Backoff => Duration::MAX,
        }
    }

    async fn open(&self) {
        for _ in 0..5 {
            self.call(DOWN).await.unwrap_err();
        }
        assert_eq!(self.state(), BreakerState::Open);
    }

    /// Lets a key's circuit open.
    async fn open_key(&self, id: &str) {
        for _ in 0..5 {
            self.call_with(id, BAD).await.unwrap_err();
        }
        self.refused_for(id, Concerns::Call).await;
    }
}

#[tokio::test(start_paused = true)]
async fn opens_after_failures_in_a_row_and_says_how_long() {
    let bench = Bench::new(BreakerConfig::default());
    for _ in 0..4 {
        bench.call(DOWN).await.unwrap_err();
    }
    bench.call(Step::Succeed).await.unwrap();
    for _ in 0..4 {
        bench.call(DOWN).await.unwrap_err();
    }
    assert_eq!(bench.state(), BreakerState::Closed, "a success resets the count");
    bench.call(DOWN).await.unwrap_err();
    assert_eq!(bench.state(), BreakerState::Open);
    advance(Duration::from_secs(2)).await;
    assert_eq!(bench.refused().await, Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn opens_at_a_ratio_within_the_window_and_forgets_what_is_older() {
    let config = BreakerConfig {
        consecutive_failures: u32::MAX,
        ..BreakerConfig::default()
    };
    let bench = Bench::new(config);
    for _ in 0..9 {
        bench.call(DOWN).await.unwrap_err();
        bench.call(Step::Succeed).await.unwrap();
    }
    assert_eq!(bench.state(), BreakerState::Closed, "too few calls");
    advance(Duration::from_secs(31)).await;
    for _ in 0..12 {
        bench.call(Step::Succeed).await.unwrap();
    }
    for _ in 0..11 {
        bench.call(DOWN).await.unwrap_err();
    }
    assert_eq!(bench.state(), BreakerState::Closed, "11 of 23: older calls do not count");
    bench.call(DOWN).await.unwrap_err();
    assert_eq!(bench.state(), BreakerState::Open, "12 of 24");
}

#[tokio::test(start_paused = true)]
async fn what_counts_is_that_the_provider_is_not_there() {
    for kind in [
        ErrorKind::UpstreamUnavailable,
        ErrorKind::UpstreamTimeout,
        ErrorKind::UpstreamProtocol,
    ] {
        let bench = Bench::new(BreakerConfig::default());
        for _ in 0..5 {
            bench.call(Step::Fail(kind, Retry::Never)).await.unwrap_err();
        }
        assert_eq!((bench.state(), bench.circuits.open_keys()), (BreakerState::Closed, 1), "{kind:?}");
        // What keeps each call from the provider is about the connection.
        for at in 0..5 {
            bench.call_with(&format!("good-{at}"), DOWN).await.unwrap_err();
        }
        assert_eq!(bench.state(), BreakerState::Open, "{kind:?}");
    }
    for kind in [
        ErrorKind::InvalidInput,
        ErrorKind::KeyNotFound,
        ErrorKind::Conflict,
        ErrorKind::KeyState,
        ErrorKind::TooLarge,
        ErrorKind::CiphertextRejected,
        ErrorKind::RateLimited,
        ErrorKind::ProviderDenied,
        ErrorKind::ExternalDenied,
        ErrorKind::Unsupported,
        ErrorKind::Misconfigured,
        ErrorKind::Internal,
    ] {
        let bench = Bench::new(BreakerConfig::default());
        for _ in 0..40 {
            bench.call(Step::Fail(kind, Retry::Never)).await.unwrap_err();
        }
        assert_eq!((bench.state(), bench.circuits.open_keys()), (BreakerState::Closed, 0), "{kind:?}");
    }
}

fn new_key() -> KeyRequest {
    KeyRequest {
        key_id: crate::KeyId::random(),
        made_as: crate::KeyId::random(),
        repeated: false,
        spec: KeySpec::Aes256,
        adopt: None,
        taken: false,
    }
}

/// The trial of a connection's circuit has a new connection, and that of a key's has not.
#[tokio::test(start_paused = true)]
async fn the_trial_of_a_key_gives_up_no_connection() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open_key("bad").await;
    advance(Duration::from_secs(5)).await;
    bench.call_with("bad", Step::Succeed).await.unwrap();
    assert!(!bench.breaker.switch.take_renewal());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    bench.call(Step::Succeed).await.unwrap();
    assert!(bench.breaker.switch.take_renewal());
}

/// What never reached the provider is neither its failure nor its response.
#[tokio::test(start_paused = true)]
async fn a_call_without_a_place_says_nothing_of_the_provider() {
    let crowded = || Step::Fail(ErrorKind::Crowded, Retry::Backoff);
    let bench = Bench::new(BreakerConfig::default());
    for _ in 0..4 {
        bench.call(DOWN).await.unwrap_err();
    }
    bench.call(crowded()).await.unwrap_err();
    bench.call(DOWN).await.unwrap_err();
    assert_eq!(bench.state(), BreakerState::Open, "the count of failures goes on");
    advance(Duration::from_secs(5)).await;
    bench.call(crowded()).await.unwrap_err();
    assert_eq!(bench.state(), BreakerState::HalfOpen, "the trial is still to be made");
    bench.call(DOWN).await.unwrap_err();
    assert_eq!(bench.state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_without_a_fair_chance_does_not_count() {
    let bench = Bench::new(BreakerConfig::default());
    let timed_out = async |deadline: Duration| {
        bench.scripted.then([Step::Fail(ErrorKind::UpstreamTimeout, Retry::Backoff)]);
        let result = generate(&bench.breaker, &kek(), deadline).await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::UpstreamTimeout);
    };
    for _ in 0..40 {
        timed_out(ATTEMPT - Duration::from_millis(1)).await;
    }
    assert_eq!((bench.state(), bench.circuits.open_keys()), (BreakerState::Closed, 0));
    for _ in 0..5 {
        timed_out(ATTEMPT).await;
    }
    assert_eq!(bench.circuits.open_keys(), 1);
}

/// Callers who grant their calls less time than an attempt takes, without a pause.
#[tokio::test(start_paused = true)]
async fn short_calls_take_the_trial_from_nobody() {
    for of_key in [true, false] {
        let bench = Bench::new(BreakerConfig::default());
        if of_key {
            bench.open_key("key").await
        } else {
            bench.open().await
        }
        advance(Duration::from_secs(5)).await;
        // One of them is under way, and the next is refused.
        bench.scripted.then([Step::Hang]);
        let short = tokio::spawn({
            let breaker = Arc::clone(&bench.breaker);
            async move { generate(&breaker, &key("key"), Duration::from_millis(200)).await }
        });
        tokio::task::yield_now().await;
        let before = bench.scripted.calls();
        let error = generate(&bench.breaker, &key("key"), Duration::from_millis(200)).await.unwrap_err();
        assert_eq!((error.kind, bench.scripted.calls()), (ErrorKind::CircuitOpen, before));
        bench.call(Step::Succeed).await.unwrap();
        assert_eq!((bench.state(), bench.circuits.open_keys()), (BreakerState::Closed, 0));
        short.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_call_that_is_answered_closes_a_circuit_too() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    for step in [Step::Fail(ErrorKind::UpstreamTimeout, Retry::Backoff), Step::Succeed] {
        assert_eq!(bench.state(), BreakerState::HalfOpen);
        bench.scripted.then([step]);
        drop(generate(&bench.breaker, &kek(), Duration::from_millis(200)).await);
    }
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn one_call_finds_out_while_the_others_are_refused() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    assert_eq!(bench.state(), BreakerState::HalfOpen);

    let second = Duration::from_secs(1);
    bench.scripted.then([Step::Take(second)]);
    let (found, waited) = tokio::join!(async { generate(&bench.breaker, &kek(), second * 9).await }, async {
        bench.scripted.arrived(6).await;
        bench.refused().await
    });
    found.unwrap();
    assert_eq!(waited, second);
    assert_eq!(bench.state(), BreakerState::Closed);
    for _ in 0..4 {
        bench.call(DOWN).await.unwrap_err();
    }
    assert_eq!(bench.state(), BreakerState::Closed, "closing resets the window");
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_opens_again_for_the_whole_time() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    bench.call(DOWN).await.unwrap_err();
    assert_eq!(bench.state(), BreakerState::Open);
    assert_eq!(bench.refused().await, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_denial_closes_for_the_provider_is_there() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    bench.call(Step::Fail(ErrorKind::ProviderDenied, Retry::Never)).await.unwrap_err();
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_keep_it_half_open() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    bench.scripted.then([Step::Hang]);
    let key = kek();
    let gone = generate(&bench.breaker, &key, Duration::from_secs(60));
    tokio::time::timeout(Duration::from_secs(1), gone).await.unwrap_err();
    assert_eq!(bench.state(), BreakerState::HalfOpen);
    bench.call(Step::Succeed).await.unwrap();
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_was_let_through_before_says_nothing_after() {
    let bench = Bench::new(BreakerConfig::default());
    bench.scripted.then([Step::Take(Duration::from_secs(6))]);
    let early = tokio::spawn({
        let breaker = Arc::clone(&bench.breaker);
        async move { generate(&breaker, &kek(), Duration::from_secs(60)).await }
    });
    bench.scripted.arrived(1).await;
    bench.open().await;
    early.await.unwrap().unwrap();
    assert_eq!(bench.state(), BreakerState::HalfOpen, "a late success does not close it");
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_is_paused_alone_and_tried_again() {
    let bench = Bench::new(BreakerConfig::default());
    for _ in 0..5 {
        bench.call_with("bad", BAD).await.unwrap_err();
        bench.call_with("good", Step::Succeed).await.unwrap();
    }
    for _ in 0..35 {
        bench.refused_for("bad", Concerns::Call).await;
        bench.call_with("good", Step::Succeed).await.unwrap();
    }
    assert_eq!((bench.state(), bench.circuits.open_keys()), (BreakerState::Closed, 1));
    advance(Duration::from_secs(5)).await;
    assert_eq!(bench.circuits.open_keys(), 0, "half open");
}

#[tokio::test(start_paused = true)]
async fn a_half_open_key_lets_one_call_through_and_closes_by_its_success() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open_key("bad").await;
    advance(Duration::from_secs(5)).await;
    let second = Duration::from_secs(1);
    bench.scripted.then([Step::Take(second)]);
    let bad = key("bad");
    let (found, waited) = tokio::join!(generate(&bench.breaker, &bad, second * 9), async {
        bench.scripted.arrived(6).await;
        bench.refused_for("bad", Concerns::Call).await
    });
    found.unwrap();
    assert_eq!(waited, second);
    for _ in 0..4 {
        bench.call_with("bad", BAD).await.unwrap_err();
    }
    bench.call_with("bad", Step::Succeed).await.unwrap();
    bench.open_key("bad").await;
    advance(Duration::from_secs(5)).await;
    bench.call_with("bad", BAD).await.unwrap_err();
    assert_eq!(bench.refused_for("bad", Concerns::Call).await, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn an_open_key_can_be_looked_at_enabled_and_adopted() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open_key("bad").await;
    let (bad, cx) = (key("bad"), cx(Duration::from_secs(9)));
    let adopted = KeyRequest {
        adopt: Some("bad".to_owned()),
        ..new_key()
    };
    for op in [
        Op::Describe { kek: &bad },
        Op::SetState { kek: &bad, enabled: true },
        Op::CreateKey { request: &adopted },
        Op::Probe {
            keks: std::slice::from_ref(&bad),
        },
    ] {
        bench.breaker.call(&cx, op).await.unwrap();
    }
    // What succeeded is not what failed.
    bench.refused_for("bad", Concerns::Call).await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_all_fail_make_the_connection_suspect_unless_it_is_in_use() {
    let bench = Bench::new(BreakerConfig::default());
    let fail_at = async |keys: std::ops::Range<u32>| {
        for at in keys {
            bench.call_with(&format!("bad-{at}"), BAD).await.unwrap_err();
        }
    };
    fail_at(0..20).await;
    assert_eq!(bench.state(), BreakerState::Closed, "it is not silent for long enough");
    advance(Duration::from_secs(5)).await;
    fail_at(20..24).await;
    bench.call_with("good", Step::Succeed).await.unwrap();
    fail_at(24..40).await;
    assert_eq!(bench.state(), BreakerState::Closed, "somebody succeeded meanwhile");
    advance(Duration::from_secs(5)).await;
    for _ in 0..3 {
        fail_at(40..44).await;
    }
    assert_eq!(bench.state(), BreakerState::Closed, "four keys are not five");
    fail_at(44..45).await;
    assert_eq!(bench.refused_for("good", Concerns::Connection).await, Duration::from_secs(5));
    // A bad key's call on trial does not keep the others out.
    advance(Duration::from_secs(5)).await;
    fail_at(44..45).await;
    bench.call_with("good", Step::Succeed).await.unwrap();
    assert_eq!(bench.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_check_passes_an_open_circuit_and_does_not_close_it() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    bench
        .breaker
        .call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] })
        .await
        .unwrap();
    bench.refused().await;
}

#[tokio::test(start_paused = true)]
async fn the_memory_for_bad_keys_is_bounded() {
    let bench = Bench::new(BreakerConfig::default());
    for at in 0..300 {
        for _ in 0..5 {
            bench.call_with(&format!("bad-{at}"), BAD).await.unwrap_err();
        }
        // Somebody uses the connection.
        bench.call_with("good", Step::Succeed).await.unwrap();
        advance(Duration::from_millis(1)).await;
    }
    assert_eq!(bench.circuits.open_keys(), 256);
    bench.refused_for("bad-299", Concerns::Call).await;
    bench.call_with("bad-0", Step::Succeed).await.unwrap();
}
