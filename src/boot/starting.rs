//! From the first step of the process to a gateway that serves.
//!
//! The listeners are bound first and report that the gateway is starting. So a monitor sees that
//! the process runs and what it waits for, however long the root key takes.

use std::net::SocketAddr;

use claviger_guarded::harden_process;
use claviger_provider::Shares;

use super::errors::BootError;
use super::listeners::Listeners;
use super::open::{Folder, broker, close, open, report_hardening};
use super::options::StartOptions;
use super::root_key::root_key;
use super::serving::Serving;
use super::{declared, descriptors};
use crate::config::Config;
use crate::protocols::rest::{Progress, Step, starting};
use crate::store::sealing::RootKey;

/// Starts a gateway, from the first step to the last; see [`Starting`].
///
/// # Errors
/// See [`BootError`]. Then no request was served.
pub async fn start(config: &Config, options: StartOptions) -> Result<Serving, BootError> {
    let mut starting = Starting::begin(config, options).await?;
    let root = starting.root_key(config).await?;
    starting.serve(config, root).await
}

/// A gateway that is starting. Dropping it ends the start and leaves the folder unchanged.
pub struct Starting {
    folder: Folder,
    listeners: Listeners,
    shares: Shares,
    progress: Progress,
    options: StartOptions,
}

impl Starting {
    /// Locks the data folder and binds the listeners. From then on `/healthz` reports that the
    /// process runs, `/readyz` that it is not ready, and all other requests get 503 `not_ready`.
    ///
    /// # Errors
    /// See [`BootError`].
    pub async fn begin(config: &Config, options: StartOptions) -> Result<Self, BootError> {
        for hardening in harden_process() {
            report_hardening(&hardening);
        }
        // Before the listeners, so that a second gateway on the folder fails with a clear message.
        let folder = Folder::lock(config)?;
        let shares = descriptors::raise_limit(&config.server);
        let progress = Progress::default();
        let listeners = Listeners::bind(&config.server, |with_service| starting(&progress, with_service)).await?;
        tracing::info!(
            address = %listeners.api_address(),
            service = listeners.service_address(),
            operator = listeners.operator_address(),
            "starting"
        );
        Ok(Self {
            folder,
            listeners,
            shares,
            progress,
            options,
        })
    }

    /// Address of the API.
    pub fn local_addr(&self) -> SocketAddr {
        self.listeners.api_address()
    }

    /// Gets the root key. May wait long for a provider. Cancel-safe: store and audit log are not
    /// opened yet.
    ///
    /// # Errors
    /// See [`BootError`].
    pub async fn root_key(&mut self, config: &Config) -> Result<RootKey, BootError> {
        self.progress.begin(Step::RootKey);
        let create = self.options.dev;
        root_key(config, &mut self.options, &self.folder, create).await
    }

    /// Opens and reconciles store and audit log, creates the declared tenants and connections, and
    /// serves.
    ///
    /// # Errors
    /// See [`BootError`]. Then no request was served.
    pub async fn serve(self, config: &Config, root: RootKey) -> Result<Serving, BootError> {
        let Self {
            folder,
            listeners,
            shares,
            progress,
            options,
        } = self;
        progress.begin(Step::Open);
        let opened = open(config, options.accepted, folder, root).await?;
        let (broker, mut remaining) = broker(config, options.dev, options.source, opened, shares, listeners.recall()).await;
        progress.begin(Step::Reconcile);
        if let Err(error) = remaining.reconcile(&broker, options.accepted).await {
            // After an unclean stop, recovery is not finished, so do not record a clean stop.
            if remaining.recovered.was_clean {
                close(&broker, &remaining.log_position).await;
            }
            return Err(error);
        }
        progress.begin(Step::Declare);
        match declared::before_serving(&broker, &config.declared).await {
            Ok(declared) => {
                broker.start_accepted();
                Ok(Serving::begin(
                    config,
                    listeners,
                    broker,
                    remaining,
                    options.metrics,
                    declared,
                    options.dev,
                ))
            }
            Err(error) => {
                broker.start_refused();
                close(&broker, &remaining.log_position).await;
                Err(error)
            }
        }
    }
}
