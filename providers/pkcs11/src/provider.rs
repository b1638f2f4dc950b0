//! The provider on one token.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::kit::health_monitor::HealthMonitor;
use claviger_provider::kit::lengths::{MAX_DATA_KEY, check_plaintext, max_plaintext};
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, How, Kek, KeyCapabilities, KeyDescription, KeyRequest, KeySpec, OpContext, Probe,
    Provider, ProviderKind, Rotation, Secret, Wrapped,
};

use crate::client::Client;
use crate::health::MonitoredToken;
use crate::probe;

/// The capabilities of all connections. Which mechanisms a token offers shows when a key is made or adopted.
pub fn capabilities() -> Capabilities {
    let of = |spec| KeyCapabilities {
        spec,
        wrap: How::InsideProvider,
        generate_data_key: How::ThroughMemory,
        rewrap: How::ThroughMemory,
        context: match spec {
            KeySpec::Aes256 => ContextBinding::AssociatedData,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => ContextBinding::CommitmentOnly,
        },
        // A token's keys have no versions.
        rotation: Some(Rotation::NewKey),
        max_plaintext: max_plaintext(spec, MAX_DATA_KEY),
        random_nonce_bound: spec == KeySpec::Aes256,
        chooses_version: false,
    };
    Capabilities {
        keys: KeySpec::ALL.into_iter().map(of).collect(),
        create_key: true,
        set_state: false,
        schedule_deletion: false,
        import: false,
    }
}

/// The keys of one connection's token.
pub struct Pkcs11Provider {
    pub(crate) monitored: Arc<MonitoredToken>,
    pub(crate) monitor: HealthMonitor,
}

impl Pkcs11Provider {
    fn client(&self) -> &Client {
        &self.monitored.client
    }

    /// Makes a call of somebody's, with which the connection is in use.
    async fn noted<T>(&self, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.monitor.noted(&self.monitored, call).await
    }
}

#[async_trait]
impl Provider for Pkcs11Provider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Pkcs11
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn budget(&self) -> Option<Duration> {
        Some(self.client().budget)
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        check_plaintext(ProviderKind::Pkcs11, dek, max_plaintext(kek.spec, MAX_DATA_KEY))?;
        self.noted(self.client().wrap(cx, kek, dek, context)).await
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        self.noted(self.client().unwrap(cx, wrapped, context)).await
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        match &request.adopt {
            Some(name) => self.noted(self.client().adopt(cx, name)).await,
            None => self.noted(self.client().create(cx, request)).await,
        }
    }

    async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        self.noted(self.client().find_made(cx, request)).await
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.noted(self.client().replacement(cx, kek)).await
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.noted(self.client().described(cx, kek)).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        Ok(probe::probe(self.client(), cx, keks).await)
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
