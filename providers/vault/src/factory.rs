//! Connections to Vault and OpenBao.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::egress::Egress;
use claviger_provider::kit::http::ConnectionHttp;
use claviger_provider::kit::secrets::ConnectionSecrets;
use claviger_provider::kit::session::identity::Identities;
use claviger_provider::kit::settings::whole;
use claviger_provider::{
    BoundContext, Call, Capabilities, ClaimSpan, ConnectionId, ConnectionParts, Error, ErrorKind, Factory, KeySpec, ParsedSettings,
    ProviderKind, Secret, SettingsError, SettingsOrigin, Wrapped,
};

use crate::connector::Connector;
use crate::errors::{Refusal, fault};
use crate::key_type::KeyType;
use crate::names::{Engine, Path};
use crate::offline_decrypt::commands;
use crate::provider::{VaultProvider, capabilities};
use crate::session::{Session, TokenSource, login};
use crate::settings::{Settings, change_network, parse, replace};
use crate::transit::Transit;

/// Makes the providers of connections to Vault and OpenBao, under one egress policy.
pub struct VaultFactory {
    egress: Egress,
    identities: Identities<Refusal>,
}

impl VaultFactory {
    /// Under this policy.
    pub fn new(egress: Egress) -> Self {
        Self {
            egress,
            identities: Identities::default(),
        }
    }

    /// Creates the provider of a connection from its stored settings and secrets. This sends no request.
    ///
    /// # Errors
    /// `Misconfigured` when the settings or secrets cannot be used, or this policy no longer permits
    /// the address.
    pub fn provider(&self, parts: ConnectionParts<'_>) -> Result<VaultProvider, Error> {
        let (settings, engine) = stored(parts.settings).ok_or_else(unusable)?;
        let trace = parts.background_trace();
        let destination = self.egress.destination(&settings.address);
        let destination =
            destination.map_err(|error| fault(ErrorKind::Misconfigured, "the stored address is no longer permitted").source(error))?;
        let http = ConnectionHttp {
            ca: settings.ca.as_deref(),
            proxy: settings.proxy.as_deref(),
            client_certificate: None,
            switch: parts.switch.clone(),
        };
        let membership = login(&settings).map(|(login, lockout)| self.identities.join(login, lockout, &parts.login));
        let connector = Connector {
            egress: self.egress.clone(),
            destination,
            options: http.options(&self.egress, ProviderKind::Vault)?,
            namespace: engine.namespace.clone(),
        };
        let secrets = ConnectionSecrets::new(parts.secrets, parts.files);
        let source = TokenSource::new(connector, settings.auth, secrets, trace, membership)?;
        let session = Session::new(source, parts.login, parts.switch);
        Ok(VaultProvider(Transit::new(session, engine, settings.symmetric_key_type)))
    }
}

fn unusable() -> Error {
    fault(ErrorKind::Misconfigured, "the stored settings cannot be used")
}

/// Stored settings, and the engine that they name.
fn stored(settings: &str) -> Option<(Settings, Engine)> {
    let settings: Settings = serde_json::from_str(settings).ok()?;
    let namespace = match settings.namespace.as_deref() {
        Some(text) => Some(Path::parse(text)?),
        None => None,
    };
    let mount = Path::parse(&settings.mount)?;
    Some((settings, Engine { namespace, mount }))
}

#[async_trait]
impl Factory for VaultFactory {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Vault
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn parse(&self, settings: &str, _: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        parse(settings, &self.egress)
    }

    fn replace_secrets(&self, public: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        match stored(public) {
            Some((settings, _)) => replace(&settings, given),
            None => Err(whole("a connection whose stored settings can be read")),
        }
    }

    fn network_settings(&self) -> &'static [&'static str] {
        &["address", "ca", "proxy"]
    }

    fn change_network(&self, public: &str, given: &str) -> Result<String, Vec<SettingsError>> {
        match stored(public) {
            Some((settings, _)) => change_network(settings, given, &self.egress),
            None => Err(whole("a connection whose stored settings can be read")),
        }
    }

    /// A provider key id does not name the server, so claims are per server address. A tenant could
    /// write the settings of a server that it controls, so only the operator's settings claim a key
    /// for the whole installation.
    fn claims(&self, settings: &str, origin: SettingsOrigin) -> ClaimSpan {
        match (origin, self.server(settings)) {
            (SettingsOrigin::Operator, Some(service)) => ClaimSpan::Installation { service },
            (SettingsOrigin::Operator, None) | (SettingsOrigin::Tenant, _) => ClaimSpan::Tenant,
        }
    }

    fn server(&self, settings: &str) -> Option<String> {
        serde_json::from_str(settings).ok().map(|settings: Settings| settings.address)
    }

    fn own_id(&self, settings: &str, adopt: &str) -> Option<String> {
        let (_, engine) = stored(settings)?;
        Some(engine.id(&engine.adopted(adopt)?))
    }

    fn declare(&self, connection: ConnectionId, settings: Option<&str>) {
        let login = settings.and_then(|settings| login(&stored(settings)?.0));
        let locked = login.and_then(|(login, lockout)| lockout.map(|_| login));
        self.identities.declare(connection, locked);
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts)?))
    }

    fn offline_decrypt(&self, settings: &str, spec: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        let commands = stored(settings).and_then(|(settings, engine)| {
            let kind = KeyType::of(spec, settings.symmetric_key_type);
            commands(&settings, &engine, wrapped, context, kind)
        });
        commands.unwrap_or_default()
    }
}
