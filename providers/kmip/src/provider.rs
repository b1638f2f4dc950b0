//! The provider on one key manager, as one client.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::kit::health_monitor::HealthMonitor;
use claviger_provider::kit::lengths::{MAX_DATA_KEY, check_plaintext};
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, ErrorKind, How, Kek, KeyCapabilities, KeyDescription, KeyRequest, KeySpec,
    OpContext, Probe, Provider, ProviderKind, Rotation, Secret, Wrapped,
};

use crate::errors::fault;
use crate::health::MonitoredKeyManager;
use crate::key_manager::{KeyManager, id};
use crate::probe;

/// The capabilities of every connection.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        keys: vec![KeyCapabilities {
            spec: KeySpec::Aes256,
            wrap: How::InsideProvider,
            // KMIP generates no data keys that it also wraps.
            generate_data_key: How::ThroughMemory,
            rewrap: How::ThroughMemory,
            context: ContextBinding::AssociatedData,
            rotation: Some(Rotation::NewKey),
            max_plaintext: MAX_DATA_KEY,
            random_nonce_bound: true,
            chooses_version: false,
        }],
        create_key: true,
        // A key that was revoked can never be activated again, and Destroy is at once.
        set_state: false,
        schedule_deletion: false,
        import: false,
    }
}

/// The keys of one connection's key manager.
pub struct KmipProvider {
    pub(crate) monitored: Arc<MonitoredKeyManager>,
    pub(crate) monitor: HealthMonitor,
}

impl KmipProvider {
    fn manager(&self) -> &KeyManager {
        &self.monitored.manager
    }

    /// Makes a call of somebody's, with which the connection is in use.
    async fn noted<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.monitor.noted(&self.monitored, call).await
    }
}

fn supported(spec: KeySpec, operation: &'static str) -> Result<(), Error> {
    match spec {
        KeySpec::Aes256 => Ok(()),
        KeySpec::Rsa3072 | KeySpec::Rsa4096 => Err(fault(ErrorKind::Unsupported, operation)),
    }
}

#[async_trait]
impl Provider for KmipProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Kmip
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn budget(&self) -> Option<Duration> {
        Some(self.manager().client.budget)
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        supported(kek.spec, "wrap_key")?;
        check_plaintext(ProviderKind::Kmip, dek, MAX_DATA_KEY)?;
        self.noted(self.manager().wrap(cx, &kek.key, dek, context)).await
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        self.noted(self.manager().unwrap(cx, wrapped, context)).await
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        supported(request.spec, "create_key")?;
        match &request.adopt {
            Some(name) => self.noted(self.manager().adopt(cx, name, request.taken)).await,
            None => self.noted(self.manager().create(cx, request)).await,
        }
    }

    async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        supported(request.spec, "find_made")?;
        self.noted(self.manager().look_for(cx, request)).await
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        supported(kek.spec, "rotate")?;
        let id = id(&kek.key)?;
        self.noted(self.manager().replace(cx, id)).await
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        supported(kek.spec, "describe")?;
        let id = id(&kek.key)?;
        self.noted(self.manager().described(cx, id)).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        Ok(probe::probe(&self.monitored.manager, cx, keks).await)
    }
}

#[cfg(test)]
mod tests {
    use claviger_provider::KeySpec;

    use super::capabilities;

    /// AES-GCM under random initialization vectors ends at 2^32 wraps of a key (NIST SP 800-38D, section 8.3).
    #[test]
    fn wraps_with_random_vectors_are_counted() {
        let keys = capabilities().keys;
        assert!(keys.iter().any(|key| key.spec == KeySpec::Aes256));
        assert!(keys.iter().all(|key| key.random_nonce_bound == (key.spec == KeySpec::Aes256)));
    }
}
