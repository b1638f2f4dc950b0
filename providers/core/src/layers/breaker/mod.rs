//! Stops calling a provider that does not answer, and finds out with one call at a time
//! whether it does again.

mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::state::{Admission, Machine, Verdict};
use super::metrics::count_breaker;
use crate::{Call, Capabilities, Error, ErrorKind, Op, OpContext, Output, ProviderKind, Retry};

/// When the circuit opens, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerConfig {
    /// It opens after so many failures with no success between them; at least 1.
    pub consecutive_failures: u32,
    /// It opens when, within this time,
    pub window: Duration,
    /// at least so many calls were made
    pub least_calls: u32,
    /// and at least so many of a hundred failed.
    pub failure_percent: u32,
    /// How long no call is made before one is let through.
    pub open_for: Duration,
    /// A time-out counts only if the attempt had at least this long. Callers may shorten
    /// their deadline, and one who waits for a millisecond says nothing about the provider.
    pub fair_chance: Duration,
}

impl Default for BreakerConfig {
    /// 5 failures in a row, or half of at least 20 calls within 30 s; open for 5 s; a fair
    /// chance is 1 s.
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            window: Duration::from_secs(30),
            least_calls: 20,
            failure_percent: 50,
            open_for: Duration::from_secs(5),
            fair_chance: Duration::from_secs(1),
        }
    }
}

/// What the breaker does with the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// It passes.
    Closed,
    /// It is refused with `CircuitOpen`.
    Open,
    /// One passes to find out; the others are refused until its answer is there.
    HalfOpen,
}

impl BreakerState {
    /// The word used in readiness and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The circuit breaker.
pub(super) struct Breaker {
    inner: Arc<dyn Call>,
    machine: Mutex<Machine>,
    fair_chance: Duration,
}

impl Breaker {
    pub(super) fn new(inner: Arc<dyn Call>, config: BreakerConfig) -> Self {
        Self {
            inner,
            fair_chance: config.fair_chance,
            machine: Mutex::new(Machine::new(config, Instant::now())),
        }
    }

    pub(super) fn state(&self) -> BreakerState {
        self.machine.lock().state(Instant::now())
    }

    fn admit(&self, op: Op<'_>) -> Result<Attempt<'_>, Error> {
        let admission = self.machine.lock().admit(Instant::now());
        match admission {
            Admission::Pass { generation, entered } => {
                self.report(entered);
                Ok(Attempt {
                    breaker: self,
                    generation,
                    verdict: Verdict::Unknown,
                })
            }
            Admission::Refuse { wait } => Err(Error::new(ErrorKind::CircuitOpen, format!("{}: not tried", op.name()))
                .retry(Retry::After(wait))
                .provider(self.inner.kind())),
        }
    }

    /// What an attempt's result says about the provider.
    fn judge(&self, result: &Result<Output, Error>, granted: Duration) -> Verdict {
        let error = match result {
            Ok(_) => return Verdict::Answered,
            Err(error) => error,
        };
        match error.kind {
            ErrorKind::UpstreamUnavailable | ErrorKind::UpstreamProtocol => Verdict::Failed,
            ErrorKind::UpstreamTimeout if granted >= self.fair_chance => Verdict::Failed,
            // The provider is there and says no, which is not for a breaker to judge.
            ErrorKind::KeyNotFound
            | ErrorKind::Conflict
            | ErrorKind::KeyState
            | ErrorKind::CiphertextRejected
            | ErrorKind::RateLimited
            | ErrorKind::ProviderDenied
            | ErrorKind::ExternalDenied => Verdict::Answered,
            // Decided on this side, or by both: nothing follows for the provider.
            ErrorKind::UpstreamTimeout
            | ErrorKind::InvalidInput
            | ErrorKind::TooLarge
            | ErrorKind::CircuitOpen
            | ErrorKind::Unsupported
            | ErrorKind::Misconfigured
            | ErrorKind::Internal => Verdict::Unknown,
        }
    }

    fn report(&self, entered: Option<BreakerState>) {
        let provider = self.inner.kind();
        match entered {
            None => {}
            Some(state) => {
                count_breaker(provider, state.as_str());
                match state {
                    BreakerState::Open => tracing::warn!(%provider, "circuit opened: the provider does not answer"),
                    BreakerState::HalfOpen => tracing::info!(%provider, "circuit half open: one call is tried"),
                    BreakerState::Closed => tracing::info!(%provider, "circuit closed: the provider answers again"),
                }
            }
        }
    }
}

/// An attempt that was let through. Its drop settles it, so that the single one of a half-open
/// circuit whose caller goes away does not keep the circuit half open for ever.
struct Attempt<'a> {
    breaker: &'a Breaker,
    generation: u64,
    verdict: Verdict,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let entered = self.breaker.machine.lock().settle(self.generation, self.verdict, Instant::now());
        self.breaker.report(entered);
    }
}

#[async_trait]
impl Call for Breaker {
    fn kind(&self) -> ProviderKind {
        self.inner.kind()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let mut attempt = self.admit(op)?;
        let granted = cx.remaining();
        let result = self.inner.call(cx, op).await;
        attempt.verdict = self.judge(&result, granted);
        result
    }
}
