//! What every provider operation carries beside its arguments.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::timeout;

use crate::call_trace::{CallSink, CallTrace, TracedCalls};
use crate::ids::TenantId;

/// How often a call that waits for a login is looked at, whether it still does.
const LOOK: Duration = Duration::from_millis(100);

/// The request that an operation serves, for key managers that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To generate a data key.
    GenerateDataKey,
    /// To wrap bytes that the caller sent.
    Wrap,
    /// To unwrap a wrapped key.
    Unwrap,
    /// To rewrap a wrapped key, of which an unwrap and a wrap are parts.
    Rewrap,
}

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
    login: LoginWait,
    purpose: Option<Purpose>,
    justification: Option<String>,
    quotes: bool,
    reads_causes: bool,
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
            login: LoginWait::default(),
            purpose: None,
            justification: None,
            quotes: true,
            reads_causes: false,
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

    /// The same context for a request of this kind; `None` for one that handles no data key.
    #[must_use]
    pub fn serving(self, purpose: Option<Purpose>) -> Self {
        Self { purpose, ..self }
    }

    /// The request that the operation serves, if it handles a data key of the caller's.
    pub const fn purpose(&self) -> Option<Purpose> {
        self.purpose
    }

    /// The same context for a request for which the caller stated this reason: at most 256 printable ASCII characters.
    #[must_use]
    pub fn justified_by(self, justification: Option<String>) -> Self {
        Self { justification, ..self }
    }

    /// The reason that the caller stated, for a key manager whose protocol has room for it.
    pub fn justification(&self) -> Option<&str> {
        self.justification.as_deref()
    }

    /// The same context for a check, which tries a login that the provider refused before, once.
    #[must_use]
    pub fn checking(self) -> Self {
        self.login.0.trial.store(true, Ordering::Relaxed);
        self
    }

    /// The same context for a check whose report repeats no message of the provider's: the identity that the provider
    /// speaks of is not the caller's to know.
    #[must_use]
    pub fn without_quotations(self) -> Self {
        Self { quotes: false, ..self }
    }

    /// The same context for a check by the operator of the gateway, whose report names files of the gateway's machine.
    #[must_use]
    pub fn reading_causes(self) -> Self {
        Self {
            reads_causes: true,
            ..self
        }
    }

    /// Whether the report of a check may name what is wrong on the gateway's own machine.
    pub const fn reads_causes(&self) -> bool {
        self.reads_causes
    }

    /// Whether the report of a check may repeat the provider's own messages.
    pub const fn quotes(&self) -> bool {
        self.quotes
    }

    /// The operation's waits for logins.
    pub const fn login(&self) -> &LoginWait {
        &self.login
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

    /// Runs a call for at most `limit`, and at most until `rest` before the deadline; `None` if that was too short. Of the
    /// time for which the call waits for the connection's login, `logins` does not count for `limit`: a login is shared,
    /// and may take longer than one call.
    pub async fn within<F: Future>(&self, limit: Duration, logins: Duration, rest: Duration, call: F) -> Option<F::Output> {
        let (begin, waited_before) = (tokio::time::Instant::now(), self.login.so_far());
        let mut call = pin!(call);
        let mut pause = limit;
        loop {
            if let Ok(result) = timeout(pause, &mut call).await {
                return Some(result);
            }
            let remaining = self.remaining().saturating_sub(rest);
            let waited = self.login.so_far() - waited_before;
            let left = (limit + waited.min(logins)).saturating_sub(begin.elapsed()).min(remaining);
            // While it waits, nothing is left, and more may be after a moment.
            pause = match self.login.is_under_way() && waited < logins {
                true => left.max(LOOK.min(remaining)),
                false => left,
            };
            if pause.is_zero() {
                return None;
            }
        }
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

/// The waits of one operation for its connection's login. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct LoginWait(Arc<Waits>);

#[derive(Debug, Default)]
struct Waits {
    /// Whether a login that was refused before is tried, once.
    trial: AtomicBool,
    waited: Mutex<Waited>,
}

/// The time of waits that are over, and the waits under way: their number and when the first one began.
#[derive(Debug, Default)]
struct Waited {
    before: Duration,
    under_way: Option<(usize, tokio::time::Instant)>,
}

impl LoginWait {
    /// Whether a login that was refused before is to be tried now. `true` at most once.
    pub fn take_trial(&self) -> bool {
        self.0.trial.swap(false, Ordering::Relaxed)
    }

    /// Runs a wait for a login. It counts for the deadline of the operation, and not for the timeout of one
    /// attempt of its call.
    pub async fn during<F: Future>(&self, wait: F) -> F::Output {
        let _waiting = Waiting::begin(&self.0);
        wait.await
    }

    /// Runs a call for at most `limit`, without the time of its waits; `None` if that was too short.
    pub(crate) async fn within<F: Future>(&self, limit: Duration, call: F) -> Option<F::Output> {
        let (begin, before) = (tokio::time::Instant::now(), self.so_far());
        let mut call = pin!(call);
        let mut left = limit;
        // While it waits, what is left stays the same.
        while !left.is_zero() {
            if let Ok(result) = timeout(left, &mut call).await {
                return Some(result);
            }
            left = (limit + self.so_far().saturating_sub(before)).saturating_sub(begin.elapsed());
        }
        None
    }

    /// How long the operation has waited so far.
    pub fn so_far(&self) -> Duration {
        let waited = self.0.waited.lock();
        let now = waited.under_way.map(|(_, since)| since.elapsed());
        waited.before + now.unwrap_or_default()
    }

    /// Whether it waits now.
    pub fn is_under_way(&self) -> bool {
        self.0.waited.lock().under_way.is_some()
    }
}

struct Waiting<'a>(&'a Waits);

impl<'a> Waiting<'a> {
    fn begin(waits: &'a Waits) -> Self {
        let mut waited = waits.waited.lock();
        let (others, since) = waited.under_way.unwrap_or_else(|| (0, tokio::time::Instant::now()));
        waited.under_way = Some((others + 1, since));
        Self(waits)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waited = self.0.waited.lock();
        waited.under_way = match waited.under_way {
            Some((waits, since)) if waits > 1 => Some((waits - 1, since)),
            Some((_, since)) => {
                waited.before += since.elapsed();
                None
            }
            None => None,
        };
    }
}
