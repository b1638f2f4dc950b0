//! Connections to Key Vault and Managed HSM.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::egress::{Authorities, Client, Destination, Egress, EgressPolicy, Options};
use claviger_provider::{
    BoundContext, Call, Capabilities, ConnectionParts, Error, ErrorKind, Factory, KeySpec, ParsedSettings, ProviderKind, Secret,
    SettingsError, SettingsOrigin, Wrapped, take_secret,
};
use ipnet::{IpNet, Ipv4Net};

use crate::auth::{Auth, CERTIFICATE, KEY, SECRET, TOKEN};
use crate::challenge::Expected;
use crate::client::client;
use crate::cloud::{Cloud, Service};
use crate::credential::{Login, Source};
use crate::errors::fault;
use crate::names::Vault;
use crate::offline_decrypt::offline_decrypt;
use crate::provider::{AzureProvider, capabilities};
use crate::session::Session;
use crate::settings::{self, Settings, Symmetric};
use crate::transport::{Door, Transport};

/// The longest answer, in bytes: a page of versions takes under 32 KiB.
const MAX_RESPONSE: usize = 1 << 20;
/// The pipeline's attempts are shorter by far; these hold where nobody waits any more.
const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(30);

/// Where machines in Azure ask for their own identity, and the variable that names another place.
const IMDS: &str = "http://169.254.169.254/";
const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";

/// What the operator set up for all connections to Azure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installation {
    /// Addresses of Key Vaults beside those of Azure's clouds, such as an emulator's.
    pub vaults: Vec<String>,
    /// Addresses of Managed HSMs beside those of Azure's clouds.
    pub managed_hsms: Vec<String>,
    /// The authority that gives out tokens for these, instead of the public cloud's.
    pub authority: Option<String>,
    /// The operator's application, which customers admit in their directories.
    pub application: Option<Application>,
}

/// An application in many directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its id, a UUID.
    pub client_id: String,
    /// A file with its secret; read whenever a token is asked for with it anew.
    pub secret_file: PathBuf,
}

impl Installation {
    /// The addresses of its own vaults.
    pub(crate) fn vaults(&self) -> impl Iterator<Item = (Service, &str)> {
        let vaults = self.vaults.iter().map(|address| (Service::KeyVault, address.as_str()));
        vaults.chain(self.managed_hsms.iter().map(|address| (Service::ManagedHsm, address.as_str())))
    }
}

/// Makes connections that go out under one egress policy.
pub struct AzureFactory {
    installation: Installation,
    egress: Egress,
}

/// What a connection is made of beside its secrets.
struct Kept {
    settings: Settings,
    vault: Vault,
}

fn unusable() -> Error {
    fault(ErrorKind::Misconfigured, "the kept settings cannot be used")
}

impl AzureFactory {
    /// With what the operator set up, under this policy.
    pub fn new(installation: Installation, egress: Egress) -> Self {
        Self { installation, egress }
    }

    fn kept(&self, settings: &str) -> Result<Kept, Error> {
        let settings: Settings = serde_json::from_str(settings).map_err(|_| unusable())?;
        // The operator's policy or list may have changed since the settings were taken.
        let vault = Vault::parse(&settings.vault, &self.installation, &self.egress).map_err(|_| {
            fault(ErrorKind::Misconfigured, "the kept address is not taken any more")
                .advice("The connection's vault is not one that the operator's configuration allows any more.")
        })?;
        Ok(Kept { settings, vault })
    }

    /// The address of whoever gives out tokens for a vault, with a closing slash.
    fn authority(&self, vault: &Vault) -> String {
        match &self.installation.authority {
            Some(own) if vault.own => format!("{}/", own.trim_end_matches('/')),
            Some(_) | None => vault.cloud.authority().to_owned(),
        }
    }

    /// The provider of kept settings. Reaches nothing yet.
    ///
    /// # Errors
    /// `Misconfigured` when the settings or secrets cannot be used.
    pub fn provider(&self, parts: ConnectionParts<'_>) -> Result<AzureProvider, Error> {
        let Kept { settings, vault } = self.kept(parts.settings)?;
        let authorities = match &settings.ca {
            Some(pem) => Authorities::from_pem(pem).ok_or_else(unusable)?,
            None => Authorities::System,
        };
        let refused = |error| fault(ErrorKind::Misconfigured, "a kept address is not taken any more").source(error);
        let proxy = settings.proxy.as_deref().map(|address| self.egress.proxy(address)).transpose();
        let options = Options {
            authorities,
            client_certificate: None,
            proxy: proxy.map_err(refused)?,
            connect_timeout: CONNECT,
            timeout: TOTAL,
            max_response: MAX_RESPONSE,
        };
        let made = |egress: &Egress, destination: Destination, options: Options| -> Result<Client, Error> {
            let client = egress.client(destination, options);
            client.map_err(|error| fault(ErrorKind::Misconfigured, "no client can be made").source(error))
        };
        let authority = self.authority(&vault);
        let login = match &settings.auth {
            Auth::ManagedIdentity { .. } => {
                let (egress, destination) = machine()?;
                let direct = Options {
                    proxy: None,
                    ..options.clone()
                };
                made(&egress, destination, direct)?
            }
            Auth::Static {}
            | Auth::ClientSecret { .. }
            | Auth::ClientCertificate { .. }
            | Auth::WorkloadIdentity { .. }
            | Auth::Application { .. } => {
                let destination = self.egress.destination(&authority).map_err(refused)?;
                made(&self.egress, destination, options.clone())?
            }
        };
        let resource = format!("https://{}", vault.cloud.suffix(vault.service));
        let expected = Expected {
            resource: resource.clone(),
            authorities: std::iter::once(authority.clone())
                .chain(vault.cloud.aliases().iter().map(|alias| (*alias).to_owned()))
                .collect(),
            directory: settings.auth.directory().map(str::to_owned),
        };
        let login = Login {
            transport: Transport::new(login, None),
            authority,
            scope: format!("{resource}/.default"),
        };
        let session = Session::new(self.source(&settings.auth, parts.secrets)?, login);
        let door = Door {
            expected,
            session: Arc::clone(&session),
        };
        let transport = Transport::new(made(&self.egress, vault.destination.clone(), options)?, Some(door));
        let client = client(vault.base(), session, transport).map_err(|_| unusable())?;
        Ok(AzureProvider {
            client,
            aes: settings.aes_algorithm,
            hsm: settings.hsm,
            shared: settings.auth.shared(),
            identity: identity(&settings.auth, self.installation.application.as_ref()),
            vault,
        })
    }

    fn source(&self, auth: &Auth, secrets: Vec<(String, Secret)>) -> Result<Source, Error> {
        let mut secrets = secrets;
        let mut secret = |wanted: &str| {
            take_secret(&mut secrets, wanted).ok_or_else(|| fault(ErrorKind::Misconfigured, "a secret of the connection is missing"))
        };
        Ok(match auth.clone() {
            Auth::Static {} => Source::Static(secret(TOKEN)?),
            Auth::ClientSecret { directory, client_id } => Source::ClientSecret {
                directory,
                client_id,
                secret: secret(SECRET)?,
            },
            Auth::ClientCertificate { directory, client_id } => Source::Certificate {
                directory,
                client_id,
                certificate: secret(CERTIFICATE)?,
                key: secret(KEY)?,
            },
            Auth::WorkloadIdentity {
                directory,
                client_id,
                token_file: Some(file),
            } => Source::TokenFile {
                directory,
                client_id,
                file: file.into(),
            },
            Auth::WorkloadIdentity {
                directory,
                client_id,
                token_file: None,
            } => Source::Federated {
                directory,
                client_id,
                token: secret(TOKEN)?,
            },
            Auth::Application { directory } => {
                let application = self.installation.application.clone().ok_or_else(|| {
                    fault(ErrorKind::Misconfigured, "no application")
                        .advice("The operator has set up no application for customers' directories any more (providers.azure.application).")
                })?;
                Source::Application {
                    directory,
                    client_id: application.client_id,
                    secret_file: application.secret_file,
                }
            }
            Auth::ManagedIdentity { client_id } => Source::ManagedIdentity { client_id },
        })
    }
}

/// The way to where a machine in Azure asks for its identity: a service on this very machine or
/// host, which no tenant's address may lead to. Only the operator's connections have it.
fn machine() -> Result<(Egress, Destination), Error> {
    let ranges = [
        Ipv4Net::new_assert([169, 254, 169, 254].into(), 32),
        Ipv4Net::new_assert([127, 0, 0, 0].into(), 8),
    ];
    let egress = Egress::new(EgressPolicy {
        allow: ranges.into_iter().map(IpNet::from).collect(),
        allow_plain_http: true,
    });
    // The variable of App Service and Container Apps, which the SDK follows too.
    let address = std::env::var(IDENTITY_ENDPOINT).unwrap_or_else(|_| IMDS.to_owned());
    let destination = egress.destination(&address).map_err(|error| {
        fault(ErrorKind::Misconfigured, "the machine's identity endpoint cannot be used")
            .advice("The variable IDENTITY_ENDPOINT of the gateway's environment leads elsewhere than to this machine.")
            .source(error)
    })?;
    Ok((egress, destination))
}

/// Who calls, for people.
fn identity(auth: &Auth, application: Option<&Application>) -> String {
    match auth {
        Auth::Static {} => "whoever the given token is for".to_owned(),
        Auth::ClientSecret { directory, client_id }
        | Auth::ClientCertificate { directory, client_id }
        | Auth::WorkloadIdentity { directory, client_id, .. } => format!("application {client_id} of directory {directory}"),
        Auth::Application { directory } => {
            let client_id = application.map_or("of the operator", |application| application.client_id.as_str());
            format!("application {client_id} in directory {directory}")
        }
        Auth::ManagedIdentity { client_id } => format!("the managed identity {}", client_id.as_deref().unwrap_or("of the machine")),
    }
}

#[async_trait]
impl Factory for AzureFactory {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Azure
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(Service::ManagedHsm, Symmetric::default())
    }

    fn parse(&self, settings: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        settings::parse(settings, origin, &self.installation, &self.egress)
    }

    fn replace_secrets(&self, public: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        settings::replace(public, given)
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts)?))
    }

    fn offline_decrypt(&self, settings: &str, _: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        let Ok(Kept { vault, .. }) = self.kept(settings) else {
            return Vec::new();
        };
        let resource = format!("https://{}", vault.cloud.suffix(vault.service));
        let authority = (vault.own || vault.cloud != Cloud::Public).then(|| self.authority(&vault));
        offline_decrypt(&vault, authority.as_deref(), &resource, wrapped, context)
    }
}
