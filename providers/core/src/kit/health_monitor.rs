//! Checks the health of a service while its connection is in use. That keeps a connection to it open, too, so that no call
//! waits for a handshake.
//!
//! A connection is in use for [`IN_USE`] after a call. Where it is silent meanwhile, the service is checked each
//! [`SILENCE`], which is less than the time for which idle connections stay open. A severed connection checks nothing.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::health_report::{Health, HealthReport};
use crate::sever_switch::SeverSwitch;

/// The longest time without a call or a check.
const SILENCE: Duration = Duration::from_secs(10);
/// The least time between two deep checks, and the most between two checks.
const MINUTE: Duration = Duration::from_secs(60);
/// How long a connection is in use after a call.
const IN_USE: Duration = Duration::from_secs(300);

/// A service whose health is checked.
#[async_trait]
pub trait HealthCheck: Send + Sync + 'static {
    /// Finds out how the service is, with calls that have the time of any call. A deep check may use a key that its owner
    /// made for it.
    ///
    /// # Errors
    /// Why the service serves no calls.
    async fn check(&self, deep: bool) -> Result<Health, Error>;
}

struct State {
    last_call: Instant,
    last_check: Instant,
    last_deep: Option<Instant>,
    /// Whether a task checks.
    runs: bool,
}

struct Inner {
    report: HealthReport,
    switch: SeverSwitch,
    state: Mutex<State>,
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
    /// Checks nothing yet. What it finds goes to `report`; `switch` is the connection's.
    pub fn new(report: HealthReport, switch: SeverSwitch) -> Self {
        let now = Instant::now();
        let state = State {
            last_call: now,
            last_check: now,
            last_deep: None,
            runs: false,
        };
        Self(Arc::new(Inner {
            report,
            switch,
            state: Mutex::new(state),
        }))
    }

    /// Notes a call, with which the connection is in use.
    pub fn note_call<S: HealthCheck>(&self, service: &Arc<S>) {
        let now = Instant::now();
        let mut state = self.0.state.lock();
        state.last_call = now;
        if !state.runs && !self.0.switch.is_severed() {
            state.runs = true;
            state.last_check = now;
            tokio::spawn(run(Arc::downgrade(&self.0), Arc::downgrade(service)));
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
        let due = (state.last_call.max(state.last_check) + SILENCE).min(state.last_check + MINUTE);
        if due > now {
            return Next::Pause(due - now);
        }
        state.last_check = now;
        let deep = state.last_deep.is_none_or(|last| now - last >= MINUTE);
        if deep {
            state.last_deep = Some(now);
        }
        Next::Check { deep }
    }
}

/// Checks until the connection is not in use any more, is severed, or is dropped.
async fn run<S: HealthCheck>(monitor: Weak<Inner>, service: Weak<S>) {
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
            Next::Check { deep } => {
                // A check that a sever ended says nothing of the service.
                if let Ok(found) = inner.switch.pass(service.check(deep)).await {
                    inner.report.found(&found);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use async_trait::async_trait;
    use parking_lot::Mutex;
    use tokio::time::{Instant, sleep};

    use super::{HealthCheck, HealthMonitor};
    use crate::health_report::{Health, HealthReport, HealthState};
    use crate::sever_switch::SeverSwitch;
    use crate::{ConnectionId, Error, ErrorKind, ProviderKind, TenantId};

    /// A service that notes the seconds at which it was checked, and whether deeply.
    struct Service {
        begin: Instant,
        checks: Mutex<Vec<(u64, bool)>>,
        fails: bool,
    }

    #[async_trait]
    impl HealthCheck for Service {
        async fn check(&self, deep: bool) -> Result<Health, Error> {
            self.checks.lock().push((self.begin.elapsed().as_secs(), deep));
            match self.fails {
                true => Err(Error::new(ErrorKind::UpstreamUnavailable, "check")),
                false => Ok(Health::Ok),
            }
        }
    }

    struct Bench {
        monitor: HealthMonitor,
        service: Arc<Service>,
        report: HealthReport,
        switch: SeverSwitch,
    }

    impl Bench {
        fn new(fails: bool) -> Self {
            let report = HealthReport::new(TenantId::random(), ConnectionId::random(), ProviderKind::Xks);
            let switch = SeverSwitch::default();
            let service = Service {
                begin: Instant::now(),
                checks: Mutex::default(),
                fails,
            };
            Self {
                monitor: HealthMonitor::new(report.clone(), switch.clone()),
                service: Arc::new(service),
                report,
                switch,
            }
        }

        fn call(&self) {
            self.monitor.note_call(&self.service);
        }

        fn checks(&self) -> Vec<(u64, bool)> {
            self.service.checks.lock().clone()
        }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_is_checked_while_it_is_in_use() {
        let bench = Bench::new(false);
        sleep(seconds(60)).await;
        assert!(bench.checks().is_empty(), "nobody has used it");
        bench.call();
        sleep(seconds(1000)).await;
        let checks = bench.checks();
        let expected: Vec<(u64, bool)> = (1..30).map(|round| (60 + 10 * round, round % 6 == 1)).collect();
        assert_eq!(checks, expected);
        assert_eq!(bench.report.status().unwrap().state, HealthState::Ok);
        bench.call();
        sleep(seconds(15)).await;
        assert_eq!(bench.checks().len(), checks.len() + 1, "it is in use again");
    }

    #[tokio::test(start_paused = true)]
    async fn calls_take_the_place_of_checks_for_a_minute() {
        let bench = Bench::new(false);
        for _ in 0..150 {
            bench.call();
            sleep(seconds(1)).await;
        }
        assert_eq!(bench.checks(), [(60, true), (120, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_reported_and_a_severed_connection_is_left_alone() {
        let bench = Bench::new(true);
        bench.call();
        sleep(seconds(15)).await;
        assert_eq!(bench.report.status().unwrap().kind, Some(ErrorKind::UpstreamUnavailable));
        let before = bench.checks().len();
        bench.switch.sever();
        bench.call();
        sleep(seconds(100)).await;
        assert_eq!(bench.checks().len(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_connection_is_not_checked() {
        let bench = Bench::new(false);
        bench.call();
        let service = Arc::downgrade(&bench.service);
        drop(bench);
        assert_eq!(service.strong_count(), 0);
        sleep(seconds(100)).await;
    }
}
