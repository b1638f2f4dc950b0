//! A connection and a key request for an adapter's own tests.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use claviger_provider::layers::{BreakerConfig, PipelineConfig, RetryConfig};
use claviger_provider::{
    ConnectionId, ConnectionParts, HealthReport, KeyId, KeyRequest, KeySpec, LoginReport, ProviderKind, Secret, SecretFiles, SeverSwitch,
    TenantId,
};

/// The tenant of the connections.
pub const TENANT: TenantId = TenantId::from_bytes([7; 16]);
/// The external id of the connections.
pub const EXTERNAL_ID: &str = "0123456789abcdef0123456789abcdef";

/// The parts of a connection with these settings, whose background calls nobody observes and
/// whose switch nobody else has.
pub fn parts(settings: &str, secrets: Vec<(String, Secret)>) -> ConnectionParts<'_> {
    ConnectionParts {
        tenant: TENANT,
        connection: ConnectionId::from_bytes([9; 16]),
        external_id: EXTERNAL_ID,
        settings,
        secrets,
        background: None,
        switch: SeverSwitch::default(),
        files: None,
        login: login_report(),
        health: HealthReport::new(TENANT, ConnectionId::from_bytes([9; 16]), ProviderKind::Vault),
    }
}

/// A report on the logins of a connection.
pub fn login_report() -> LoginReport {
    LoginReport::new(TENANT, ConnectionId::from_bytes([9; 16]), ProviderKind::Vault)
}

/// The layers of a connection whose retries come at once, and whose circuits stay open for this long.
pub fn layers(open_for: Duration) -> PipelineConfig {
    PipelineConfig {
        retry: RetryConfig {
            base: Duration::from_millis(1),
            ..RetryConfig::default()
        },
        breaker: BreakerConfig {
            open_for,
            ..BreakerConfig::default()
        },
        ..PipelineConfig::default()
    }
}

/// A request for a key with a random id: a new provider key, or an existing one to adopt.
pub fn new_key(spec: KeySpec, adopt: Option<&str>) -> KeyRequest {
    KeyRequest {
        key_id: KeyId::random(),
        made_as: KeyId::random(),
        repeated: false,
        spec,
        adopt: adopt.map(str::to_owned),
        taken: false,
    }
}

/// A folder with the files `certificate` and `key` of a client, as the operator's configuration may name them.
#[derive(Debug)]
pub struct CertificateFiles(pub PathBuf);

impl CertificateFiles {
    /// Writes both.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, certificate: &str, key: &str) -> io::Result<()> {
        std::fs::write(self.0.join("certificate"), certificate)?;
        std::fs::write(self.0.join("key"), key)
    }
}

impl SecretFiles for CertificateFiles {
    fn paths(&self) -> Vec<PathBuf> {
        vec![self.0.join("certificate"), self.0.join("key")]
    }

    fn read(&self) -> Result<Vec<(String, Secret)>, String> {
        let read = |name: &str| -> Result<_, String> {
            let content = std::fs::read(self.0.join(name)).map_err(|error| error.kind().to_string())?;
            Ok((name.to_owned(), Secret::new(content)))
        };
        Ok(vec![read("certificate")?, read("key")?])
    }
}
