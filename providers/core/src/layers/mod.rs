//! What stands between the gateway and an adapter: one file per layer, assembled in
//! [`Pipeline::new`] and nowhere else. Used by the broker; adapters never see it.

mod breaker;
mod concurrency;
mod guard;
mod metrics;
mod response_check;
mod retry;
#[cfg(test)]
mod scripted;
mod timeout;

use std::sync::Arc;
use std::time::Duration;

pub use breaker::{BreakerConfig, BreakerState};
pub use metrics::describe as describe_metrics;
pub use retry::RetryConfig;

use crate::{
    BoundContext, Call, Capabilities, Error, ErrorKind, Generated, Kek, KeyDescription, KeyRequest, Op, OpContext, Output, Probe,
    ProviderKind, Rewrapped, Secret, Wrapped,
};

/// The limits of one connection's pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineConfig {
    /// Operations under way at once, those that wait for a retry included; at least 1.
    pub concurrency: usize,
    /// The longest that one attempt may take.
    pub attempt_timeout: Duration,
    /// When and how often to try again.
    pub retry: RetryConfig,
    /// When to stop trying.
    pub breaker: BreakerConfig,
}

impl Default for PipelineConfig {
    /// 64 operations at once, 3 s for an attempt, and the layers' own defaults.
    fn default() -> Self {
        Self {
            concurrency: 64,
            attempt_timeout: Duration::from_secs(3),
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
        }
    }
}

/// A provider behind its layers: the only way in which the gateway calls one.
///
/// Cheap to clone; clones share the limits, the retry budget and the breaker. Every method
/// keeps [`OpContext::deadline`], and answers `UpstreamTimeout` when it is over.
#[derive(Clone)]
pub struct Pipeline {
    outermost: Arc<dyn Call>,
    capabilities: Arc<Capabilities>,
    breaker: Arc<breaker::Breaker>,
}

impl Pipeline {
    /// Puts the layers around an adapter, innermost first.
    pub fn new(provider: Arc<dyn Call>, config: &PipelineConfig) -> Self {
        let capabilities = Arc::new(provider.capabilities());

        // 7. Next to the provider, so that an answer that makes no sense is an error before
        //    anything else looks at it, and the breaker counts it.
        let checked = response_check::ResponseCheck::new(provider, &capabilities);

        // 6. Bounds each attempt on its own: a provider that hangs costs one attempt and not
        //    the whole deadline, and the breaker above learns of it.
        let timeout = timeout::AttemptTimeout::new(Arc::new(checked), config.attempt_timeout);

        // 5. Sees every attempt with its outcome, time-outs included. Inside the retries, so
        //    that an opened circuit also ends the retries that are under way.
        let breaker = Arc::new(breaker::Breaker::new(Arc::new(timeout), config.breaker.clone()));

        // 4. Inside the concurrency limit: a retry takes no second slot, so that a provider in
        //    trouble never gets more callers than one in health.
        let retry = retry::Retrying::new(Arc::clone(&breaker) as Arc<dyn Call>, config.retry.clone());

        // 3. Callers wait here, at most until their deadline, before anything is sent.
        let concurrency = concurrency::ConcurrencyLimit::new(Arc::new(retry), config.concurrency);

        // 2. Outside the limit: what cannot work is refused without waiting for a slot.
        let guard = guard::CapabilityGuard::new(Arc::new(concurrency), Arc::clone(&capabilities));

        // 1. Outermost: it counts and times what the gateway gets, refusals and waiting
        //    included, once per operation however many attempts it took.
        let metrics = metrics::Metrics::new(Arc::new(guard));

        Self {
            outermost: Arc::new(metrics),
            capabilities,
            breaker,
        }
    }

    /// Which provider family this is.
    pub fn kind(&self) -> ProviderKind {
        self.outermost.kind()
    }

    /// What the provider can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The circuit breaker's state, for readiness and metrics.
    pub fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }

    /// [`crate::Provider::wrap_key`] through the layers.
    ///
    /// # Errors
    /// The provider's, and the layers' `Unsupported`, `InvalidInput`, `TooLarge`,
    /// `CircuitOpen`, `UpstreamTimeout` and `UpstreamProtocol`; so for every method below.
    pub async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let op = Op::WrapKey { kek, dek, context };
        let Output::Wrapped(wrapped) = self.outermost.call(cx, op).await? else {
            return Err(crossed(op));
        };
        Ok(wrapped)
    }

    /// [`crate::Provider::unwrap_key`] through the layers.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let op = Op::UnwrapKey { wrapped, context };
        let Output::Unwrapped(dek) = self.outermost.call(cx, op).await? else {
            return Err(crossed(op));
        };
        Ok(dek)
    }

    /// [`crate::Provider::generate_data_key`] through the layers; only for a provider that
    /// declares it [`crate::How::InsideProvider`].
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn generate_data_key(&self, cx: &OpContext, kek: &Kek, bytes: usize, context: &BoundContext) -> Result<Generated, Error> {
        let op = Op::GenerateDataKey { kek, bytes, context };
        let Output::Generated(generated) = self.outermost.call(cx, op).await? else {
            return Err(crossed(op));
        };
        Ok(generated)
    }

    /// [`crate::Provider::rewrap_key`] through the layers; only for a provider that declares
    /// it [`crate::How::InsideProvider`].
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn rewrap_key(&self, cx: &OpContext, wrapped: &Wrapped, to: &Kek, context: &BoundContext) -> Result<Rewrapped, Error> {
        let op = Op::RewrapKey { wrapped, to, context };
        let Output::Rewrapped(rewrapped) = self.outermost.call(cx, op).await? else {
            return Err(crossed(op));
        };
        Ok(rewrapped)
    }

    /// [`crate::Provider::create_key`] through the layers; never retried.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        self.describing(cx, Op::CreateKey { request }).await
    }

    /// [`crate::Provider::rotate`] through the layers; never retried.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.describing(cx, Op::Rotate { kek }).await
    }

    /// [`crate::Provider::describe`] through the layers.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.describing(cx, Op::Describe { kek }).await
    }

    /// [`crate::Provider::import`] through the layers; never retried.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn import(&self, cx: &OpContext, kek: &Kek, material: &Secret) -> Result<KeyDescription, Error> {
        self.describing(cx, Op::Import { kek, material }).await
    }

    /// [`crate::Provider::set_state`] through the layers.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn set_state(&self, cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        self.perform(cx, Op::SetState { kek, enabled }).await
    }

    /// [`crate::Provider::schedule_deletion`] through the layers; never retried.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn schedule_deletion(&self, cx: &OpContext, kek: &Kek, days: u16) -> Result<(), Error> {
        self.perform(cx, Op::ScheduleDeletion { kek, days }).await
    }

    /// [`crate::Provider::probe`] through the layers.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        let op = Op::Probe { keks };
        let Output::Probed(probe) = self.outermost.call(cx, op).await? else {
            return Err(crossed(op));
        };
        Ok(probe)
    }

    async fn describing(&self, cx: &OpContext, op: Op<'_>) -> Result<KeyDescription, Error> {
        let Output::Key(description) = self.outermost.call(cx, op).await? else {
            return Err(crossed(op));
        };
        Ok(description)
    }

    async fn perform(&self, cx: &OpContext, op: Op<'_>) -> Result<(), Error> {
        let Output::Done = self.outermost.call(cx, op).await? else {
            return Err(crossed(op));
        };
        Ok(())
    }
}

/// A reply of another operation. A [`crate::Provider`] cannot give one; a hand-written
/// [`Call`] could.
fn crossed(op: Op<'_>) -> Error {
    Error::new(ErrorKind::Internal, format!("{} got another operation's reply", op.name()))
}

#[cfg(test)]
mod tests;
