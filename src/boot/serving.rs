//! A gateway at work, from its start to its drain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger_guarded::harden_process;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{BootError, Remaining, StartOptions, agree, broker, close, gateway, open, report_hardening};
use crate::broker::Broker;
use crate::config::Config;
use crate::config::server::Transport;
use crate::http::server::{Drained, Listener, Running, Tls};
use crate::http::{ServiceState, router};
use crate::store::lock::DataDir;
use crate::store::sqlite::SqliteStore;

/// How often the cache settles: it has no thread of its own, and expired bytes must go.
const SETTLE: Duration = Duration::from_millis(250);
/// How often kept answers are pruned.
const PRUNE: Duration = Duration::from_secs(3600);

/// A gateway that serves.
pub struct Serving {
    running: Running,
    certificates: Vec<Arc<Tls>>,
    broker: Arc<Broker>,
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
    /// Starts a gateway: opens what it needs, brings store and log to agree, and listens.
    ///
    /// # Errors
    /// See [`BootError`]; nothing is served then.
    pub async fn start(config: &Config, mut options: StartOptions) -> Result<Self, BootError> {
        for hardening in harden_process() {
            report_hardening(&hardening);
        }
        let tls = match &config.server.transport {
            Transport::Plain => None,
            Transport::Tls(files) => Some(Arc::new(Tls::load("api", files)?)),
        };
        let certificates: Vec<Arc<Tls>> = tls.iter().cloned().collect();
        let metrics = options.metrics.take();
        let dev = options.dev;
        let accept_rollback = options.accept_rollback;
        let opened = open(config, &mut options, dev).await?;
        let (broker, remaining) = broker(config, dev, opened).await;
        let Remaining {
            folder,
            store,
            mut recovered,
        } = remaining;
        let address = config.server.listen;
        let ready = async {
            agree(&broker, &mut recovered, accept_rollback).await?;
            let bound = Listener::bind(address, tls, config.server.limits.clone()).await;
            bound.map_err(|error| BootError::Listen {
                address,
                kind: error.kind(),
            })
        };
        let listener = match ready.await {
            Ok(listener) => listener,
            Err(error) => {
                // What an interrupted run left is still to be settled: not to be called clean.
                if recovered.was_clean {
                    close(broker.log(), &store).await;
                }
                return Err(error);
            }
        };

        let draining = Arc::new(AtomicBool::new(false));
        let keeper = metrics.clone();
        let service = ServiceState::new(recovered.counted, metrics, Arc::clone(&draining), certificates.clone());
        let gateway = Arc::new(gateway(config, &broker, &recovered.counters, service));
        let running = listener.serve(router(gateway));

        let (stop, stopped) = watch::channel(false);
        let until = |mut stopped: watch::Receiver<bool>| async move {
            // An error means that nobody is left to stop it, which is a stop too.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let counters = recovered.counters;
        let log = broker.log().clone();
        let counting = until(stopped.clone());
        let settling = Arc::clone(&broker);
        let pruning = Arc::clone(&broker);
        let mut background = vec![
            tokio::spawn(async move { counters.run(&log, counting).await }),
            tokio::spawn(every(SETTLE, until(stopped.clone()), move || {
                let broker = Arc::clone(&settling);
                async move { broker.settle_cache() }
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
        for tls in &certificates {
            background.push(tokio::spawn(Arc::clone(tls).watch(until(stopped.clone()))));
        }
        if let Some(keeper) = keeper {
            let until = until(stopped);
            background.push(tokio::spawn(async move {
                tokio::select! {
                    () = keeper.keep() => {}
                    () = until => {}
                }
            }));
        }
        tracing::info!(address = %running.local_addr(), "serving");
        Ok(Self {
            running,
            certificates,
            broker,
            store,
            draining,
            stop,
            background,
            drain_delay: config.server.drain_delay,
            drain_timeout: config.server.drain_timeout,
            _folder: folder,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.running.local_addr()
    }

    /// Reads the files of certificates and their keys again, changed or not. What cannot be
    /// used is logged, and changes nothing.
    pub async fn read_certificates_again(&self) {
        if self.certificates.is_empty() {
            tracing::info!("there is nothing to read again: no listener speaks TLS");
        }
        for tls in &self.certificates {
            Arc::clone(tls).read_again().await;
        }
    }

    /// Stops in order: `/readyz` turns false, the listener drains, the counters are
    /// recorded, the log and the store are closed.
    pub async fn stop(self) {
        self.draining.store(true, Ordering::Release);
        // Requests are served meanwhile: who balances load is told before it meets a refusal.
        tokio::time::sleep(self.drain_delay).await;
        match self.running.drain(self.drain_timeout).await {
            Drained::Complete => tracing::info!("drained"),
            Drained::Cut(connections) => tracing::warn!(connections, "connections were cut at the end of the drain"),
        }
        self.broker.finish_accepted(self.drain_timeout).await;
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
