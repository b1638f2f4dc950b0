//! Connections to key managers.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::egress::Egress;
use claviger_provider::kit::health_monitor::{HealthMonitor, Monitors};
use claviger_provider::kit::passed_canaries::PassedCanaries;
use claviger_provider::kit::secrets::ConnectionSecrets;
use claviger_provider::kit::settings::whole;
use claviger_provider::{
    Call, Capabilities, ClaimSpan, ConnectionParts, Error, ErrorKind, Factory, ParsedSettings, ProviderKind, Secret, SettingsError,
    SettingsOrigin,
};

use crate::client::Client;
use crate::dial::Dial;
use crate::errors::fault;
use crate::health::MonitoredKeyManager;
use crate::key_manager::KeyManager;
use crate::pool::Pool;
use crate::provider::{KmipProvider, capabilities};
use crate::settings::{Settings, change_network, parse, replace};
use crate::tags::Version;

/// The most connections of one provider at once.
const CONNECTIONS: usize = 32;

/// Makes the providers of connections to key managers, under one egress policy.
pub struct KmipFactory {
    egress: Egress,
    monitors: Monitors,
}

impl KmipFactory {
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
    /// `Misconfigured` when the settings or secrets cannot be used, or this policy no longer permits the address.
    pub fn provider(&self, parts: ConnectionParts<'_>) -> Result<KmipProvider, Error> {
        let settings = stored(parts.settings).ok_or_else(|| fault(ErrorKind::Misconfigured, "the stored settings cannot be used"))?;
        let trace = parts.background_trace();
        let monitor = HealthMonitor::new(parts.health, trace.clone(), parts.switch.clone(), self.monitors.clone());
        let endpoint = self.egress.endpoint(&settings.address);
        let endpoint =
            endpoint.map_err(|error| fault(ErrorKind::Misconfigured, "the stored address is no longer permitted").source(error))?;
        let secrets = ConnectionSecrets::new(parts.secrets, parts.files);
        let budget = settings.budget_ms.time();
        let dial = Dial::new(
            self.egress.clone(),
            endpoint,
            settings.ca,
            secrets,
            budget,
            parts.switch.share().clone(),
        );
        dial.check()
            .map_err(|error| error.into_error("the stored certificate cannot be used"))?;
        let manager = KeyManager {
            client: Client {
                pool: Pool::new(CONNECTIONS, budget, parts.switch.clone()),
                dial,
                budget,
                versions: settings.protocol_version.map_or_else(|| Version::ALL.to_vec(), |only| vec![only]),
                correlates: settings.correlation,
                switch: parts.switch,
                background: trace,
            },
            server_iv: settings.server_iv,
            passed: PassedCanaries::default(),
        };
        let monitored = MonitoredKeyManager {
            manager,
            canary: settings.canary_key,
        };
        Ok(KmipProvider {
            monitored: Arc::new(monitored),
            monitor,
        })
    }
}

fn stored(settings: &str) -> Option<Settings> {
    serde_json::from_str(settings).ok()
}

#[async_trait]
impl Factory for KmipFactory {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Kmip
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn parse(&self, settings: &str, _: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        parse(settings, &self.egress)
    }

    fn replace_secrets(&self, _public: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        replace(given)
    }

    fn network_settings(&self) -> &'static [&'static str] {
        &["address", "ca"]
    }

    fn change_network(&self, public: &str, given: &str) -> Result<String, Vec<SettingsError>> {
        match stored(public) {
            Some(settings) => change_network(&settings, given, &self.egress),
            None => Err(whole("a connection whose stored settings can be read")),
        }
    }

    /// A Unique Identifier does not name the server, so claims are per address. A tenant could write the settings of
    /// a server that it controls, so only the operator's settings claim a key for the whole installation.
    fn claims(&self, settings: &str, origin: SettingsOrigin) -> ClaimSpan {
        match (origin, self.server(settings)) {
            (SettingsOrigin::Operator, Some(service)) => ClaimSpan::Installation { service },
            (SettingsOrigin::Operator, None) | (SettingsOrigin::Tenant, _) => ClaimSpan::Tenant,
        }
    }

    fn server(&self, settings: &str) -> Option<String> {
        stored(settings).map(|settings| settings.address)
    }

    /// A key is adopted by its Unique Identifier, or by a name, which only a call resolves.
    fn claimed_id(&self, _: &str, adopt: &str) -> Option<String> {
        Some(adopt.to_owned())
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::time::Duration;

    use claviger_provider::egress::{Egress, EgressPolicy};
    use claviger_provider::{ErrorKind, Factory, OpContext, SettingsOrigin, TenantId};
    use claviger_testkit::connection::parts;
    use serde_json::json;
    use tokio::time::{Instant, timeout};

    use super::{CONNECTIONS, KmipFactory};

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_place_is_part_of_the_budget() {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let pair = rcgen::generate_simple_self_signed(["client.test".to_owned()]).unwrap();
        let cert = json!({"certificate": pair.cert.pem(), "key": pair.signing_key.serialize_pem()});
        let factory = KmipFactory::new(Egress::new(EgressPolicy::default()));
        let settings = json!({"address": "kms.example:5696", "auth": {"cert": cert}});
        let parsed = factory.parse(&settings.to_string(), SettingsOrigin::Tenant).unwrap();
        let provider = factory.provider(parts(&parsed.public, parsed.secrets)).unwrap();
        let client = &provider.monitored.manager.client;
        let mut places = Vec::new();
        for _ in 0..CONNECTIONS {
            places.push(client.pool.place(false).await.unwrap());
        }
        let (begin, minute) = (Instant::now(), Duration::from_secs(60));
        let cx = OpContext::for_system("test", TenantId::random(), minute);
        let waited = timeout(minute, client.about(&cx)).await.unwrap();
        // The clock of a test has whole milliseconds.
        let late = begin.elapsed() - client.budget;
        assert_eq!(waited.err().unwrap().kind(), ErrorKind::UpstreamTimeout);
        assert!(late <= Duration::from_millis(1), "{late:?}");
    }
}
