//! Retries idempotent operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::breaker::Circuits;
use super::metrics::count_retry;
use crate::jitter::jitter;
use crate::{Call, Capabilities, Error, ErrorKind, Op, OpContext, Output, ProviderKind, Retry};

/// The cost of a retry, in tokens of the budget.
const COST: u32 = 5;
/// The cost of a retry after a timeout: the attempt occupied a connection for its whole time.
const COST_AFTER_TIMEOUT: u32 = 10;
/// The tokens that a success at the first attempt returns.
const REFILL: u32 = 1;
/// The budget of the AWS SDKs.
const LEAST_BUDGET: u32 = 500;

/// When and how often to retry.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryConfig {
    /// The most retries after the first attempt.
    pub max_retries: u32,
    /// The longest first pause. It doubles with each retry.
    pub base: Duration,
    /// The longest pause, except for one that the provider asks for.
    pub cap: Duration,
    /// The tokens that all operations of the connection share. A retry takes 5, after a timeout 10, and
    /// returns them if it succeeds; a success at the first attempt returns 1. So retries at a provider
    /// that is down end after `budget / 5`, and later are at most a fifth of the successes.
    pub budget: u32,
}

impl RetryConfig {
    /// 2 retries, pauses up to 50 ms and 100 ms, and a budget of at least 500 (that of the AWS SDKs), from which each of
    /// `concurrency` operations can be retried after a timeout at once: when a load balancer fails over, all that are
    /// in progress time out together, and the circuit would open for those without a retry.
    pub fn with_concurrency(concurrency: usize) -> Self {
        let operations = u32::try_from(concurrency).unwrap_or(u32::MAX);
        Self {
            max_retries: 2,
            base: Duration::from_millis(50),
            cap: Duration::from_secs(1),
            budget: operations.saturating_mul(COST_AFTER_TIMEOUT).max(LEAST_BUDGET),
        }
    }
}

impl Default for RetryConfig {
    /// [`RetryConfig::with_concurrency`] of 64.
    fn default() -> Self {
        Self::with_concurrency(64)
    }
}

/// The retry layer: idempotent operations only, within the deadline, with full jitter.
pub(super) struct Retrying {
    inner: Arc<dyn Call>,
    config: RetryConfig,
    circuits: Arc<Circuits>,
    tokens: AtomicU32,
}

impl Retrying {
    pub(super) fn new(inner: Arc<dyn Call>, config: RetryConfig, circuits: Arc<Circuits>) -> Self {
        Self {
            inner,
            circuits,
            tokens: AtomicU32::new(config.budget),
            config,
        }
    }

    /// The pause before the next retry, and its cost; `None` when the error is final.
    fn next(&self, cx: &OpContext, op: Op<'_>, error: &Error, retries: u32) -> Option<(Duration, u32)> {
        if !op.idempotent() || retries >= self.config.max_retries {
            return None;
        }
        let least = match error.retry {
            Retry::Never => return None,
            Retry::Backoff => Duration::ZERO,
            Retry::After(least) => least,
        };
        let most = self.config.base.saturating_mul(1_u32 << retries.min(16)).min(self.config.cap);
        let pause = least.saturating_add(jitter(most));
        if pause >= cx.remaining() {
            return None;
        }
        let cost = if error.kind == ErrorKind::UpstreamTimeout {
            COST_AFTER_TIMEOUT
        } else {
            COST
        };
        self.take(cost).then_some((pause, cost))
    }

    fn take(&self, cost: u32) -> bool {
        self.tokens
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| tokens.checked_sub(cost))
            .is_ok()
    }

    fn give_back(&self, tokens: u32) {
        // The closure always returns a value, so this cannot fail.
        let _always = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            Some(held.saturating_add(tokens).min(self.config.budget))
        });
    }
}

#[async_trait]
impl Call for Retrying {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let mut retries = 0;
        let mut earned = REFILL;
        loop {
            let error = match self.inner.call(cx, op).await {
                Ok(output) => {
                    self.give_back(earned);
                    return Ok(output);
                }
                Err(error) => error,
            };
            // Other calls may have opened the circuit meanwhile, also during the pause.
            let Some((pause, cost)) = self.next(cx, op, &error, retries).filter(|_| self.circuits.permits_retry(op)) else {
                return Err(error);
            };
            tracing::debug!(request_id = %cx.request_id, op = op.name(), ?pause, %error, "retrying");
            tokio::time::sleep(pause).await;
            if !self.circuits.permits_retry(op) {
                return Err(error);
            }
            count_retry(self.kind(), op.name());
            retries += 1;
            earned = cost;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Circuits, RetryConfig, Retrying, jitter};
    use crate::layers::breaker::BreakerConfig;
    use crate::layers::scripted::{Scripted, Step, all_ops, cx, kek};
    use crate::{Call, ErrorKind, Op, Retry};

    const DOWN: Step = Step::Fail(ErrorKind::UpstreamUnavailable, Retry::Backoff);

    fn retrying(scripted: &Arc<Scripted>, config: RetryConfig) -> Retrying {
        let circuits = Circuits::new(BreakerConfig::default());
        Retrying::new(Arc::clone(scripted) as Arc<dyn Call>, config, circuits)
    }

    #[tokio::test(start_paused = true)]
    async fn a_third_attempt_can_answer_and_there_is_no_fourth() {
        let scripted = Arc::new(Scripted::new([DOWN, DOWN, Step::Succeed, DOWN, DOWN, DOWN]));
        let layer = retrying(&scripted, RetryConfig::default());
        layer.call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] }).await.unwrap();
        assert_eq!(scripted.calls(), 3);
        let error = layer.call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] }).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UpstreamUnavailable);
        assert_eq!(scripted.calls(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn only_idempotent_operations_are_repeated() {
        for own in all_ops() {
            let scripted = Arc::new(Scripted::new([DOWN, DOWN, DOWN]));
            let layer = retrying(&scripted, RetryConfig::default());
            layer.call(&cx(Duration::from_secs(9)), own.op()).await.unwrap_err();
            let expected = if own.op().idempotent() { 3 } else { 1 };
            assert_eq!(scripted.calls(), expected, "{}", own.op().name());
        }
        assert!(!Op::Rotate { kek: &kek() }.idempotent());
    }

    #[tokio::test(start_paused = true)]
    async fn never_means_never() {
        let scripted = Arc::new(Scripted::new([Step::Fail(ErrorKind::CiphertextRejected, Retry::Never)]));
        let start = Instant::now();
        retrying(&scripted, RetryConfig::default())
            .call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] })
            .await
            .unwrap_err();
        assert_eq!((scripted.calls(), start.elapsed()), (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn the_providers_own_pause_is_kept_or_the_error_is_the_answer() {
        let throttled = |seconds| Step::Fail(ErrorKind::RateLimited, Retry::After(Duration::from_secs(seconds)));
        let scripted = Arc::new(Scripted::new([throttled(4)]));
        let start = Instant::now();
        retrying(&scripted, RetryConfig::default())
            .call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] })
            .await
            .unwrap();
        assert!((4_000..=4_050).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());

        for seconds in [9, u64::MAX] {
            let scripted = Arc::new(Scripted::new([throttled(seconds)]));
            let start = Instant::now();
            let error = retrying(&scripted, RetryConfig::default())
                .call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] })
                .await
                .unwrap_err();
            assert_eq!(error.kind, ErrorKind::RateLimited);
            assert_eq!((scripted.calls(), start.elapsed()), (1, Duration::ZERO), "it is told at once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_budget_bounds_the_retries_of_all_and_successes_fill_it() {
        let config = RetryConfig {
            budget: 12,
            ..RetryConfig::default()
        };
        let scripted = Arc::new(Scripted::new([DOWN, DOWN, DOWN, DOWN]));
        let layer = retrying(&scripted, config);
        let cx = cx(Duration::from_secs(9));
        layer.call(&cx, Op::Probe { keks: &[] }).await.unwrap_err();
        assert_eq!((scripted.calls(), layer.tokens.load(Ordering::Relaxed)), (3, 2));
        layer.call(&cx, Op::Probe { keks: &[] }).await.unwrap_err();
        assert_eq!(
            (scripted.calls(), layer.tokens.load(Ordering::Relaxed)),
            (4, 2),
            "nothing left to spend"
        );

        for _ in 0..3 {
            layer.call(&cx, Op::Probe { keks: &[] }).await.unwrap();
        }
        assert_eq!(layer.tokens.load(Ordering::Relaxed), 5);
        scripted.then([DOWN, Step::Succeed]);
        layer.call(&cx, Op::Probe { keks: &[] }).await.unwrap();
        assert_eq!(layer.tokens.load(Ordering::Relaxed), 5, "a successful retry returns its cost");
        for _ in 0..20 {
            layer.call(&cx, Op::Probe { keks: &[] }).await.unwrap();
        }
        assert_eq!(layer.tokens.load(Ordering::Relaxed), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_costs_double() {
        let scripted = Arc::new(Scripted::new([Step::Fail(ErrorKind::UpstreamTimeout, Retry::Backoff), DOWN]));
        let config = RetryConfig {
            max_retries: 1,
            budget: 20,
            ..RetryConfig::default()
        };
        let layer = retrying(&scripted, config);
        layer.call(&cx(Duration::from_secs(9)), Op::Probe { keks: &[] }).await.unwrap_err();
        assert_eq!(layer.tokens.load(Ordering::Relaxed), 10);
    }

    #[test]
    fn jitter_stays_below_its_end_and_spreads() {
        let most = Duration::from_millis(100);
        let draws: Vec<_> = (0..200).map(|_| jitter(most)).collect();
        assert!(draws.iter().all(|draw| *draw < most));
        assert!(draws.iter().any(|draw| *draw < most / 4) && draws.iter().any(|draw| *draw > most * 3 / 4));
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }
}
