//! Connections to Vault and OpenBao.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::egress::{Authorities, ClientCertificate, Egress, Options};
use claviger_provider::{
    BoundContext, Call, Capabilities, ConnectionParts, Error, ErrorKind, Factory, KeySpec, ParsedSettings, ProviderKind, Secret,
    SettingsError, SettingsOrigin, Wrapped, take_secret,
};

use crate::api::{Api, Token};
use crate::errors::fault;
use crate::kind::KeyType;
use crate::login::Auth;
use crate::names::{Path, Place};
use crate::offline_decrypt::offline_decrypt;
use crate::provider::{VaultProvider, capabilities};
use crate::session::{Credential, LoginBody, Session};
use crate::settings::{Settings, parse, replace};

/// The longest answer, in bytes: a key of 10,000 versions takes under 300 KiB.
const MAX_RESPONSE: usize = 1 << 20;
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
        let (settings, place) = kept(settings).ok_or_else(unusable)?;
        let mut secrets = secrets;
        let mut secret = |wanted: &str| {
            take_secret(&mut secrets, wanted).ok_or_else(|| fault(ErrorKind::Misconfigured, "a secret of the connection is missing"))
        };
        let mount = |text: &str| Path::parse(text).ok_or_else(unusable);
        let mut client_certificate = None;
        let credential = match &settings.auth {
            Auth::Token {} => {
                let token = secret("token")?;
                Token::new(&token).ok_or_else(unusable)?;
                Credential::Token(token)
            }
            Auth::Approle { role_id, mount: at } => Credential::Login {
                mount: mount(at)?,
                body: LoginBody::Approle {
                    role_id: role_id.clone(),
                    secret_id: secret("secret_id")?,
                },
            },
            Auth::Jwt { role, mount: at } | Auth::Kubernetes { role, mount: at } => Credential::Login {
                mount: mount(at)?,
                body: LoginBody::Jwt {
                    role: role.clone(),
                    jwt: secret("jwt")?,
                },
            },
            Auth::Cert { name, mount: at } => {
                let (certificate, key) = (secret("certificate")?, secret("key")?);
                client_certificate = Some(ClientCertificate::from_pem(certificate.expose(), key.expose()).ok_or_else(unusable)?);
                Credential::Login {
                    mount: mount(at)?,
                    body: LoginBody::Cert { name: name.clone() },
                }
            }
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
            client_certificate,
            proxy: proxy.transpose()?,
            connect_timeout: CONNECT,
            timeout: TOTAL,
            max_response: MAX_RESPONSE,
        };
        let client = self.egress.client(destination, options);
        let client = client.map_err(|error| fault(ErrorKind::Misconfigured, "no client can be made").source(error))?;
        let api = Api::new(client, place.namespace.as_ref()).ok_or_else(unusable)?;
        Ok(VaultProvider::new(
            Session::new(api, credential),
            place,
            settings.symmetric_key_type,
        ))
    }
}

/// Kept settings, and the place that they name.
fn kept(settings: &str) -> Option<(Settings, Place)> {
    let settings: Settings = serde_json::from_str(settings).ok()?;
    let namespace = match settings.namespace.as_deref() {
        Some(text) => Some(Path::parse(text)?),
        None => None,
    };
    let mount = Path::parse(&settings.mount)?;
    Some((settings, Place { namespace, mount }))
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
        match kept(public) {
            Some((settings, _)) => replace(&settings, given),
            None => Err(vec![SettingsError::at("", "a connection whose kept settings can be read")]),
        }
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts.settings, parts.secrets)?))
    }

    fn offline_decrypt(&self, settings: &str, spec: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        let commands = kept(settings).and_then(|(settings, place)| {
            let kind = KeyType::of(spec, settings.symmetric_key_type);
            offline_decrypt(&settings, &place, wrapped, context, kind)
        });
        commands.unwrap_or_default()
    }
}
