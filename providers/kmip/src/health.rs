//! The key manager's health: the checks of it while the connection is in use.

use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::kit::health_monitor::HealthCheck;
use claviger_provider::{BackgroundTrace, Error, ErrorKind, Health, OpContext, TenantId};

use crate::key_manager::KeyManager;
use crate::names::key_ref;
use crate::tags::Operation;

/// The longest time of one check, whose calls have the budget of any call.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key manager of a connection, and how it is checked.
pub(crate) struct MonitoredKeyManager {
    pub(crate) manager: KeyManager,
    pub(crate) tenant: TenantId,
    /// Receives the calls of checks.
    pub(crate) trace: BackgroundTrace,
    /// The Unique Identifier of the key that its owner made for deep checks.
    pub(crate) canary: Option<String>,
}

impl MonitoredKeyManager {
    async fn found(&self, cx: &OpContext, deep: bool) -> Result<Health, Error> {
        if let Err(error) = self.manager.client.about(cx).await {
            let error = error.into_error(Operation::Query.as_str());
            // A server that refuses this operation to the client responds all the same.
            if !matches!(error.kind, ErrorKind::ExternalDenied | ErrorKind::Unsupported) {
                return Err(error);
            }
        }
        if let (true, Some(id)) = (deep, &self.canary) {
            self.manager.canary(cx, &key_ref(id)).await?;
        }
        Ok(Health::Ok)
    }
}

#[async_trait]
impl HealthCheck for MonitoredKeyManager {
    async fn check(&self, deep: bool) -> Result<Health, Error> {
        let cx = OpContext::for_system("health", self.tenant, PATIENCE);
        let found = self.found(&cx, deep).await;
        for call in cx.take_calls().calls {
            self.trace.record(call);
        }
        found
    }
}
