//! The layers between the gateway and an adapter, one per file. [`Pipeline::new`] alone assembles them.
//! The broker uses the pipeline; adapters do not know it.

mod breaker;
mod concurrency;
mod guard;
mod metrics;
mod response_check;
mod retry;
#[cfg(test)]
mod scripted;
mod sever_gate;
mod timeout;

use std::sync::Arc;
use std::time::Duration;

pub use breaker::{BreakerConfig, BreakerState, CallFailure};
pub use metrics::describe as describe_metrics;
pub use retry::RetryConfig;

use crate::{
    BoundContext, Call, CallOrigin, Capabilities, Concerns, ConnectionId, Error, ErrorKind, Generated, HealthReport, HealthStatus, Kek,
    KeyDescription, KeyRequest, LoginReport, LoginState, LoginStatus, Op, OpContext, Output, Probe, ProviderKind, Rewrapped, Secret,
    SeverSwitch, Wrapped,
};

/// The limits of one connection's pipeline.
#[derive(Debug, Clone, PartialEq)]
pub struct PipelineConfig {
    /// The most operations in progress at once, including those that wait for a retry; at least 1.
    pub concurrency: usize,
    /// The longest time of one attempt.
    pub attempt_timeout: Duration,
    /// The longest time of a key's creation, which has one attempt. An adoption has `attempt_timeout`.
    pub creation_timeout: Duration,
    /// When and how often to retry.
    pub retry: RetryConfig,
    /// When to stop calling the provider.
    pub breaker: BreakerConfig,
    /// Whether callers may read the provider's own messages: where the connection's identity is the
    /// tenant's own.
    pub owner_reads_messages: bool,
    /// The connection, which the log names; `None` for calls of the gateway itself.
    pub connection: Option<ConnectionId>,
}

impl Default for PipelineConfig {
    /// 64 operations at once, 3 s for an attempt, 30 s for a creation, and the layers' own defaults.
    fn default() -> Self {
        Self {
            concurrency: 64,
            attempt_timeout: Duration::from_secs(3),
            creation_timeout: Duration::from_secs(30),
            retry: RetryConfig::default(),
            breaker: BreakerConfig::default(),
            owner_reads_messages: false,
            connection: None,
        }
    }
}

/// A provider with its layers. The gateway calls providers through this type only.
///
/// Cheap to clone; clones share the limits, the retry budget and the breaker. Every method returns
/// `UpstreamTimeout` when [`OpContext::deadline`] has passed, and `Severed` once the connection is
/// severed.
#[derive(Clone)]
pub struct Pipeline {
    outermost: Arc<dyn Call>,
    capabilities: Arc<Capabilities>,
    gate: Arc<sever_gate::SeverGate>,
    login: Option<LoginReport>,
    health: Option<HealthReport>,
    owner_reads_messages: bool,
    connection: Option<ConnectionId>,
    creation_timeout: Duration,
    concurrency: usize,
}

impl Pipeline {
    /// Puts the layers around an adapter, innermost first. `switch` is the one that the adapter was made
    /// with; if it is severed already, the adapter is dropped.
    pub fn new(provider: Arc<dyn Call>, config: &PipelineConfig, switch: SeverSwitch) -> Self {
        let capabilities = Arc::new(provider.capabilities());
        // A call has the time that the connection's own settings grant.
        let attempt = provider
            .budget()
            .map_or(config.attempt_timeout, |budget| budget.max(config.attempt_timeout));
        let fair_chance = provider.budget().unwrap_or(attempt);

        // 8. Next to the provider, so that a malformed response is an error before any other layer
        //    sees it, and the breaker counts it.
        let checked = response_check::ResponseCheck::new(provider, &capabilities);

        // 7. Limits each attempt: a provider that hangs costs one attempt and not the whole deadline,
        //    and the layers above see the timeout.
        let timeout = timeout::AttemptTimeout::new(Arc::new(checked), attempt, config.creation_timeout.max(attempt));

        // 6. Inside the breaker, which counts a call and its retries as one. It asks the circuits before
        //    each retry, so that an open one also ends retries in progress.
        let circuits = breaker::Circuits::new(config.breaker.clone());
        let retry = retry::Retrying::new(Arc::new(timeout), config.retry.clone(), Arc::clone(&circuits));

        // 5. Inside the concurrency limit, so that what waited for a slot meets the circuit as it is
        //    then. A retry takes no second slot: a failing provider never gets more concurrent calls
        //    than a healthy one.
        let breaker = breaker::Breaker::new(Arc::new(retry), Arc::clone(&circuits), fair_chance, &config.breaker);
        let breaker = breaker.of(config.connection, switch.clone());

        // 4. Callers wait here, at most until their deadline, before anything is sent.
        let concurrency = concurrency::ConcurrencyLimit::new(Arc::new(breaker), config.concurrency);

        // 3. Outside the limit, so that an operation that cannot work is refused without waiting
        //    for a slot.
        let guard = guard::CapabilityGuard::new(Arc::new(concurrency), Arc::clone(&capabilities));

        // 2. Outside all that waits: a sever also ends pauses between retries, and waiting for a slot.
        let outermost: Arc<dyn Call> = Arc::new(guard);
        let behind = sever_gate::Behind { outermost, circuits };
        let gate = Arc::new(sever_gate::SeverGate::new(behind, Arc::clone(&capabilities), switch));
        // 1. Outermost: counts and times each operation once, with refusals, waiting and all attempts.
        let metrics = metrics::Metrics::new(Arc::clone(&gate) as Arc<dyn Call>);

        Self {
            outermost: Arc::new(metrics),
            capabilities,
            gate,
            login: None,
            health: None,
            owner_reads_messages: config.owner_reads_messages,
            connection: config.connection,
            creation_timeout: config.creation_timeout,
            concurrency: config.concurrency,
        }
    }

    /// With the reports on the adapter's logins and its service.
    #[must_use]
    pub fn reported_by(mut self, login: LoginReport, health: HealthReport) -> Self {
        self.login = Some(login);
        self.health = Some(health);
        self
    }

    /// The state of the connection's login; `None` for a severed connection, and for a provider without logins.
    pub fn login(&self) -> Option<LoginStatus> {
        self.login.as_ref().filter(|_| !self.switch().is_severed())?.status()
    }

    /// What the last health check found; `None` for a severed connection, before the first check, and for a provider
    /// without health checks.
    pub fn health(&self) -> Option<HealthStatus> {
        self.health.as_ref().filter(|_| !self.switch().is_severed())?.status()
    }

    /// The kind of provider.
    pub fn kind(&self) -> ProviderKind {
        self.outermost.kind()
    }

    /// The supported operations and kinds of keys.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The longest time of a key's creation. A caller who waits less can let it go on.
    pub const fn creation_timeout(&self) -> Duration {
        self.creation_timeout
    }

    /// The most operations in progress at once.
    pub const fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// The state of the connection's circuit, for readiness and metrics; closed for a severed
    /// connection.
    pub fn breaker(&self) -> BreakerState {
        self.gate.breaker()
    }

    /// Why the last call failed, while the connection's circuit is not closed; `None` for a severed connection.
    pub fn last_failure(&self) -> Option<CallFailure> {
        self.gate.last_failure()
    }

    /// The number of keys whose circuit is open.
    pub fn open_keys(&self) -> usize {
        self.gate.open_keys()
    }

    /// Stops all traffic of the connection for good, and drops the provider. Operations under way return
    /// `Severed`.
    pub fn sever(&self) {
        self.gate.sever();
    }

    /// The switch that stops the connection's traffic.
    pub fn switch(&self) -> &SeverSwitch {
        self.gate.switch()
    }

    /// [`crate::Provider::wrap_key`] through the layers.
    ///
    /// # Errors
    /// The provider's, and the layers' `Unsupported`, `InvalidInput`, `TooLarge`, `CircuitOpen`,
    /// `Severed`, `UpstreamTimeout` and `UpstreamProtocol`. The same applies for every method below.
    pub async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let op = Op::WrapKey { kek, dek, context };
        let Output::Wrapped(wrapped) = self.call(cx, op).await? else {
            return Err(wrong_output(op));
        };
        Ok(wrapped)
    }

    /// [`crate::Provider::unwrap_key`] through the layers.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let op = Op::UnwrapKey { wrapped, context };
        let Output::Unwrapped(dek) = self.call(cx, op).await? else {
            return Err(wrong_output(op));
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
        let Output::Generated(generated) = self.call(cx, op).await? else {
            return Err(wrong_output(op));
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
        let Output::Rewrapped(rewrapped) = self.call(cx, op).await? else {
            return Err(wrong_output(op));
        };
        Ok(rewrapped)
    }

    /// [`crate::Provider::create_key`] through the layers; never retried.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        self.key_description(cx, Op::CreateKey { request }).await
    }

    /// [`crate::Provider::find_made`] through the layers.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        let op = Op::FindMade { request };
        let Output::Found(found) = self.call(cx, op).await? else {
            return Err(wrong_output(op));
        };
        Ok(found)
    }

    /// [`crate::Provider::rotate`] through the layers; never retried.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.key_description(cx, Op::Rotate { kek }).await
    }

    /// [`crate::Provider::describe`] through the layers.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.key_description(cx, Op::Describe { kek }).await
    }

    /// [`crate::Provider::import`] through the layers; never retried.
    ///
    /// # Errors
    /// See [`Pipeline::wrap_key`].
    pub async fn import(&self, cx: &OpContext, kek: &Kek, material: &Secret) -> Result<KeyDescription, Error> {
        self.key_description(cx, Op::Import { kek, material }).await
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
        // An open connection says nothing of the server's certificate of now, nor of the way there.
        self.switch().dial_anew();
        let op = Op::Probe { keks };
        let Output::Probed(probe) = self.call(cx, op).await? else {
            return Err(wrong_output(op));
        };
        Ok(probe)
    }

    async fn key_description(&self, cx: &OpContext, op: Op<'_>) -> Result<KeyDescription, Error> {
        let confirmed = cx.trace().confirmed();
        match self.call(cx, op).await {
            Ok(Output::Key(description)) => Ok(description),
            Ok(_) => Err(wrong_output(op)),
            Err(error) => {
                // The provider did its part, and the operation failed afterwards.
                if cx.trace().confirmed() > confirmed {
                    cx.trace().set_unclear();
                }
                Err(error)
            }
        }
    }

    /// What to do about a call that was denied while the provider does not accept the connection's credential at all: a
    /// right that is missing is not the cause.
    fn advice_on_login(&self, error: &Error) -> Option<&'static str> {
        let is_denied = error.kind == ErrorKind::ProviderDenied && error.concerns == Concerns::Call;
        let refused = self.login().filter(|login| is_denied && login.state == LoginState::Refused)?;
        refused.failure?.advice
    }

    async fn call(&self, cx: &OpContext, op: Op<'_>) -> Result<Output, Error> {
        let result = self.outermost.call(cx, op).await;
        result.map_err(|error| Error {
            advice: self.advice_on_login(&error).or(error.advice),
            owner_may_read: self.owner_reads_messages,
            origin: self.connection.map(|connection| {
                let tenant = cx.tenant;
                Box::new(CallOrigin { tenant, connection })
            }),
            ..error
        })
    }

    async fn perform(&self, cx: &OpContext, op: Op<'_>) -> Result<(), Error> {
        let Output::Done = self.call(cx, op).await? else {
            return Err(wrong_output(op));
        };
        Ok(())
    }
}

/// The output of another operation. A [`crate::Provider`] cannot return one; a hand-written [`Call`]
/// could.
fn wrong_output(op: Op<'_>) -> Error {
    Error::new(ErrorKind::Internal, format!("{} returned another operation's output", op.name()))
}

#[cfg(test)]
mod tests;
