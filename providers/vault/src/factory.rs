//! Connections to Vault and OpenBao.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::egress::{Authorities, Egress, Options};
use claviger_provider::{
    Call, Capabilities, ConnectionParts, Error, ErrorKind, Factory, ParsedSettings, ProviderKind, Secret, SettingsError, SettingsOrigin,
};

use crate::api::{Api, Token};
use crate::errors::fault;
use crate::names::{Path, Place};
use crate::provider::{VaultProvider, capabilities};
use crate::session::{Credential, LoginBody, Session};
use crate::settings::{Auth, Settings, parse};

/// The longest answer, in bytes: a key of 10,000 versions takes under 300 KiB.
const MAX_ANSWER: usize = 1 << 20;
/// The pipeline's attempts are shorter by far; these hold where nobody waits any more.
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(30);

/// Makes connections that go out under one egress policy.
pub struct VaultFactory {
    egress: Egress,
}

impl VaultFactory {
    /// Under this policy.
    pub fn new(egress: Egress) -> Self {
        Self { egress }
    }

    /// The provider of kept settings.
    ///
    /// # Errors
    /// `Misconfigured` when the settings cannot be used, or not any more under this policy.
    pub fn provider(&self, settings: &str, secrets: Vec<(String, Secret)>) -> Result<VaultProvider, Error> {
        let unusable = || fault(ErrorKind::Misconfigured, "the kept settings cannot be used");
        let settings: Settings = serde_json::from_str(settings).map_err(|_| unusable())?;
        let namespace = settings.namespace.as_deref().map(|text| Path::parse(text).ok_or_else(unusable));
        let place = Place {
            namespace: namespace.transpose()?,
            mount: Path::parse(&settings.mount).ok_or_else(unusable)?,
        };
        let wanted = settings.auth.secret();
        let secret = secrets.into_iter().find(|(name, _)| name == wanted).map(|(_, secret)| secret);
        let secret = secret.ok_or_else(|| fault(ErrorKind::Misconfigured, "the connection's secret is missing"))?;
        Token::new(&secret).ok_or_else(unusable)?;
        let mount = |text: &str| Path::parse(text).ok_or_else(unusable);
        let credential = match &settings.auth {
            Auth::Token {} => Credential::Token(secret),
            Auth::Approle { role_id, mount: at } => Credential::Login {
                mount: mount(at)?,
                body: LoginBody::Approle {
                    role_id: role_id.clone(),
                    secret_id: secret,
                },
            },
            Auth::Jwt { role, mount: at } | Auth::Kubernetes { role, mount: at } => Credential::Login {
                mount: mount(at)?,
                body: LoginBody::Jwt {
                    role: role.clone(),
                    jwt: secret,
                },
            },
        };
        // The operator's policy may have changed since the settings were taken.
        let refused = |error| fault(ErrorKind::Misconfigured, "the kept address is not taken any more").source(error);
        let destination = self.egress.destination(&settings.address).map_err(refused)?;
        let proxy = settings.proxy.as_deref().map(|address| self.egress.proxy(address).map_err(refused));
        let authorities = match &settings.ca {
            Some(pem) => Authorities::from_pem(pem).ok_or_else(unusable)?,
            None => Authorities::System,
        };
        let options = Options {
            authorities,
            proxy: proxy.transpose()?,
            connect_timeout: CONNECT,
            timeout: TOTAL,
            max_answer: MAX_ANSWER,
        };
        let client = self.egress.client(destination, options);
        let client = client.map_err(|error| fault(ErrorKind::Misconfigured, "no client can be made").source(error))?;
        let api = Api::new(client, place.namespace.as_ref()).ok_or_else(unusable)?;
        Ok(VaultProvider {
            session: Session::new(api, credential),
            place,
        })
    }
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

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts.settings, parts.secrets)?))
    }
}
