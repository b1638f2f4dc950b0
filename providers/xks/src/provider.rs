//! The provider on the external keys behind one proxy.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::kit::health_monitor::HealthMonitor;
use claviger_provider::kit::lengths::{self, MAX_DATA_KEY};
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, ErrorKind, How, Kek, KeyCapabilities, KeyDescription, KeyId, KeyRequest, KeySpec,
    OpContext, Probe, Provider, ProviderKind, Secret, Wrapped,
};

use crate::errors::fault;
use crate::external_keys::{ExternalKeys, Target, name};
use crate::health::MonitoredKeys;
use crate::probe::probe;

/// What every connection of this provider can do.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        keys: vec![KeyCapabilities {
            spec: KeySpec::Aes256,
            wrap: How::InsideProvider,
            generate_data_key: How::ThroughMemory,
            rewrap: How::ThroughMemory,
            context: ContextBinding::AssociatedData,
            rotation: None,
            max_plaintext: MAX_DATA_KEY,
            random_nonce_bound: true,
            chooses_version: false,
        }],
        create_key: false,
        set_state: false,
        schedule_deletion: false,
        import: false,
    }
}

/// The external keys of one connection.
pub struct XksProvider {
    pub(crate) monitored: Arc<MonitoredKeys>,
    pub(crate) monitor: HealthMonitor,
}

impl XksProvider {
    fn keys(&self) -> &ExternalKeys {
        &self.monitored.keys
    }

    /// Makes a call of somebody's, with which the connection is in use.
    async fn noted<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.monitor.noted(&self.monitored, call).await
    }
}

#[async_trait]
impl Provider for XksProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Xks
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn budget(&self) -> Option<Duration> {
        Some(self.keys().budget())
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        lengths::check_plaintext(ProviderKind::Xks, dek, MAX_DATA_KEY)?;
        let name = name(&kek.key)?;
        let target = Target { name: &name, key: kek.id };
        self.noted(self.keys().encrypt(cx, target, dek, context.bytes())).await
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let name = name(&wrapped.key)?;
        // Every envelope names its logical key.
        let key = context.added().map_or(KeyId::from_bytes([0; 16]), |added| added.key);
        let target = Target { name: &name, key };
        self.noted(self.keys().decrypt(cx, target, wrapped, context.bytes())).await
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        match (&request.adopt, request.spec) {
            (Some(wanted), KeySpec::Aes256) => self.noted(self.keys().adopt(cx, wanted, request.taken, request.key_id)).await,
            (Some(_) | None, KeySpec::Aes256 | KeySpec::Rsa3072 | KeySpec::Rsa4096) => {
                Err(fault(ErrorKind::Unsupported, "the API creates no keys, and knows AES-256 alone"))
            }
        }
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let name = name(&kek.key)?;
        let found = self.noted(self.keys().metadata(cx, &name)).await?;
        found.usable()?;
        Ok(found.describe(&name))
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        Ok(probe(&self.monitored, cx, keks).await)
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
