//! Carries out what the configuration declares: tenants and connections before anything is
//! served, keys behind it, since their providers may be away.

use std::sync::Arc;
use std::time::Duration;

use super::BootError;
use crate::broker::{Broker, DeclaredConnection, DeclaredKey, DeclaredTenant, Failure, Found};
use crate::config::declared::{Declared, Key};

/// How long a key that could not be made waits for the next try.
const AGAIN: Duration = Duration::from_secs(30);
/// How many declared things differ from what is there, or could not be made yet.
const DRIFT: &str = "claviger_declared_drift";

/// Makes missing tenants and connections. Answers how many things differ.
///
/// # Errors
/// The first that cannot be made: what is declared is wrong then, and the operator is there.
pub(super) async fn before_serving(broker: &Broker, declared: &Declared) -> Result<u32, BootError> {
    let mut drift = 0;
    for tenant in &declared.tenants {
        let asked = DeclaredTenant {
            name: tenant.name.clone(),
            id: tenant.id,
        };
        let found = broker
            .declare_tenant(&asked)
            .await
            .map_err(|failure| refused("tenant", &tenant.name, failure))?;
        drift += tell("tenant", "", &tenant.name, &found);
    }
    for connection in &declared.connections {
        let settings = connection.settings.clone();
        let resolved = tokio::task::spawn_blocking(move || settings.resolve()).await?;
        let settings = Arc::new(resolved.map_err(|error| BootError::DeclaredSettings {
            name: connection.name.clone(),
            error,
        })?);
        for tenant in &connection.tenants {
            let asked = DeclaredConnection {
                tenant: tenant.clone(),
                name: connection.name.clone(),
                provider: connection.provider,
                settings: Arc::clone(&settings),
            };
            let found = broker.declare_connection(&asked).await;
            let found = found.map_err(|failure| refused("connection", &connection.name, failure))?;
            drift += tell("connection", tenant, &connection.name, &found);
        }
    }
    metrics::gauge!(DRIFT).set(f64::from(drift));
    Ok(drift)
}

/// Makes missing keys, again and again until each is there; to be run beside the serving.
pub(super) async fn keys(broker: Arc<Broker>, mut waiting: Vec<Key>, drift: u32) {
    let mut differing = drift;
    loop {
        let mut left = Vec::new();
        for key in waiting {
            let asked = DeclaredKey {
                tenant: key.tenant.clone(),
                name: key.name.clone(),
                connection: key.connection.clone(),
                spec: key.spec,
                provider_key: key.provider_key.clone(),
                id: key.id,
            };
            match broker.declare_key(&asked).await {
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
        Found::Made => {
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
