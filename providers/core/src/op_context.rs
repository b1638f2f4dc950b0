//! What every provider operation carries beside its arguments.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::call_trace::{CallSink, CallTrace, TracedCalls};
use crate::ids::TenantId;

/// The caller of an operation, its deadline, and the trace of the calls that it makes.
#[derive(Debug)]
pub struct OpContext {
    /// The gateway's request id, for the provider's own log where it takes one.
    pub request_id: String,
    /// The tenant on whose behalf the operation runs.
    pub tenant: TenantId,
    /// The principal's id in hex, or `system`.
    pub actor: String,
    /// No attempt starts or continues after this. It bounds all attempts together.
    pub deadline: Instant,
    trace: Arc<CallTrace>,
}

impl OpContext {
    /// The context of one operation, with an empty trace.
    pub fn new(request_id: impl Into<String>, tenant: TenantId, actor: impl Into<String>, deadline: Instant) -> Self {
        Self {
            request_id: request_id.into(),
            tenant,
            actor: actor.into(),
            deadline,
            trace: Arc::default(),
        }
    }

    /// The context of an operation that the gateway runs without a request. `name` takes the place
    /// of the request id; the operation ends after `patience`.
    pub fn for_system(name: &str, tenant: TenantId, patience: Duration) -> Self {
        Self::new(name, tenant, "system", Instant::now() + patience)
    }

    /// The same context with a trace that the caller keeps, for a request whose operations are
    /// all in one audit record.
    #[must_use]
    pub fn with_trace(mut self, trace: Arc<CallTrace>) -> Self {
        self.trace = trace;
        self
    }

    /// The tenant who has to prove that a key is theirs before it is adopted; `None` for the
    /// installation's own key, which the operator's configuration names.
    pub fn claimant(&self) -> Option<TenantId> {
        Some(self.tenant).filter(|tenant| *tenant != TenantId::INSTALLATION)
    }

    /// The time that is left, zero after the deadline. Measured on the runtime's clock, which
    /// is the system's monotonic one unless a test has paused it.
    pub fn remaining(&self) -> Duration {
        tokio::time::Instant::from_std(self.deadline).saturating_duration_since(tokio::time::Instant::now())
    }

    /// Where adapters report the calls that they make for this operation.
    pub fn trace(&self) -> &CallTrace {
        &self.trace
    }

    /// Takes the calls that were made so far, for the audit record.
    pub fn take_calls(&self) -> TracedCalls {
        self.trace.take()
    }
}

impl<'a> From<&'a OpContext> for CallSink<'a> {
    fn from(cx: &'a OpContext) -> Self {
        Self::Operation(&cx.trace)
    }
}
