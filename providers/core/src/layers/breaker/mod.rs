//! Stops calling a provider that does not respond, and finds out with one call at a time
//! whether it responds again; the same for a key for which the provider fails.

mod circuits;
mod last_failure;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub(super) use self::circuits::Circuits;
pub use self::last_failure::CallFailure;
pub use self::state::{BreakerConfig, BreakerState};

use self::circuits::{Entered, Outcome, Ticket, Whose};
use self::state::Chance;
use super::metrics::count_breaker;
use crate::error::Concerns;
use crate::{Call, Capabilities, ConnectionId, Error, ErrorKind, Op, OpContext, Output, ProviderKind, Retry, SeverSwitch, TenantId};

/// The circuit breaker. A call passes with all its retries, and counts once.
pub(super) struct Breaker {
    inner: Arc<dyn Call>,
    circuits: Arc<Circuits>,
    /// The time of an attempt. A call whose caller grants less says nothing by its timeout.
    fair_chance: Duration,
    /// Whose it is, for the log.
    connection: Option<ConnectionId>,
    /// Of the connection.
    switch: SeverSwitch,
}

impl Breaker {
    /// `attempt` is the longest time of one attempt.
    pub(super) fn new(inner: Arc<dyn Call>, circuits: Arc<Circuits>, attempt: Duration, config: &BreakerConfig) -> Self {
        Self {
            inner,
            circuits,
            fair_chance: attempt.min(config.fair_chance),
            connection: None,
            switch: SeverSwitch::default(),
        }
    }

    /// Of this connection, which its events name, with its switch.
    #[must_use]
    pub(super) fn of(self, connection: Option<ConnectionId>, switch: SeverSwitch) -> Self {
        Self {
            connection,
            switch,
            ..self
        }
    }

    fn admit<'a>(&'a self, tenant: TenantId, op: Op<'a>, granted: Duration) -> Result<Admitted<'a>, Error> {
        let chance = if granted < self.fair_chance { Chance::Short } else { Chance::Fair };
        match self.circuits.admit(op, chance) {
            Ok((ticket, entered)) => {
                self.report(tenant, op, entered);
                Ok(Admitted {
                    breaker: self,
                    tenant,
                    op,
                    ticket,
                    outcome: Outcome::Unknown,
                })
            }
            Err(refusal) => {
                let error = Error::new(ErrorKind::CircuitOpen, format!("{}: not tried", op.name()));
                let error = error.retry(Retry::After(refusal.wait)).provider(self.inner.kind());
                Err(match refusal.whose {
                    Whose::Connection => error.concerns(Concerns::Connection),
                    Whose::Key => error,
                })
            }
        }
    }

    /// What a call's result says about the provider.
    fn judge(&self, result: &Result<Output, Error>, granted: Duration) -> Outcome {
        let error = match result {
            Ok(_) => return Outcome::Available,
            Err(error) => error,
        };
        if error.repeated {
            // An earlier call's refusal, told again without a call.
            return Outcome::Unknown;
        }
        match (error.kind, error.concerns) {
            (ErrorKind::UpstreamTimeout, _) if granted < self.fair_chance => Outcome::Unknown,
            (ErrorKind::UpstreamUnavailable | ErrorKind::UpstreamProtocol | ErrorKind::UpstreamTimeout, Concerns::Connection) => {
                Outcome::ConnectionFailed
            }
            (ErrorKind::UpstreamUnavailable | ErrorKind::UpstreamProtocol | ErrorKind::UpstreamTimeout, Concerns::Call) => {
                Outcome::CallFailed
            }
            // The provider responds and refuses: no reason to stop calling it.
            (
                ErrorKind::KeyNotFound
                | ErrorKind::Conflict
                | ErrorKind::KeyState
                | ErrorKind::CiphertextRejected
                | ErrorKind::RateLimited
                | ErrorKind::ProviderDenied
                | ErrorKind::ExternalDenied,
                _,
            ) => Outcome::Available,
            // The gateway decided this, or both sides did, so it says nothing about the provider's
            // health.
            (
                ErrorKind::InvalidInput
                | ErrorKind::TooLarge
                | ErrorKind::Crowded
                | ErrorKind::CircuitOpen
                | ErrorKind::Severed
                | ErrorKind::Unsupported
                | ErrorKind::Misconfigured
                | ErrorKind::Internal,
                _,
            ) => Outcome::Unknown,
        }
    }

    fn report(&self, tenant: TenantId, op: Op<'_>, entered: Vec<Entered>) {
        let provider = self.inner.kind();
        let connection = self.connection.map(tracing::field::display);
        for (whose, state) in entered {
            let (of, provider_key) = match whose {
                Whose::Connection => ("connection", None),
                Whose::Key => ("key", op.provider_key()),
            };
            count_breaker(provider, of, state.as_str());
            match state {
                BreakerState::Open => {
                    tracing::warn!(%provider, of, %tenant, connection, provider_key, "circuit opened: the provider does not respond or fails")
                }
                BreakerState::HalfOpen => {
                    // Of a key that fails, the others work with the connections that are open.
                    if whose == Whose::Connection {
                        self.switch.renew();
                    }
                    tracing::info!(%provider, of, %tenant, connection, provider_key, "circuit half open: one call is tried")
                }
                BreakerState::Closed => {
                    tracing::info!(%provider, of, %tenant, connection, provider_key, "circuit closed: the provider responds again")
                }
            }
        }
    }
}

/// A call that the breaker admitted. Dropping it records the outcome. So a half-open circuit does not
/// stay half open if its single call is cancelled.
struct Admitted<'a> {
    breaker: &'a Breaker,
    tenant: TenantId,
    op: Op<'a>,
    ticket: Ticket,
    outcome: Outcome,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let entered = self.breaker.circuits.record(&self.ticket, self.outcome);
        self.breaker.report(self.tenant, self.op, entered);
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
        // A check finds out why calls fail, so an open circuit must not keep it from it.
        if let Op::Probe { .. } = op {
            return self.inner.call(cx, op).await;
        }
        let granted = cx.remaining();
        let mut admitted = self.admit(cx.tenant, op, granted)?;
        let result = self.inner.call(cx, op).await;
        admitted.outcome = self.judge(&result, granted);
        if let (Err(error), Outcome::ConnectionFailed | Outcome::CallFailed) = (&result, admitted.outcome) {
            // Before the outcome is recorded: who sees a circuit open sees why.
            self.circuits.note(CallFailure::of(error));
        }
        result
    }
}
