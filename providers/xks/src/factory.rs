//! Connections to XKS proxies.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::egress::{Egress, Options};
use claviger_provider::kit::health_monitor::{HealthMonitor, Monitors};
use claviger_provider::kit::http::ConnectionHttp;
use claviger_provider::kit::secrets::ConnectionSecrets;
use claviger_provider::kit::settings::whole;
use claviger_provider::{
    BoundContext, Call, Capabilities, ClaimSpan, ConnectionParts, Error, ErrorKind, Factory, KeyId, KeySpec, ParsedSettings, ProviderKind,
    Secret, SettingsError, SettingsOrigin, TenantId, Wrapped,
};

use crate::errors::fault;
use crate::external_keys::ExternalKeys;
use crate::health::MonitoredKeys;
use crate::names::{KeyName, Region};
use crate::offline_decrypt::commands;
use crate::policy;
use crate::provider::{XksProvider, capabilities};
use crate::session::{AccessKeys, Connector, Session};
use crate::settings::{Settings, change_network, parse, replace};

/// The longest response, in bytes: a data key of 4 KiB in base64, and more.
const MAX_RESPONSE: usize = 64 * 1024;

/// Makes the providers of connections to XKS proxies, under one egress policy.
pub struct XksFactory {
    egress: Egress,
    monitors: Monitors,
}

impl XksFactory {
    /// Under this policy.
    pub fn new(egress: Egress) -> Self {
        Self {
            egress,
            monitors: Monitors::default(),
        }
    }

    /// Creates the provider of a connection from its stored settings and secrets. This sends no request.
    ///
    /// # Errors
    /// `Misconfigured` when the settings or secrets cannot be used, or this policy no longer permits
    /// the address.
    pub fn provider(&self, parts: ConnectionParts<'_>) -> Result<XksProvider, Error> {
        let unusable = || fault(ErrorKind::Misconfigured, "the stored settings cannot be used");
        let settings: Settings = serde_json::from_str(parts.settings).map_err(|_| unusable())?;
        let destination = self.egress.destination(&settings.address);
        let destination =
            destination.map_err(|error| fault(ErrorKind::Misconfigured, "the stored address is no longer permitted").source(error))?;
        let http = ConnectionHttp {
            ca: settings.ca.as_deref(),
            proxy: settings.proxy.as_deref(),
            client_certificate: None,
            switch: parts.switch.clone(),
        };
        let canary = match settings.canary_key.as_deref() {
            Some(name) => Some(KeyName::parse(name).ok_or_else(unusable)?),
            None => None,
        };
        let trace = parts.background_trace();
        let options = Options {
            // Shorter, so that a host that lets no connection open is told as unreachable, and not as slow.
            connect_timeout: settings.budget_ms.time().mul_f32(0.8),
            timeout: settings.budget_ms.time(),
            max_response: MAX_RESPONSE,
            ..http.options(&self.egress, ProviderKind::Xks)?
        };
        let connector = Connector {
            egress: self.egress.clone(),
            destination,
            options,
            region: Region::parse(&settings.region).ok_or_else(unusable)?,
            address: settings.address,
        };
        let secrets = ConnectionSecrets::new(parts.secrets, parts.files);
        let keys = AccessKeys::new(connector, settings.auth, secrets)?;
        let monitor = HealthMonitor::new(parts.health, trace, parts.switch.clone(), self.monitors.clone());
        let monitored = MonitoredKeys {
            keys: ExternalKeys::new(Session::new(keys, parts.login, parts.switch)),
            canary,
        };
        Ok(XksProvider {
            monitored: Arc::new(monitored),
            monitor,
        })
    }
}

fn stored(settings: &str) -> Result<Settings, Vec<SettingsError>> {
    serde_json::from_str(settings).map_err(|_| whole("a connection whose stored settings can be read"))
}

#[async_trait]
impl Factory for XksFactory {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Xks
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn parse(&self, settings: &str, _: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        parse(settings, &self.egress)
    }

    fn replace_secrets(&self, public: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        replace(&stored(public)?, given)
    }

    fn network_settings(&self) -> &'static [&'static str] {
        &["address", "ca", "proxy"]
    }

    fn change_network(&self, public: &str, given: &str) -> Result<String, Vec<SettingsError>> {
        change_network(stored(public)?, given, &self.egress)
    }

    /// A provider key id does not name the proxy, so claims are per address. A tenant could write the settings of a
    /// proxy that it controls, so only the operator's settings claim a key for the whole installation.
    fn claims(&self, settings: &str, origin: SettingsOrigin) -> ClaimSpan {
        match (origin, self.server(settings)) {
            (SettingsOrigin::Operator, Some(service)) => ClaimSpan::Installation { service },
            (SettingsOrigin::Operator, None) | (SettingsOrigin::Tenant, _) => ClaimSpan::Tenant,
        }
    }

    fn server(&self, settings: &str) -> Option<String> {
        serde_json::from_str(settings).ok().map(|settings: Settings| settings.address)
    }

    fn own_id(&self, _: &str, adopt: &str) -> Option<String> {
        KeyName::parse(adopt).map(|name| name.as_str().to_owned())
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts)?))
    }

    fn policy_of_keys(&self, settings: &str, tenant: TenantId, keys: &[(String, KeyId)], partial: bool) -> Option<String> {
        let settings = stored(settings).ok()?;
        let region = Region::parse(&settings.region)?;
        Some(policy::printed(&region, tenant, keys, settings.canary_key.as_deref(), partial))
    }

    fn offline_decrypt(&self, settings: &str, _: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        let settings = stored(settings).ok();
        settings
            .and_then(|settings| commands(&settings, wrapped, context))
            .unwrap_or_default()
    }
}
