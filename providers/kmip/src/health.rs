//! The checks of the key manager while the connection is in use.

use async_trait::async_trait;
use claviger_provider::kit::health_monitor::{HealthCheck, of_canary};
use claviger_provider::{Error, ErrorKind, Health, OpContext};

use crate::key_manager::KeyManager;
use crate::names::key_ref;
use crate::tags::Operation;

/// The key manager of a connection, and how it is checked.
pub(crate) struct MonitoredKeyManager {
    pub(crate) manager: KeyManager,
    /// The Unique Identifier of the key that its owner made for deep checks.
    pub(crate) canary: Option<String>,
}

#[async_trait]
impl HealthCheck for MonitoredKeyManager {
    async fn check(&self, cx: &OpContext, deep: bool) -> Result<Health, Error> {
        if let Err(error) = self.manager.client.about(cx).await {
            let error = error.into_error(Operation::Query.as_str());
            // A server that refuses this operation to the client responds all the same.
            if !matches!(error.kind, ErrorKind::ExternalDenied | ErrorKind::Unsupported) {
                return Err(error);
            }
        }
        match (deep, &self.canary) {
            (true, Some(id)) => of_canary(self.manager.canary(cx, &key_ref(id)).await),
            (true | false, _) => Ok(Health::Ok),
        }
    }
}
