//! Creates the objects that the configuration declares: tenants and connections before the gateway
//! serves, keys in the background, because their providers may be down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::errors::{BootError, DeclaredSettingsError};
use super::options::ConfigSource;
use crate::broker::{Broker, Declaration, Declarations, DeclaredConnection, Failure, Found, How};
use crate::config::declared::{Declared, Key};
use crate::config::{Config, environment};

/// Gauge of declared objects that differ from the configuration or could not be created yet.
const DRIFT: &str = "claviger_declared_drift";

/// Reads the declared objects again from the source of the configuration. Without a source, nothing is
/// declared.
pub(super) struct FromConfig(pub(super) Option<ConfigSource>);

#[async_trait]
impl Declarations for FromConfig {
    async fn read(&self) -> Result<Declaration, String> {
        let Some(source) = self.0.clone() else {
            return Ok(Declaration::default());
        };
        let read = move || {
            let config = Config::load(source.file.as_deref(), environment()).map_err(|errors| errors.to_string())?;
            declaration(&config.declared).map_err(|error| error.to_string())
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
    }
}

/// Resolves the declared objects, with the contents of the files that settings name. Blocks while it
/// reads them.
fn declaration(declared: &Declared) -> Result<Declaration, DeclaredSettingsError> {
    let mut connections = Vec::new();
    for connection in &declared.connections {
        let settings = connection.settings.resolve().map_err(|error| DeclaredSettingsError {
            name: connection.name.clone(),
            error,
        })?;
        let settings = Arc::new(settings);
        connections.extend(connection.tenants.iter().map(|tenant| DeclaredConnection {
            tenant: tenant.clone(),
            name: connection.name.clone(),
            provider: connection.provider,
            settings: Arc::clone(&settings),
        }));
    }
    Ok(Declaration {
        tenants: declared.tenants.clone(),
        connections,
        keys: declared.keys.clone(),
    })
}

/// Creates missing tenants and connections. Returns the declared keys, to be created later.
///
/// # Errors
/// The first object that cannot be created. The start fails then, because the configuration is
/// wrong and the operator is there to correct it.
pub(super) async fn before_serving(broker: &Arc<Broker>, declared: &Declared) -> Result<DeclaredKeys, BootError> {
    let declared = declared.clone();
    let declaration = tokio::task::spawn_blocking(move || declaration(&declared)).await??;
    let mut differing = 0;
    let mut networks = Vec::new();
    for tenant in &declaration.tenants {
        let found = broker.declare_tenant(tenant, How::Start).await;
        let found = found.map_err(|failure| refused("tenant", &tenant.name, failure))?;
        differing += usize::from(log_found("tenant", "", &tenant.name, &found));
    }
    for connection in &declaration.connections {
        let found = broker.declare_connection(connection, How::Start).await;
        let found = found.map_err(|failure| refused("connection", &connection.name, failure))?;
        if let Found::NewNetwork(_) = found {
            networks.push(connection.clone());
            continue;
        }
        differing += usize::from(log_found("connection", &connection.tenant, &connection.name, &found));
    }
    metrics::gauge!(DRIFT).set((differing + networks.len()) as f64);
    Ok(DeclaredKeys {
        broker: Arc::clone(broker),
        networks: Mutex::new(networks),
        missing: Mutex::new(declaration.keys),
        differing: AtomicUsize::new(differing),
    })
}

/// Declared keys that were not created or checked yet, and declared network settings that were not tried
/// yet: what calls providers.
pub(super) struct DeclaredKeys {
    broker: Arc<Broker>,
    /// Connections with other network settings.
    networks: Mutex<Vec<DeclaredConnection>>,
    missing: Mutex<Vec<Key>>,
    /// Declared objects of all kinds that differ.
    differing: AtomicUsize,
}

impl DeclaredKeys {
    /// Whether there is nothing to create.
    pub(super) fn is_empty(&self) -> bool {
        self.missing.lock().is_empty() && self.networks.lock().is_empty()
    }

    /// Tries the network settings of each connection that has others. Those that are refused stay, and those
    /// of suspended tenants. Returns whether none was refused.
    async fn change_networks(&self) -> bool {
        let connections = self.networks.lock().clone();
        let (mut left, mut all) = (Vec::new(), true);
        for connection in connections {
            match self.broker.declare_connection(&connection, How::CarryOut).await {
                Ok(Found::Suspended) => left.push(connection),
                Ok(found) => {
                    log_found("connection", &connection.tenant, &connection.name, &found);
                }
                Err(failure) => {
                    tracing::warn!(
                        tenant = %connection.tenant, connection = %connection.name, code = failure.code.as_str(), detail = %failure.detail,
                        "declared network settings could not be taken over; it is retried"
                    );
                    all = false;
                    left.push(connection);
                }
            }
        }
        *self.networks.lock() = left;
        all
    }

    /// Takes over network settings, and tries to create each missing key. Keys that fail stay missing, and
    /// those of suspended tenants.
    ///
    /// # Errors
    /// If a key could not be created, or network settings were refused.
    pub(super) async fn create_missing(&self) -> Result<(), &'static str> {
        let changed = self.change_networks().await;
        let keys = self.missing.lock().clone();
        let mut missing = Vec::new();
        let mut failed = false;
        for key in keys {
            match self.broker.declare_key(&key, How::CarryOut).await {
                Ok(Found::Suspended) => missing.push(key),
                Ok(found) => {
                    let differs = log_found("key", &key.tenant, &key.name, &found);
                    self.differing.fetch_add(usize::from(differs), Ordering::Relaxed);
                }
                Err(failure) => {
                    tracing::warn!(
                        tenant = %key.tenant, key = %key.name, code = failure.code.as_str(), detail = %failure.detail,
                        "a declared key could not be created; it is retried"
                    );
                    failed = true;
                    missing.push(key);
                }
            }
        }
        let drift = self.differing.load(Ordering::Relaxed) + missing.len() + self.networks.lock().len();
        metrics::gauge!(DRIFT).set(drift as f64);
        *self.missing.lock() = missing;
        if failed {
            return Err("a declared key could not be created, see the log");
        }
        if !changed {
            return Err("declared network settings could not be taken over, see the log");
        }
        Ok(())
    }
}

fn refused(what: &'static str, name: &str, failure: Failure) -> BootError {
    BootError::Declared {
        what,
        name: name.to_owned(),
        failure: Box::new(failure),
    }
}

/// Logs the result for one object. Returns whether it differs.
fn log_found(what: &str, tenant: &str, name: &str, found: &Found) -> bool {
    match found {
        Found::AsDeclared | Found::Suspended => {}
        Found::Missing => tracing::info!(what, tenant, name, "created, as declared"),
        Found::NewSecrets => tracing::info!(what, tenant, name, "took over the declared secrets"),
        Found::NewNetwork(settings) => tracing::info!(what, tenant, name, %settings, "took over the declared network settings"),
        Found::NotDeclared => tracing::info!(what, tenant, name, "is no longer declared"),
        Found::Differs(in_what) => {
            tracing::warn!(
                what,
                tenant,
                name,
                differs_in = in_what,
                "differs from the configuration; nothing was changed"
            );
            return true;
        }
    }
    false
}
