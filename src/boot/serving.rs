//! A gateway at work, to its drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use super::starting::{Face, Starting};
use super::{BootError, Remaining, StartOptions, close, declared, gateway};
use crate::audit::Counters;
use crate::broker::{Broker, DeclaredKey};
use crate::config::Config;
use crate::listener::{Drained, Tls};
use crate::protocols::exchange::AppState;
use crate::protocols::rest::{ServiceState, api, service_alone};
use crate::store::lock::DataDir;
use crate::store::sqlite::SqliteStore;
use crate::telemetry::metrics::Metrics;

/// How often the cache settles: it has no thread of its own, and expired bytes must go.
const SETTLE: Duration = Duration::from_millis(250);
/// How long the service endpoints' listener waits for its own answers.
const SERVICE_DRAIN: Duration = Duration::from_secs(1);
/// How often kept answers are pruned.
const PRUNE: Duration = Duration::from_secs(3600);
/// How often a provider is asked about rotations that it has not finished.
const ROTATIONS: Duration = Duration::from_secs(2);

/// The listeners that the gateway has.
pub(super) struct Listeners {
    pub(super) api: Face,
    /// The service endpoints' own, where they have one.
    pub(super) service: Option<Face>,
    pub(super) certificates: Vec<Arc<Tls>>,
}

impl Listeners {
    pub(super) fn service_address(&self) -> Option<SocketAddr> {
        self.service.as_ref().map(|face| face.running.local_addr())
    }
}

/// A gateway that serves.
pub struct Serving {
    listeners: Listeners,
    broker: Arc<Broker>,
    counters: Arc<Counters>,
    store: Arc<SqliteStore>,
    draining: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    background: Vec<JoinHandle<()>>,
    drain_delay: Duration,
    drain_timeout: Duration,
    /// Held until everything else is closed.
    _folder: DataDir,
}

impl Serving {
    /// Starts a gateway from its first step to its last, see [`Starting`].
    ///
    /// # Errors
    /// See [`BootError`]; no request was served then.
    pub async fn start(config: &Config, options: StartOptions) -> Result<Self, BootError> {
        let mut starting = Starting::begin(config, options).await?;
        let root = starting.root_key(config).await?;
        starting.serve(config, root).await
    }

    /// Leads the listeners' requests to the gateway, and begins what goes on beside them.
    pub(super) fn begin(
        config: &Config,
        listeners: Listeners,
        broker: Arc<Broker>,
        remaining: Remaining,
        metrics: Option<Metrics>,
        (keys, drift): (Vec<DeclaredKey>, u32),
    ) -> Self {
        let Remaining { folder, store, recovered } = remaining;
        let draining = Arc::new(AtomicBool::new(false));
        let keeper = metrics.clone();
        let service = ServiceState::new(recovered.counted, metrics, Arc::clone(&draining), listeners.certificates.clone());
        let gateway = Arc::new(gateway(config, &broker, &recovered.counters, service));
        listeners.api.door.replace_with(api(&gateway, listeners.service.is_none()));
        if let Some(service) = &listeners.service {
            service.door.replace_with(service_alone(&gateway));
        }

        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            // An error means that nobody is left to stop it, which is a stop too.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let counters = recovered.counters;
        let log = broker.log().clone();
        let counted = Arc::clone(&counters);
        let counting = until(stopped.clone());
        let settling = Arc::clone(&broker);
        let pruning = Arc::clone(&broker);
        let mut background = vec![
            tokio::spawn(async move { counted.run(&log, counting).await }),
            tokio::spawn(every(SETTLE, until(stopped.clone()), move || {
                let broker = Arc::clone(&settling);
                async move { broker.sweep_cache() }
            })),
            tokio::spawn(every(PRUNE, until(stopped.clone()), move || {
                let broker = Arc::clone(&pruning);
                async move {
                    if let Err(error) = broker.prune_kept_answers().await {
                        tracing::warn!(code = error.code.as_str(), "kept answers could not be pruned");
                    }
                }
            })),
        ];
        let rotating = Arc::clone(&broker);
        let rotations = every(ROTATIONS, std::future::pending(), move || {
            let broker = Arc::clone(&rotating);
            async move { broker.finish_rotations().await }
        });
        let until_rotations = until(stopped.clone());
        background.push(tokio::spawn(async move {
            // A provider that does not answer does not hold up the stop.
            tokio::select! {
                () = rotations => {}
                () = until_rotations => {}
            }
        }));
        for tls in &listeners.certificates {
            background.push(tokio::spawn(Arc::clone(tls).watch(until(stopped.clone()))));
        }
        let keys = declared::keys(Arc::clone(&broker), keys, drift);
        let until_keys = until(stopped.clone());
        background.push(tokio::spawn(async move {
            tokio::select! {
                () = keys => {}
                () = until_keys => {}
            }
        }));
        if let Some(keeper) = keeper {
            let until = until(stopped);
            background.push(tokio::spawn(async move {
                tokio::select! {
                    () = keeper.keep() => {}
                    () = until => {}
                }
            }));
        }
        tracing::info!(
            address = %listeners.api.running.local_addr(),
            service = listeners.service_address().map(|at| at.to_string()),
            "serving"
        );
        Self {
            listeners,
            broker,
            counters,
            store,
            draining,
            stop,
            background,
            drain_delay: config.server.drain_delay,
            drain_timeout: config.server.drain_timeout,
            _folder: folder,
        }
    }

    /// What another protocol needs to serve this gateway's objects, with so many requests under way
    /// at once.
    pub fn app_state(&self, in_flight: usize) -> AppState {
        AppState {
            broker: Arc::clone(&self.broker),
            counters: Arc::clone(&self.counters),
            in_flight: Arc::new(Semaphore::new(in_flight)),
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.listeners.api.running.local_addr()
    }

    /// Reads the files of certificates and their keys again, changed or not. What cannot be
    /// used is logged, and changes nothing.
    pub async fn read_certificates_again(&self) {
        if self.listeners.certificates.is_empty() {
            tracing::info!("there is nothing to read again: no listener speaks TLS");
        }
        for tls in &self.listeners.certificates {
            Arc::clone(tls).read_again().await;
        }
    }

    /// Stops in order: `/readyz` turns false, the API's listener drains, then that of the
    /// service endpoints, the counters are recorded, the log and the store are closed.
    pub async fn stop(self) {
        self.draining.store(true, Ordering::Release);
        // Requests are served meanwhile: who balances load is told before it meets a refusal.
        tokio::time::sleep(self.drain_delay).await;
        match self.listeners.api.running.drain(self.drain_timeout).await {
            Drained::Complete => tracing::info!("drained"),
            Drained::Aborted(connections) => tracing::warn!(connections, "connections were cut at the end of the drain"),
        }
        self.broker.finish_accepted(self.drain_timeout).await;
        // Last: until here it said how the drain goes on. Who keeps a connection open in order
        // to watch is not waited for.
        if let Some(service) = self.listeners.service {
            service.running.drain(SERVICE_DRAIN).await;
        }
        self.stop.send_replace(true);
        for task in self.background {
            if let Err(error) = task.await {
                tracing::warn!(%error, "a background task ended early");
            }
        }
        close(self.broker.log(), &self.store).await;
        tracing::info!("stopped");
    }
}

/// Runs `work` at each tick until `until` is done.
async fn every<F, Fut>(period: Duration, until: impl Future<Output = ()>, work: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = ()>,
{
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(until);
    loop {
        tokio::select! {
            _ = ticks.tick() => work().await,
            () = &mut until => return,
        }
    }
}
