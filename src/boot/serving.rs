//! A gateway that serves, until its drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::declared::DeclaredObjects;
use super::jobs::{self, Job, Subjects};
use super::keep_log::LogKeeper;
use super::listeners::Listeners;
use super::log_position::LogPosition;
use super::open::{Remaining, close};
use crate::audit::Recovered;
use crate::broker::Broker;
use crate::config::Config;
use crate::config::server::Limits;
use crate::listener::Drained;
use crate::protocols::admission::Admission;
use crate::protocols::exchange::{AppState, Exchange};
use crate::protocols::rest::{Rest, ServiceState, api, of_operator, service_alone};
use crate::store::lock::DataDir;
use crate::telemetry::metrics::Metrics;

/// How long the listener of the service endpoints waits for its last responses.
const SERVICE_DRAIN: Duration = Duration::from_secs(1);

/// How long the operator's listener waits for its last responses: as long as a request may take.
const OPERATOR_DRAIN: Duration = Duration::from_secs(10);

/// A gateway that serves.
pub struct Serving {
    listeners: Listeners,
    broker: Arc<Broker>,
    state: AppState,
    draining: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    jobs: Vec<JoinHandle<()>>,
    drain_delay: Duration,
    drain_timeout: Duration,
    log_position: Arc<LogPosition>,
    /// Held until everything else is closed.
    _folder: DataDir,
}

impl Serving {
    /// Gives the listeners the gateway's routers and starts the background jobs. With `dev` they
    /// answer requests for this machine only.
    pub(super) fn begin(
        config: &Config,
        listeners: Listeners,
        broker: Arc<Broker>,
        remaining: Remaining,
        metrics: Option<Metrics>,
        declared: DeclaredObjects,
        dev: bool,
    ) -> Self {
        let Remaining {
            folder,
            store: _,
            recovered,
            log_position,
        } = remaining;
        let Recovered { counted, counters, .. } = recovered;
        let keeper = |keep| Arc::new(LogKeeper::new(Arc::clone(&broker), folder.path(), keep));
        let log_keeper = config.audit.keep.clone().map(keeper);
        let jobs = jobs::declare(&Subjects {
            broker: Arc::clone(&broker),
            counters: Arc::clone(&counters),
            log_position: Arc::clone(&log_position),
            log_keeper,
            certificates: listeners.certificates.clone(),
            declared: Arc::new(declared),
            metrics: metrics.clone(),
        });
        let draining = Arc::new(AtomicBool::new(false));
        let service = ServiceState::new(
            counted,
            metrics,
            Arc::clone(&draining),
            listeners.certificates.clone(),
            jobs.iter().map(Job::state).collect(),
        );
        let server = &config.server;
        let rest = Rest::new(service, server.request_deadline, server.trusted_proxies.clone());
        let rest = if dev { rest.for_loopback_only() } else { rest };
        let admission = Arc::new(admission_of(&server.limits));
        let state = AppState {
            broker: Arc::clone(&broker),
            counters,
            operator_admission: match &server.operator {
                None => Arc::clone(&admission),
                Some(operator) => Arc::new(admission_of(&operator.limits)),
            },
            admission,
        };
        let exchange = Arc::new(Exchange::new(rest, state.clone()));
        listeners.api.router.replace_with(api(&exchange, listeners.service.is_none()));
        if let Some(service) = &listeners.service {
            service.router.replace_with(service_alone(&exchange));
        }
        if let Some(operator) = &listeners.operator {
            operator.router.replace_with(of_operator(&exchange));
        }
        let (stop, stopped) = watch::channel(false);
        let jobs = jobs.into_iter().map(|job| job.spawn(stopped.clone())).collect();
        tracing::info!(
            address = %listeners.api_address(),
            service = listeners.service_address(),
            operator = listeners.operator_address(),
            "serving"
        );
        Self {
            listeners,
            broker,
            state,
            draining,
            stop,
            jobs,
            drain_delay: config.server.drain_delay,
            drain_timeout: config.server.drain_timeout,
            log_position,
            _folder: folder,
        }
    }

    /// What another protocol needs to serve this gateway's objects. All protocols share the gateway's
    /// bytes and places.
    pub fn app_state(&self) -> AppState {
        self.state.clone()
    }

    /// Address of the API.
    pub fn local_addr(&self) -> SocketAddr {
        self.listeners.api_address()
    }

    /// Reads the files of all TLS certificates and keys again, even if they look unchanged. Files that
    /// cannot be used are logged and change nothing.
    pub async fn read_certificates_again(&self) {
        if self.listeners.certificates.is_empty() {
            tracing::info!("no listener uses TLS: there is no certificate to read");
        }
        for tls in &self.listeners.certificates {
            Arc::clone(tls).read_again().await;
        }
    }

    /// Stops in order: `/readyz` reports the shutdown, the listener of the API drains, then the
    /// operator's and that of the service endpoints; the counters are recorded; audit log and store are
    /// closed.
    pub async fn stop(self) {
        self.draining.store(true, Ordering::Release);
        // Keep serving during the delay, so that a load balancer notices the shutdown before
        // requests are refused.
        tokio::time::sleep(self.drain_delay).await;
        match self.listeners.api.running.drain(self.drain_timeout).await {
            Drained::Complete => tracing::info!("drained"),
            Drained::Aborted(connections) => tracing::warn!(connections, "aborted connections at the end of the drain"),
        }
        // After the API's, so that revocations and `/readyz` work during its drain.
        if let Some(operator) = self.listeners.operator {
            operator.running.drain(OPERATOR_DRAIN).await;
        }
        self.broker.finish_accepted(self.drain_timeout).await;
        // Last, so that `/readyz` can be watched during the drain. Does not wait long for
        // connections that a monitor keeps open.
        if let Some(service) = self.listeners.service {
            service.running.drain(SERVICE_DRAIN).await;
        }
        self.stop.send_replace(true);
        for job in self.jobs {
            if let Err(error) = job.await {
                tracing::warn!(%error, "a background job was aborted");
            }
        }
        close(&self.broker, &self.log_position).await;
        tracing::info!("stopped");
    }
}

fn admission_of(limits: &Limits) -> Admission {
    Admission::new(
        limits.max_in_flight as usize,
        usize::try_from(limits.max_bytes).unwrap_or(usize::MAX),
        limits.max_body_rate,
    )
}
