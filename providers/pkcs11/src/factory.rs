//! Creates connections to tokens.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::kit::health_monitor::{HealthMonitor, Monitors};
use claviger_provider::kit::passed_canaries::PassedCanaries;
use claviger_provider::kit::secrets::ConnectionSecrets;
use claviger_provider::kit::session::Session;
use claviger_provider::kit::session::identity::Identities;
use claviger_provider::{
    Call, Capabilities, ClaimSpan, ConnectionId, ConnectionParts, Error, ErrorKind, Factory, ParsedSettings, ProviderKind, SealedStore,
    Secret, SettingsError, SettingsOrigin,
};
use parking_lot::Mutex;

use crate::client::Client;
use crate::errors::{Refusal, fault};
use crate::health::MonitoredToken;
use crate::helper::HelperProgram;
use crate::lifecycle::unproven;
use crate::pin_latch::PinLatch;
use crate::provider::{Pkcs11Provider, capabilities};
use crate::session::{HelperSource, LOCKOUT};
use crate::settings::{self, Settings};

/// Creates connections, each with a helper process of its own.
pub struct Pkcs11Factory {
    program: HelperProgram,
    latch: PinLatch,
    identities: Identities<Refusal>,
    monitors: Monitors,
}

impl Pkcs11Factory {
    /// Creates a factory whose helpers are started by `program`. `store` remembers refused PINs.
    pub fn new(program: HelperProgram, store: Arc<dyn SealedStore>) -> Self {
        Self {
            program,
            latch: PinLatch::new(store),
            identities: Identities::default(),
            monitors: Monitors::default(),
        }
    }

    /// Creates the provider of a connection from its stored settings and secrets. This starts no helper.
    ///
    /// # Errors
    /// `Misconfigured` when the stored settings cannot be used.
    pub fn provider(&self, parts: ConnectionParts<'_>) -> Result<Pkcs11Provider, Error> {
        let settings: Settings =
            serde_json::from_str(parts.settings).map_err(|_| fault(ErrorKind::Misconfigured, "the stored settings cannot be used"))?;
        let trace = parts.background_trace();
        let monitor = HealthMonitor::new(parts.health, trace.clone(), parts.switch.clone(), self.monitors.clone());
        let membership = self.identities.join(settings.identity(), Some(LOCKOUT), &parts.login);
        let client = Client {
            switch: parts.switch.clone(),
            budget: settings.budget_ms.time(),
            known_as: settings.known_as.clone(),
            token_iv: settings.token_iv,
            adopt_any: settings.adopt_any,
            passed: PassedCanaries::default(),
            oaep: Mutex::new(None),
            session: {
                let source = HelperSource {
                    program: self.program.clone(),
                    membership,
                    module: settings.one_module(),
                    settings: settings.clone(),
                    secrets: ConnectionSecrets::new(parts.secrets, parts.files),
                    latch: self.latch.clone(),
                    trace,
                    switch: parts.switch.clone(),
                };
                Session::new(source, parts.login, parts.switch)
            },
        };
        let monitored = MonitoredToken {
            client,
            canary: settings.canary_key,
        };
        Ok(Pkcs11Provider {
            monitored: Arc::new(monitored),
            monitor,
        })
    }
}

#[async_trait]
impl Factory for Pkcs11Factory {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Pkcs11
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn parse(&self, settings: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        settings::parse(settings, origin)
    }

    fn replace_secrets(&self, _: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        settings::replace(given)
    }

    fn network_settings(&self) -> &'static [&'static str] {
        &["module", "token", "environment", "known_as"]
    }

    /// A token is the operator's to declare, and several tenants may have a connection to it.
    fn claims(&self, _: &str, _: SettingsOrigin) -> ClaimSpan {
        ClaimSpan::INSTALLATION
    }

    fn declare(&self, connection: ConnectionId, settings: Option<&str>) {
        let settings = settings.and_then(|settings| serde_json::from_str::<Settings>(settings).ok());
        self.identities.declare(connection, settings.map(|settings| settings.identity()));
    }

    fn unproven(&self, _: &str) -> Error {
        unproven()
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts)?))
    }
}
