//! Connections to the fake, for the gateway's own binary built with the feature `testkit`.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::{
    Call, Capabilities, ClaimSpan, ConnectionParts, Error, ErrorKind, Factory, ParsedSettings, Provider, ProviderKind, Rotation,
    SettingsError, SettingsOrigin,
};
use serde::Deserialize;

use crate::{FakeConfig, FakeProvider, FakeServer};

/// Creates connections to one fake server, or with the setting `server` to a named one beside it.
pub struct FakeFactory {
    server: Arc<FakeServer>,
    config: FakeConfig,
}

/// The settings of a connection.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// A named server; without it the one whose faults a new control connection plans.
    server: Option<String>,
    /// Whether tenants share the server through the operator's identity, as at a cloud.
    #[serde(default)]
    shared: bool,
}

impl FakeFactory {
    /// Connections to this server that imitate this service.
    pub fn new(server: Arc<FakeServer>, config: FakeConfig) -> Self {
        Self { server, config }
    }

    fn provider(&self) -> FakeProvider {
        FakeProvider::new(Arc::clone(&self.server), self.config.clone())
    }
}

#[async_trait]
impl Factory for FakeFactory {
    fn kind(&self) -> ProviderKind {
        Provider::kind(&self.provider())
    }

    fn capabilities(&self) -> Capabilities {
        Provider::capabilities(&self.provider())
    }

    fn parse(&self, settings: &str, _: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        if serde_json::from_str::<Settings>(settings).is_ok() {
            return Ok(ParsedSettings {
                public: settings.trim().to_owned(),
                secrets: Vec::new(),
            });
        }
        let expected = "an object with no other members than \"server\", a fake server's name, and \"shared\"".to_owned();
        Err(vec![SettingsError {
            pointer: String::new(),
            expected,
            operator_only: false,
        }])
    }

    fn claims(&self, settings: &str, _: SettingsOrigin) -> ClaimSpan {
        match serde_json::from_str(settings) {
            Ok(Settings { server, shared: true }) => ClaimSpan::Installation {
                service: server.unwrap_or_default(),
            },
            Ok(Settings { shared: false, .. }) | Err(_) => ClaimSpan::Tenant,
        }
    }

    /// Only where claims need it: with a server of its own, a tenant may leave `fake/` out of an id.
    fn own_id(&self, settings: &str, adopt: &str) -> Option<String> {
        let is_shared = serde_json::from_str(settings).is_ok_and(|settings: Settings| settings.shared);
        (is_shared && matches!(self.kind(), ProviderKind::Vault | ProviderKind::Xks)).then(|| adopt.to_owned())
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        let settings: Settings =
            serde_json::from_str(parts.settings).map_err(|error| Error::new(ErrorKind::InvalidInput, "settings").source(error))?;
        let server = settings.server.map(|name| self.server.named(&name));
        let server = server.unwrap_or_else(|| Arc::clone(&self.server));
        Ok(Arc::new(FakeProvider::new(server, self.config.clone())))
    }
}

/// The variable that names the control port's address, for instance `127.0.0.1:0`.
const CONTROL: &str = "CLAVIGER_TESTKIT_CONTROL";
/// The variable that names a file into which the control port's address is written.
const CONTROL_FILE: &str = "CLAVIGER_TESTKIT_CONTROL_FILE";
/// The variable that selects what the fake imitates: a service with all capabilities that rotates
/// by new keys (`capable`), a cloud, whose new keys may show late (`cloud`), or an external key store, and Vault
/// beside it (`external`).
const IMITATES: &str = "CLAVIGER_TESTKIT_PLAYS";

impl FakeFactory {
    /// Fakes with one control port, if `CLAVIGER_TESTKIT_CONTROL` is set; otherwise none. The port stays open as
    /// long as the process runs. Used by `claviger dev` only.
    pub async fn controlled() -> Vec<Self> {
        let Some(server) = Self::controlled_server().await else {
            return Vec::new();
        };
        let of_kind = |kind| FakeConfig {
            kind,
            ..FakeConfig::default()
        };
        let configs = match std::env::var(IMITATES).as_deref() {
            Ok("capable") => vec![FakeConfig::capable(ProviderKind::Vault, Rotation::NewKey)],
            Ok("cloud") => vec![of_kind(ProviderKind::Aws)],
            Ok("external") => vec![of_kind(ProviderKind::Xks), FakeConfig::default()],
            Ok(_) | Err(_) => vec![FakeConfig::default()],
        };
        configs.into_iter().map(|config| Self::new(Arc::clone(&server), config)).collect()
    }

    async fn controlled_server() -> Option<Arc<FakeServer>> {
        let address: SocketAddr = std::env::var(CONTROL).ok()?.parse().ok()?;
        let server = FakeServer::new();
        let control = crate::control::serve(address, Arc::clone(&server)).await.ok()?;
        if let Some(file) = std::env::var_os(CONTROL_FILE) {
            std::fs::write(file, control.address().to_string()).ok()?;
        }
        // Dropping it would close the port, which must stay open until the process ends.
        std::mem::forget(control);
        Some(server)
    }
}
