//! Stops calling a provider that does not respond, and finds out with one call at a time
//! whether it responds again.

mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::Instant;

pub use self::state::{BreakerConfig, BreakerState};

use self::state::{Admission, Machine, Verdict};
use super::metrics::count_breaker;
use crate::{Call, Capabilities, Error, ErrorKind, Op, OpContext, Output, ProviderKind, Retry};

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
            Ok(_) => return Verdict::Available,
            Err(error) => error,
        };
        match error.kind {
            ErrorKind::UpstreamUnavailable | ErrorKind::UpstreamProtocol => Verdict::Unavailable,
            ErrorKind::UpstreamTimeout if granted >= self.fair_chance => Verdict::Unavailable,
            // The provider responds and refuses: no reason to stop calling it.
            ErrorKind::KeyNotFound
            | ErrorKind::Conflict
            | ErrorKind::KeyState
            | ErrorKind::CiphertextRejected
            | ErrorKind::RateLimited
            | ErrorKind::ProviderDenied
            | ErrorKind::ExternalDenied => Verdict::Available,
            // The gateway decided this, or both sides did, so it says nothing about the provider's
            // health.
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
                    BreakerState::Open => tracing::warn!(%provider, "circuit opened: the provider does not respond"),
                    BreakerState::HalfOpen => tracing::info!(%provider, "circuit half open: one call is tried"),
                    BreakerState::Closed => tracing::info!(%provider, "circuit closed: the provider responds again"),
                }
            }
        }
    }
}

/// An attempt that the breaker admitted. Dropping it records the result. So a half-open circuit does not
/// stay half open if its single attempt is cancelled.
struct Attempt<'a> {
    breaker: &'a Breaker,
    generation: u64,
    verdict: Verdict,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let entered = self.breaker.machine.lock().record(self.generation, self.verdict, Instant::now());
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
