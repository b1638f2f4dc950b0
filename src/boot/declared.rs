//! Carries out what the configuration declares: tenants and connections before anything is
//! served, keys behind it, since their providers may be away.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::BootError;
use crate::broker::{Broker, Declaration, Declarations, DeclaredConnection, DeclaredKey, DeclaredTenant, Failure, Found, How};
use crate::config::declared::{Declared, SettingsFileError};
use crate::config::{Config, environment};

/// How long a key that could not be made waits for the next try.
const AGAIN: Duration = Duration::from_secs(30);
/// How many declared things differ from what is there, or could not be made yet.
const DRIFT: &str = "claviger_declared_drift";

/// The configuration's file and variables, read anew by who asks; `None`: nothing is declared.
pub(super) struct FromConfig(pub(super) Option<ConfigSource>);

/// Where the configuration came from.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file; `None`: variables alone.
    pub file: Option<PathBuf>,
}

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

/// A connection whose settings cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the declared connection `{name}`: {error}")]
pub struct Unreadable {
    /// Its name.
    name: String,
    /// Why.
    error: SettingsFileError,
}

/// What is declared, with the contents of the files that settings name. It blocks on them.
fn declaration(declared: &Declared) -> Result<Declaration, Unreadable> {
    let mut connections = Vec::new();
    for connection in &declared.connections {
        let settings = connection.settings.resolve().map_err(|error| Unreadable {
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
        tenants: declared
            .tenants
            .iter()
            .map(|tenant| DeclaredTenant {
                name: tenant.name.clone(),
                id: tenant.id,
            })
            .collect(),
        connections,
        keys: declared
            .keys
            .iter()
            .map(|key| DeclaredKey {
                tenant: key.tenant.clone(),
                name: key.name.clone(),
                connection: key.connection.clone(),
                spec: key.spec,
                provider_key: key.provider_key.clone(),
                id: key.id,
            })
            .collect(),
    })
}

/// Makes missing tenants and connections. Answers the keys, which come later, and how many
/// things differ.
///
/// # Errors
/// The first that cannot be made: what is declared is wrong then, and the operator is there.
pub(super) async fn before_serving(broker: &Broker, declared: &Declared) -> Result<(Vec<DeclaredKey>, u32), BootError> {
    let declared = declared.clone();
    let declaration = tokio::task::spawn_blocking(move || declaration(&declared)).await??;
    let mut drift = 0;
    for tenant in &declaration.tenants {
        let found = broker.declare_tenant(tenant, How::CarryOut).await;
        let found = found.map_err(|failure| refused("tenant", &tenant.name, failure))?;
        drift += tell("tenant", "", &tenant.name, &found);
    }
    for connection in &declaration.connections {
        let found = broker.declare_connection(connection, How::CarryOut).await;
        let found = found.map_err(|failure| refused("connection", &connection.name, failure))?;
        drift += tell("connection", &connection.tenant, &connection.name, &found);
    }
    metrics::gauge!(DRIFT).set(f64::from(drift));
    Ok((declaration.keys, drift))
}

/// Makes missing keys, again and again until each is there; to be run beside the serving.
pub(super) async fn keys(broker: Arc<Broker>, mut waiting: Vec<DeclaredKey>, drift: u32) {
    let mut differing = drift;
    loop {
        let mut left = Vec::new();
        for key in waiting {
            match broker.declare_key(&key, How::CarryOut).await {
                Ok(found) => differing += tell("key", &key.tenant, &key.name, &found),
                Err(failure) => {
                    tracing::warn!(
                        tenant = %key.tenant, key = %key.name, code = failure.code.as_str(), detail = %failure.detail,
                        "a declared key is not there yet; it is tried again"
                    );
                    left.push(key);
                }
            }
        }
        let missing = u32::try_from(left.len()).unwrap_or(u32::MAX);
        metrics::gauge!(DRIFT).set(f64::from(differing.saturating_add(missing)));
        if left.is_empty() {
            return;
        }
        waiting = left;
        tokio::time::sleep(AGAIN).await;
    }
}

fn refused(what: &'static str, name: &str, failure: Failure) -> BootError {
    BootError::Declared {
        what,
        name: name.to_owned(),
        failure: Box::new(failure),
    }
}

/// Logs what was found; 1 when it differs.
fn tell(what: &str, tenant: &str, name: &str, found: &Found) -> u32 {
    match found {
        Found::AsDeclared => 0,
        Found::Missing => {
            tracing::info!(what, tenant, name, "made, as declared");
            0
        }
        Found::NewSecrets => {
            tracing::info!(what, tenant, name, "took the declared secrets");
            0
        }
        Found::Differs(in_what) => {
            tracing::warn!(
                what,
                tenant,
                name,
                differs_in = in_what,
                "differs from what is declared; nothing was changed"
            );
            1
        }
    }
}
