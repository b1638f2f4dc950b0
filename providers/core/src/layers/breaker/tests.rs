#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::advance;

use super::{Breaker, BreakerConfig, BreakerState};
use crate::layers::scripted::{Scripted, Step, cx};
use crate::{Call, ErrorKind, Op, Retry};

const DOWN: Step = Step::Fail(ErrorKind::UpstreamUnavailable, Retry::Backoff);

struct Bench {
    scripted: Arc<Scripted>,
    breaker: Arc<Breaker>,
}

impl Bench {
    fn new(config: BreakerConfig) -> Self {
        let scripted = Arc::new(Scripted::new([]));
        let breaker = Arc::new(Breaker::new(Arc::clone(&scripted) as Arc<dyn Call>, config));
        Self { scripted, breaker }
    }

    /// Makes one call for which the provider plays `step`.
    async fn call(&self, step: Step) -> Result<(), ErrorKind> {
        self.scripted.then([step]);
        self.breaker
            .call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] })
            .await
            .map(drop)
            .map_err(|error| error.kind)
    }

    /// Calls while the circuit is open: the call is refused and not sent.
    async fn refused(&self) -> Duration {
        let before = self.scripted.calls();
        let error = self
            .breaker
            .call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] })
            .await
            .unwrap_err();
        assert_eq!((error.kind, self.scripted.calls()), (ErrorKind::CircuitOpen, before));
        match error.retry {
            Retry::After(wait) => wait,
            Retry::Never | Retry::Backoff => Duration::MAX,
        }
    }

    async fn open(&self) {
        for _ in 0..5 {
            self.call(DOWN).await.unwrap_err();
        }
        assert_eq!(self.breaker.state(), BreakerState::Open);
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
    assert_eq!(bench.breaker.state(), BreakerState::Closed, "a success resets the count");
    bench.call(DOWN).await.unwrap_err();
    assert_eq!(bench.breaker.state(), BreakerState::Open);
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
    assert_eq!(bench.breaker.state(), BreakerState::Closed, "too few calls");
    advance(Duration::from_secs(31)).await;
    for _ in 0..12 {
        bench.call(Step::Succeed).await.unwrap();
    }
    for _ in 0..11 {
        bench.call(DOWN).await.unwrap_err();
    }
    assert_eq!(bench.breaker.state(), BreakerState::Closed, "11 of 23: older calls do not count");
    bench.call(DOWN).await.unwrap_err();
    assert_eq!(bench.breaker.state(), BreakerState::Open, "12 of 24");
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
        assert_eq!(bench.breaker.state(), BreakerState::Open, "{kind:?}");
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
        assert_eq!(bench.breaker.state(), BreakerState::Closed, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_without_a_fair_chance_does_not_count() {
    let bench = Bench::new(BreakerConfig::default());
    for _ in 0..40 {
        bench.scripted.then([Step::Fail(ErrorKind::UpstreamTimeout, Retry::Backoff)]);
        let result = bench.breaker.call(&cx(Duration::from_millis(800)), Op::Probe { keks: &[] }).await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::UpstreamTimeout);
    }
    assert_eq!(bench.breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn one_call_finds_out_while_the_others_are_refused() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    assert_eq!(bench.breaker.state(), BreakerState::HalfOpen);

    let second = Duration::from_secs(1);
    bench.scripted.then([Step::Take(second)]);
    let (found, waited) = tokio::join!(
        async { bench.breaker.call(&cx(second * 9), Op::Probe { keks: &[] }).await.map(drop) },
        async {
            bench.scripted.arrived(6).await;
            bench.refused().await
        }
    );
    found.unwrap();
    assert_eq!(waited, second);
    assert_eq!(bench.breaker.state(), BreakerState::Closed);
    for _ in 0..4 {
        bench.call(DOWN).await.unwrap_err();
    }
    assert_eq!(bench.breaker.state(), BreakerState::Closed, "closing resets the window");
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_opens_again_for_the_whole_time() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    bench.call(DOWN).await.unwrap_err();
    assert_eq!(bench.breaker.state(), BreakerState::Open);
    assert_eq!(bench.refused().await, Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_denial_closes_for_the_provider_is_there() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    bench.call(Step::Fail(ErrorKind::ProviderDenied, Retry::Never)).await.unwrap_err();
    assert_eq!(bench.breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_does_not_keep_it_half_open() {
    let bench = Bench::new(BreakerConfig::default());
    bench.open().await;
    advance(Duration::from_secs(5)).await;
    bench.scripted.then([Step::Hang]);
    let cx = cx(Duration::from_secs(60));
    let gone = bench.breaker.call(&cx, Op::Probe { keks: &[] });
    tokio::time::timeout(Duration::from_secs(1), gone).await.unwrap_err();
    assert_eq!(bench.breaker.state(), BreakerState::HalfOpen);
    bench.call(Step::Succeed).await.unwrap();
    assert_eq!(bench.breaker.state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_was_let_through_before_says_nothing_after() {
    let bench = Bench::new(BreakerConfig::default());
    bench.scripted.then([Step::Take(Duration::from_secs(6))]);
    let early = tokio::spawn({
        let breaker = Arc::clone(&bench.breaker);
        async move { breaker.call(&cx(Duration::from_secs(60)), Op::Probe { keks: &[] }).await.map(drop) }
    });
    bench.scripted.arrived(1).await;
    bench.open().await;
    early.await.unwrap().unwrap();
    assert_eq!(bench.breaker.state(), BreakerState::HalfOpen, "a late success does not close it");
}
