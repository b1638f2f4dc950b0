//! From the process's first step to a gateway that serves.
//!
//! The listeners are bound first and say that the gateway is starting: who watches it sees
//! that it lives and what it waits for, however long the root key takes to come.

use std::net::SocketAddr;
use std::sync::Arc;

use claviger_guarded::harden_process;

use super::serving::Listeners;
use super::{BootError, Folder, Serving, StartOptions, broker, close, declared, open, reconcile, report_hardening, root_key};
use crate::config::Config;
use crate::config::server::Transport;
use crate::listener::{Listener, Running, SwappableRouter, Tls};
use crate::protocols::rest::{Progress, RestService, Step, starting};
use crate::store::sealing::RootKey;

/// A gateway that starts. Dropping it ends the start; the folder is left as it was.
pub struct Starting {
    folder: Folder,
    listeners: Listeners,
    progress: Progress,
    options: StartOptions,
}

/// A listener at work and what it leads to.
pub(super) struct Face {
    pub(super) running: Running,
    pub(super) door: SwappableRouter<RestService>,
}

impl Starting {
    /// Takes the data folder and listens: `/healthz` says that the process lives, `/readyz`
    /// that it is not ready, and everything else is answered 503 `not_ready`.
    ///
    /// # Errors
    /// See [`BootError`].
    pub async fn begin(config: &Config, options: StartOptions) -> Result<Self, BootError> {
        for hardening in harden_process() {
            report_hardening(&hardening);
        }
        // Before the listeners: of two gateways on one folder the second hears of the folder.
        let folder = Folder::lock(config)?;
        let progress = Progress::default();
        let server = &config.server;
        let mut certificates = Vec::new();
        let mut listen = async |name, address, transport: &Transport, router| {
            let tls = match transport {
                Transport::Plain => None,
                Transport::Tls(files) => Some(Arc::new(Tls::load(name, files)?)),
            };
            certificates.extend(tls.clone());
            let bound = Listener::bind(address, tls, server.limits.clone()).await;
            let listener = bound.map_err(|error| BootError::Listen {
                address,
                kind: error.kind(),
            })?;
            let door = SwappableRouter::to(router);
            let running = listener.serve(door.clone());
            Ok::<_, BootError>(Face { running, door })
        };
        let api = listen(
            "api",
            server.listen,
            &server.transport,
            starting(&progress, server.service.is_none()),
        )
        .await?;
        let service = match &server.service {
            None => None,
            Some(service) => Some(listen("service", service.listen, &service.transport, starting(&progress, true)).await?),
        };
        let listeners = Listeners {
            api,
            service,
            certificates,
        };
        tracing::info!(address = %listeners.api.running.local_addr(), service = listeners.service_address().map(|at| at.to_string()), "starting");
        Ok(Self {
            folder,
            listeners,
            progress,
            options,
        })
    }

    /// Where the API will be served.
    pub fn local_addr(&self) -> SocketAddr {
        self.listeners.api.running.local_addr()
    }

    /// The root key. Store and log are still untouched, so whoever waits for this may as well
    /// give up.
    ///
    /// # Errors
    /// See [`BootError`].
    pub async fn root_key(&mut self, config: &Config) -> Result<RootKey, BootError> {
        self.progress.begin(Step::RootKey);
        let make = self.options.dev;
        root_key(config, &mut self.options, &self.folder, make).await
    }

    /// Opens store and log, brings them to agree, and serves.
    ///
    /// # Errors
    /// See [`BootError`]; no request was served then.
    pub async fn serve(self, config: &Config, root: RootKey) -> Result<Serving, BootError> {
        let Self {
            folder,
            listeners,
            progress,
            options,
        } = self;
        progress.begin(Step::Open);
        let opened = open(config, options.accept_rollback, folder, root).await?;
        let (broker, mut remaining) = broker(config, options.dev, options.source, opened).await;
        progress.begin(Step::Reconcile);
        if let Err(error) = reconcile(&broker, &mut remaining.recovered, options.accept_rollback).await {
            // What an interrupted run left is still to be settled: not to be called clean.
            if remaining.recovered.was_clean {
                close(broker.log(), &remaining.store).await;
            }
            return Err(error);
        }
        progress.begin(Step::Declare);
        match declared::before_serving(&broker, &config.declared).await {
            Ok(keys) => Ok(Serving::begin(config, listeners, broker, remaining, options.metrics, keys)),
            Err(error) => {
                close(broker.log(), &remaining.store).await;
                Err(error)
            }
        }
    }
}
