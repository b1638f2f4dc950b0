//! Checks the health of a service while its connection is in use. That keeps a connection to it open, too, so that no call
//! waits for a handshake.
//!
//! A connection is in use for [`IN_USE`] after a call, from the first one on that succeeds: one that never worked is not
//! checked. Where it is silent meanwhile, the service is checked each [`SILENCE`], which is less than the time for which
//! idle connections stay open. A severed connection checks nothing, one of a suspended tenant waits for the resume, and
//! [`Monitors`] bounds how many check at once.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::call_trace::{BackgroundTrace, CallResult, ProviderCall};
use crate::health_report::{Health, HealthReport};
use crate::jitter::jitter;
use crate::sever_switch::SeverSwitch;
use crate::{Error, ErrorKind, KeyId, OpContext, TenantId};

/// The longest time without a call or a check.
const SILENCE: Duration = Duration::from_secs(10);
/// The least time between two deep checks, and the most between two checks, apart from [`SPREAD`].
const MINUTE: Duration = Duration::from_secs(60);
/// The longest time that is drawn for each check, by which it comes earlier after [`SILENCE`] and later after [`MINUTE`]:
/// connections that were first used together are not checked together.
const SPREAD: Duration = Duration::from_secs(2);
/// How long a connection is in use after a call.
const IN_USE: Duration = Duration::from_secs(300);
/// The longest time of one check.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most connections of one tenant that are checked at once.
const MAX_OF_TENANT: usize = 64;
/// The most connections that are checked at once.
const MAX: usize = 1024;

/// A service whose health is checked.
#[async_trait]
pub trait HealthCheck: Send + Sync + 'static {
    /// Finds out how the service is, with calls that have the time of any call. A deep check may use a key that its owner
    /// made for it.
    ///
    /// # Errors
    /// Why the service serves no calls.
    async fn check(&self, cx: &OpContext, deep: bool) -> Result<Health, Error>;
}

/// What to do about a canary key that is refused, of which nothing follows for other keys.
const REFUSED: &str = "The key manager refuses the connection's canary_key: its owner has to permit it, or to make or enable the key.";

/// Whether an error of the canary is the key manager's answer about that key, so that it works. A ciphertext of the
/// gateway's own that it rejects is no such answer.
const fn is_answer(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::KeyNotFound
        | ErrorKind::KeyState
        | ErrorKind::ExternalDenied
        | ErrorKind::InvalidInput
        | ErrorKind::TooLarge
        | ErrorKind::Conflict
        | ErrorKind::Unsupported
        | ErrorKind::RateLimited => true,
        ErrorKind::UpstreamTimeout
        | ErrorKind::UpstreamUnavailable
        | ErrorKind::UpstreamProtocol
        | ErrorKind::CiphertextRejected
        | ErrorKind::ProviderDenied
        | ErrorKind::Misconfigured
        | ErrorKind::Crowded
        | ErrorKind::CircuitOpen
        | ErrorKind::Severed
        | ErrorKind::Internal => false,
    }
}

/// What a try with a canary key says of a service that responds.
///
/// # Errors
/// The try's, unless it is an answer about that key alone.
pub fn of_canary(tried: Result<(), Error>) -> Result<Health, Error> {
    match tried {
        Ok(()) => Ok(Health::Ok),
        Err(error) if is_answer(error.kind) => Ok(Health::Degraded(REFUSED)),
        Err(error) => Err(error),
    }
}

/// Bounds how many connections are checked at once, in all and of one tenant. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Monitors(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    all: usize,
    of_tenants: HashMap<TenantId, usize>,
}

impl Monitors {
    /// A place for one more connection; `None` if the tenant or all together have no more.
    fn place(&self, tenant: TenantId) -> Option<Place> {
        let mut running = self.0.lock();
        let of_tenant = running.of_tenants.get(&tenant).copied().unwrap_or_default();
        if running.all >= MAX || of_tenant >= MAX_OF_TENANT {
            return None;
        }
        running.all += 1;
        running.of_tenants.insert(tenant, of_tenant + 1);
        Some(Place {
            monitors: self.clone(),
            tenant,
        })
    }
}

/// The place of one connection; dropped, it is free.
struct Place {
    monitors: Monitors,
    tenant: TenantId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.monitors.0.lock();
        running.all -= 1;
        let left = running.of_tenants.remove(&self.tenant).unwrap_or_default().saturating_sub(1);
        if left > 0 {
            running.of_tenants.insert(self.tenant, left);
        }
    }
}

struct State {
    last_call: Instant,
    last_check: Instant,
    last_deep: Option<Instant>,
    /// Drawn for the next check.
    spread: Duration,
    /// Whether a task checks.
    runs: bool,
}

struct Inner {
    report: HealthReport,
    trace: BackgroundTrace,
    switch: SeverSwitch,
    monitors: Monitors,
    state: Mutex<State>,
    /// The last result of each call.
    results: Mutex<HashMap<&'static str, CallResult>>,
}

/// Has the service of one connection checked.
pub struct HealthMonitor(Arc<Inner>);

/// What the task does next.
enum Next {
    Pause(Duration),
    Check { deep: bool },
    End,
}

impl HealthMonitor {
    /// Checks nothing yet. What it finds goes to `report`. The calls of checks go to `trace`: those that fail, and the
    /// successes that follow none. `switch` is the connection's.
    pub fn new(report: HealthReport, trace: BackgroundTrace, switch: SeverSwitch, monitors: Monitors) -> Self {
        let now = Instant::now();
        let state = State {
            last_call: now,
            last_check: now,
            last_deep: None,
            spread: Duration::ZERO,
            runs: false,
        };
        Self(Arc::new(Inner {
            report,
            trace,
            switch,
            monitors,
            state: Mutex::new(state),
            results: Mutex::default(),
        }))
    }

    /// Makes a call of somebody's, with which the connection is in use, and notes its end.
    ///
    /// # Errors
    /// The call's.
    pub async fn noted<S: HealthCheck, T>(&self, service: &Arc<S>, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let result = call.await;
        self.note_call(service, result.is_ok());
        result
    }

    /// Notes a call that has ended. One that succeeded begins the checks, if there is a place for them.
    fn note_call<S: HealthCheck>(&self, service: &Arc<S>, succeeded: bool) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        state.last_call = now;
        if state.runs || !succeeded || self.0.switch.is_severed() {
            return;
        }
        if let Some(place) = self.0.monitors.place(self.0.trace.tenant()) {
            state.runs = true;
            state.last_check = now;
            state.spread = jitter(SPREAD);
            tokio::spawn(run(Arc::downgrade(&self.0), Arc::downgrade(service), place));
        }
    }
}

impl Inner {
    fn next(&self) -> Next {
        let now = Instant::now();
        let mut state = self.state.lock();
        if self.switch.is_severed() || now - state.last_call >= IN_USE {
            state.runs = false;
            return Next::End;
        }
        if self.switch.share().is_suspended() {
            return Next::Pause(SILENCE);
        }
        let silent = state.last_call.max(state.last_check) + SILENCE - state.spread;
        let due = silent.min(state.last_check + MINUTE + state.spread);
        if due > now {
            return Next::Pause(due - now);
        }
        state.last_check = now;
        state.spread = jitter(SPREAD);
        let deep = state.last_deep.is_none_or(|last| now - last >= MINUTE);
        if deep {
            state.last_deep = Some(now);
        }
        Next::Check { deep }
    }

    async fn check<S: HealthCheck>(&self, service: &S, deep: bool) {
        let id = format!("health-{}", KeyId::random());
        let checking = Checking {
            cx: OpContext::for_system(&id, self.trace.tenant(), PATIENCE),
            inner: self,
        };
        let found = self.switch.pass(timeout(PATIENCE, service.check(&checking.cx, deep))).await;
        // A check that a sever ended says nothing of the service.
        if let Ok(found) = found {
            self.report
                .found(&found.unwrap_or_else(|_| Err(Error::new(ErrorKind::UpstreamTimeout, "a health check"))));
        }
    }

    /// Reports a call of a check, if it is news. The log would have one record for each call and minute of each
    /// connection otherwise.
    fn record(&self, call: ProviderCall) {
        let before = self.results.lock().insert(call.operation, call.result);
        if call.result != CallResult::Ok || before != Some(CallResult::Ok) {
            self.trace.record(call);
        }
    }
}

/// A check under way. Its calls are reported when it is dropped, so also when a sever ends it.
struct Checking<'a> {
    cx: OpContext,
    inner: &'a Inner,
}

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        for mut call in self.cx.take_calls().calls {
            // By the check's own id, the owner finds the call where the service gives it none.
            call.request_id.get_or_insert_with(|| self.cx.request_id.clone());
            self.inner.record(call);
        }
    }
}

/// Checks until the connection is not in use any more, is severed, or is dropped.
async fn run<S: HealthCheck>(monitor: Weak<Inner>, service: Weak<S>, _place: Place) {
    loop {
        let Some((inner, service)) = monitor.upgrade().zip(service.upgrade()) else {
            return;
        };
        match inner.next() {
            Next::End => return,
            Next::Pause(pause) => {
                drop((inner, service));
                sleep(pause).await;
            }
            Next::Check { deep } => inner.check(&*service, deep).await,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests;
