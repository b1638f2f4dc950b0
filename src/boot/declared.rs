//! Creates the objects that the configuration declares: tenants and connections before the gateway
//! serves, keys in the background, because their providers may be down.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::errors::BootError;
use super::options::ConfigSource;
use crate::broker::{Broker, Declaration, Declarations, DeclaredConnection, Failure, Found, How, MissingSecret};
use crate::config::declared::{Connection, Declared, Key};
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
            Ok(declaration(&config.declared))
        };
        tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?
    }
}

/// Resolves the declared objects, with the contents of the files that settings name. Blocks while it
/// reads them.
fn declaration(declared: &Declared) -> Declaration {
    Declaration {
        tenants: declared.tenants.clone(),
        connections: declared.connections.iter().flat_map(resolved).collect(),
        keys: declared.keys.clone(),
    }
}

/// A declared connection of each of its tenants. Blocks while it reads files.
fn resolved(connection: &Connection) -> impl Iterator<Item = DeclaredConnection> {
    let settings = connection.settings.resolve().map(Arc::new);
    let settings = settings.map_err(|error| MissingSecret(error.to_string()));
    connection.tenants.iter().map(move |tenant| DeclaredConnection {
        tenant: tenant.clone(),
        name: connection.name.clone(),
        provider: connection.provider,
        settings: settings.clone(),
        source: connection.settings.clone(),
    })
}

/// Creates missing tenants and connections. Returns the declared keys, to be created later.
///
/// # Errors
/// The first object that cannot be created. The start fails then, because the configuration is
/// wrong and the operator is there to correct it. A connection that lacks a usable secret file does not keep
/// the others from being served: it is retried.
pub(super) async fn before_serving(broker: &Arc<Broker>, declared: &Declared) -> Result<DeclaredObjects, BootError> {
    let sources = declared.connections.clone();
    let declared = declared.clone();
    let declaration = tokio::task::spawn_blocking(move || declaration(&declared)).await?;
    broker.note_declared().await?;
    let mut differing = 0;
    let mut networks = Vec::new();
    for tenant in &declaration.tenants {
        let found = broker.declare_tenant(tenant, How::Start, None).await;
        let found = found.map_err(|failure| refused("tenant", &tenant.name, failure))?;
        differing += usize::from(log_found("tenant", "", &tenant.name, &found));
    }
    let mut without_secret = Vec::new();
    let connections = declaration.connections.into_iter();
    let connections: Vec<_> = connections.map(|declared| broker.with_usable_files(declared)).collect();
    for connection in &connections {
        let found = match (broker.declare_connection(connection, How::Start, None).await, &connection.settings) {
            (Ok(Found::NewNetwork(_)), _) => {
                networks.push(connection.clone());
                continue;
            }
            (Ok(found), _) => found,
            (Err(failure), Err(MissingSecret(why))) => {
                // Where the tenant does not exist, the configuration is wrong.
                let noted = broker.lacks_secret(connection).await;
                noted.map_err(|failure| refused("connection", &connection.name, failure))?;
                log_missing_secret(connection, &failure, why);
                without_secret.push((connection.tenant.clone(), connection.name.clone()));
                continue;
            }
            (Err(failure), Ok(_)) => return Err(refused("connection", &connection.name, failure)),
        };
        differing += usize::from(log_found("connection", &connection.tenant, &connection.name, &found));
    }
    metrics::gauge!(DRIFT).set((differing + networks.len() + without_secret.len()) as f64);
    Ok(DeclaredObjects {
        broker: Arc::clone(broker),
        networks: Mutex::new(networks),
        missing: Mutex::new(declaration.keys),
        without_secret: Mutex::new(without_secret),
        connections: sources,
        differing: AtomicUsize::new(differing),
    })
}

fn log_missing_secret(connection: &DeclaredConnection, failure: &Failure, why: &str) {
    tracing::warn!(
        tenant = %connection.tenant, connection = %connection.name, code = failure.code.as_str(), why,
        "a declared connection lacks a usable secret file; it is retried every 5 seconds"
    );
}

/// Declared objects that were not created or checked yet, and declared network settings that were not tried
/// yet.
pub(super) struct DeclaredObjects {
    broker: Arc<Broker>,
    /// Connections with other network settings.
    networks: Mutex<Vec<DeclaredConnection>>,
    missing: Mutex<Vec<Key>>,
    /// Tenants and names of the connections that lack a usable secret file.
    without_secret: Mutex<Vec<(String, String)>>,
    /// All declared connections, to read their files again.
    connections: Vec<Connection>,
    /// Declared objects of all kinds that differ.
    differing: AtomicUsize,
}

impl DeclaredObjects {
    /// Whether there is nothing that calls a provider: no key to create, and no network settings to try, now
    /// or once a connection has its secrets.
    pub(super) fn calls_no_provider(&self) -> bool {
        self.missing.lock().is_empty() && self.networks.lock().is_empty() && self.has_all_secrets()
    }

    /// Whether every connection has its secrets.
    pub(super) fn has_all_secrets(&self) -> bool {
        self.without_secret.lock().is_empty()
    }

    fn set_drift(&self) {
        let waiting = self.missing.lock().len() + self.networks.lock().len() + self.without_secret.lock().len();
        let drift = self.differing.load(Ordering::Relaxed) + waiting;
        metrics::gauge!(DRIFT).set(drift as f64);
    }

    /// Reads the secret files of connections again that lacked a usable one, and creates these connections.
    ///
    /// # Errors
    /// If a connection still lacks a usable secret file, or cannot be created.
    pub(super) async fn read_secrets_again(&self) -> Result<(), &'static str> {
        let lacking = self.without_secret.lock().clone();
        if lacking.is_empty() {
            return Ok(());
        }
        let (connections, wanted) = (self.connections.clone(), lacking.clone());
        let resolved = move || {
            let named = connections
                .iter()
                .filter(|connection| wanted.iter().any(|(_, name)| *name == connection.name));
            let all: Vec<DeclaredConnection> = named.flat_map(resolved).collect();
            all
        };
        let resolved = tokio::task::spawn_blocking(resolved)
            .await
            .map_err(|_| "reading the files was aborted")?;
        let mut still = Vec::new();
        for connection in resolved {
            let connection = self.broker.with_usable_files(connection);
            let id = (connection.tenant.clone(), connection.name.clone());
            if !lacking.contains(&id) {
                continue;
            }
            match (
                self.broker.declare_connection(&connection, How::Start, None).await,
                &connection.settings,
            ) {
                (Ok(Found::NewNetwork(_)), _) => self.networks.lock().push(connection),
                (Ok(found), _) => {
                    let differs = log_found("connection", &connection.tenant, &connection.name, &found);
                    self.differing.fetch_add(usize::from(differs), Ordering::Relaxed);
                    tracing::info!(tenant = %connection.tenant, connection = %connection.name, "the secret file of a declared connection was read");
                }
                (Err(_), Err(_)) => still.push(id),
                (Err(failure), Ok(_)) => {
                    tracing::warn!(
                        tenant = %connection.tenant, connection = %connection.name, code = failure.code.as_str(), detail = %failure.detail,
                        hints = failure.hints().collect::<Vec<_>>().join("; "), "a declared connection could not be created; it is retried"
                    );
                    still.push(id);
                }
            }
        }
        let failed = !still.is_empty();
        *self.without_secret.lock() = still;
        self.set_drift();
        if failed {
            return Err("a declared connection lacks a usable secret file, see the log");
        }
        Ok(())
    }

    /// Tries the network settings of each connection that has others. Those that are refused stay, and those
    /// of suspended tenants, and those that were not reached. Returns whether none was refused.
    async fn change_networks(&self) -> bool {
        let connections = self.networks.lock().iter().cloned().map(|connection| (connection, None)).collect();
        let (mut done, mut all) = (Vec::new(), true);
        for (connection, found) in self.broker.declare_all(connections, How::CarryOut, None, None).await {
            match found {
                Some(Ok(Found::Suspended)) | None => {}
                Some(Ok(found)) => {
                    let differs = log_found("connection", &connection.tenant, &connection.name, &found);
                    self.differing.fetch_add(usize::from(differs), Ordering::Relaxed);
                    done.push((connection.tenant, connection.name));
                }
                Some(Err(failure)) => {
                    tracing::warn!(
                        tenant = %connection.tenant, connection = %connection.name, code = failure.code.as_str(), detail = %failure.detail,
                        "declared network settings could not be taken over; it is retried"
                    );
                    all = false;
                }
            }
        }
        // Another may have come meanwhile, whose secret file was read.
        let is_done = |connection: &DeclaredConnection| {
            let of = |(tenant, name): &(String, String)| *tenant == connection.tenant && *name == connection.name;
            done.iter().any(of)
        };
        self.networks.lock().retain(|connection| !is_done(connection));
        all
    }

    /// Takes over network settings, and tries to create each missing key. Keys that fail stay missing, those
    /// of suspended tenants, and those that were not reached.
    ///
    /// # Errors
    /// If a key could not be created, or network settings were refused.
    pub(super) async fn create_missing(&self) -> Result<(), &'static str> {
        let changed = self.change_networks().await;
        let keys = self.missing.lock().iter().cloned().map(|key| (key, None)).collect();
        let mut missing = Vec::new();
        let mut failed = false;
        for (key, found) in self.broker.declare_all(keys, How::CarryOut, None, None).await {
            match found {
                Some(Ok(Found::Suspended)) | None => missing.push(key),
                Some(Ok(found)) => {
                    let differs = log_found("key", &key.tenant, &key.name, &found);
                    self.differing.fetch_add(usize::from(differs), Ordering::Relaxed);
                }
                Some(Err(failure)) => {
                    tracing::warn!(
                        tenant = %key.tenant, key = %key.name, code = failure.code.as_str(), detail = %failure.detail,
                        "a declared key could not be created; it is retried"
                    );
                    failed = true;
                    missing.push(key);
                }
            }
        }
        *self.missing.lock() = missing;
        self.set_drift();
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
