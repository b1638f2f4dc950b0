//! Creates connections to Key Vault and Managed HSM.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::egress::{self, Destination, Egress, EgressPolicy, Options};
use claviger_provider::kit::http::ConnectionHttp;
use claviger_provider::kit::secrets::ConnectionSecrets;
use claviger_provider::kit::session::identity::{Identities, LoginIdentity};
use claviger_provider::{
    BoundContext, Call, Capabilities, ClaimSpan, ConnectionParts, Error, ErrorKind, Factory, KeySpec, ParsedSettings, ProviderKind, Secret,
    SettingsError, SettingsOrigin, Wrapped,
};
use ipnet::{IpNet, Ipv4Net};

use crate::auth::Auth;
use crate::challenge::ChallengeGuard;
use crate::client::{Client, KeyApi};
use crate::cloud::{Cloud, Service};
use crate::credentials::{Credentials, Identity, Origin, TokenEndpoint};
use crate::errors::{Refusal, fault};
use crate::http::TokenTransport;
use crate::installation::{Application, Installation};
use crate::lifecycle::unproven;
use crate::names::Vault;
use crate::offline_decrypt::offline_decrypt;
use crate::provider::{AzureProvider, capabilities};
use crate::session::TokenSource;
use crate::settings::{self, Settings};
use crate::transport::VaultTransport;
use crate::wrap_algorithm::AesAlgorithm;

/// The identity endpoint of Azure's virtual machines.
const IMDS: &str = "http://169.254.169.254/";
/// The variable with the identity endpoint of App Service and Container Apps.
const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";

/// Creates connections under one egress policy.
pub struct AzureFactory {
    installation: Installation,
    egress: Egress,
    identities: Identities<Refusal>,
}

/// The stored settings of a connection.
struct Stored {
    settings: Settings,
    vault: Vault,
}

fn unusable() -> Error {
    fault(ErrorKind::Misconfigured, "the stored settings cannot be used")
}

fn http_client(egress: &Egress, destination: Destination, options: Options) -> Result<egress::Client, Error> {
    let client = egress.client(destination, options);
    client.map_err(|error| fault(ErrorKind::Misconfigured, "the HTTP client cannot be created").source(error))
}

impl AzureFactory {
    /// Creates a factory with the operator's configuration and egress policy.
    pub fn new(installation: Installation, egress: Egress) -> Self {
        Self {
            installation,
            egress,
            identities: Identities::default(),
        }
    }

    fn stored(&self, settings: &str) -> Result<Stored, Error> {
        let settings: Settings = serde_json::from_str(settings).map_err(|_| unusable())?;
        // The operator may have changed the policy or the list of vaults since.
        let vault = Vault::parse(&settings.vault, &self.installation, &self.egress).map_err(|_| {
            fault(ErrorKind::Misconfigured, "the stored address is no longer permitted")
                .advice("The operator's configuration no longer permits the connection's vault.")
        })?;
        Ok(Stored { settings, vault })
    }

    /// The authority of a vault, with a trailing slash.
    fn authority(&self, vault: &Vault) -> String {
        match &self.installation.authority {
            Some(own) if vault.own => format!("{}/", own.trim_end_matches('/')),
            Some(_) | None => vault.cloud.authority().to_owned(),
        }
    }

    /// The resource that the tokens for a vault are issued for, without a trailing slash.
    fn resource(&self, vault: &Vault) -> String {
        match self.installation.resource(vault.service) {
            Some(own) if vault.own => own.to_owned(),
            Some(_) | None => format!("https://{}", vault.cloud.suffix(vault.service)),
        }
    }

    /// Creates the provider of a connection from its stored settings and secrets. This sends no request.
    ///
    /// # Errors
    /// `Misconfigured` when the stored settings or secrets cannot be used.
    pub fn provider(&self, parts: ConnectionParts<'_>) -> Result<AzureProvider, Error> {
        let Stored { settings, vault } = self.stored(parts.settings)?;
        let http = ConnectionHttp {
            ca: settings.ca.as_deref(),
            proxy: settings.proxy.as_deref(),
            client_certificate: None,
            switch: parts.switch.clone(),
        };
        let options = http.options(&self.egress, ProviderKind::Azure)?;
        let authority = self.authority(&vault);
        let resource = self.resource(&vault);
        let background = parts.background_trace();
        if let (Auth::Application { .. }, None) = (&settings.auth, &self.installation.application) {
            return Err(fault(ErrorKind::Misconfigured, "no application").advice(
                "The operator's configuration no longer has an application for customers' directories (providers.azure.application).",
            ));
        }
        let identity = Identity {
            auth: settings.auth.clone(),
            application: self.installation.application.clone(),
        };
        let endpoint = match identity
            .origin(&parts.secrets)
            .map_err(|why| fault(ErrorKind::Misconfigured, why))?
        {
            Origin::Token(_) => None,
            Origin::Authority(credentials) => Some(TokenEndpoint {
                transport: TokenTransport::new(self.token_client(&credentials, &authority, options.clone())?, background),
                authority: authority.clone(),
                scope: format!("{resource}/.default"),
            }),
        };
        let membership = settings.auth.application().map(|(directory, client_id)| {
            let login = LoginIdentity {
                service: [authority.as_str(), resource.as_str(), directory].join("\n"),
                identity: client_id.to_owned(),
                route: String::new(),
            };
            self.identities.join(login, None, &parts.login)
        });
        let source = TokenSource::new(identity, ConnectionSecrets::new(parts.secrets, parts.files), endpoint, membership);
        let guard = ChallengeGuard {
            resource,
            authorities: std::iter::once(authority)
                .chain(vault.cloud.aliases().iter().map(|alias| (*alias).to_owned()))
                .collect(),
            directory: settings.auth.directory().map(str::to_owned),
        };
        let client = http_client(&self.egress, vault.destination.clone(), options)?;
        let transport = VaultTransport::new(client, source.session(parts.login, parts.switch), guard);
        Ok(AzureProvider(Client {
            api: KeyApi::new(vault.base(), transport).map_err(|_| unusable())?,
            aes: settings.aes_algorithm,
            hsm: settings.hsm,
            shared: settings.auth.shared(),
            identity: described(&settings.auth, self.installation.application.as_ref()),
            vault,
        }))
    }

    /// The HTTP client of the endpoint that issues tokens for a credential.
    fn token_client(&self, credentials: &Credentials, authority: &str, options: Options) -> Result<egress::Client, Error> {
        match credentials {
            Credentials::ManagedIdentity { .. } => {
                let (egress, destination) = identity_endpoint()?;
                http_client(&egress, destination, Options { proxy: None, ..options })
            }
            Credentials::ClientSecret { .. }
            | Credentials::Certificate { .. }
            | Credentials::Federated { .. }
            | Credentials::TokenFile { .. }
            | Credentials::Application { .. } => {
                let destination = self.egress.destination(authority);
                let destination =
                    destination.map_err(|error| fault(ErrorKind::Misconfigured, "the authority is not permitted").source(error))?;
                http_client(&self.egress, destination, options)
            }
        }
    }
}

/// The identity endpoint of the machine: a service on the machine itself or its host, which no
/// tenant's connection may reach. For the operator's connections only.
fn identity_endpoint() -> Result<(Egress, Destination), Error> {
    let ranges = [
        Ipv4Net::new_assert([169, 254, 169, 254].into(), 32),
        Ipv4Net::new_assert([127, 0, 0, 0].into(), 8),
    ];
    let egress = Egress::new(EgressPolicy {
        allow: ranges.into_iter().map(IpNet::from).collect(),
        allow_plain_http: true,
    });
    // The SDK uses the same variable.
    let address = std::env::var(IDENTITY_ENDPOINT).unwrap_or_else(|_| IMDS.to_owned());
    let destination = egress.destination(&address).map_err(|error| {
        fault(ErrorKind::Misconfigured, "the machine's identity endpoint cannot be used")
            .advice("The variable IDENTITY_ENDPOINT of the gateway's environment is not an address of this machine.")
            .source(error)
    })?;
    Ok((egress, destination))
}

/// A description of the identity.
fn described(auth: &Auth, application: Option<&Application>) -> String {
    match auth {
        Auth::Static {} => "the given token's identity".to_owned(),
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
        capabilities(Service::ManagedHsm, AesAlgorithm::default())
    }

    fn parse(&self, settings: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        settings::parse(settings, origin, &self.installation, &self.egress)
    }

    fn replace_secrets(&self, public: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        settings::replace(public, given)
    }

    fn network_settings(&self) -> &'static [&'static str] {
        &["ca", "proxy"]
    }

    fn change_network(&self, public: &str, given: &str) -> Result<String, Vec<SettingsError>> {
        settings::change_network(public, given, &self.egress)
    }

    fn claims(&self, settings: &str, origin: SettingsOrigin) -> ClaimSpan {
        serde_json::from_str(settings).map_or(ClaimSpan::Tenant, |settings: Settings| settings.claims(origin))
    }

    fn unproven(&self, _: &str) -> Error {
        unproven()
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts)?))
    }

    fn offline_decrypt(&self, settings: &str, _: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        let Ok(Stored { vault, .. }) = self.stored(settings) else {
            return Vec::new();
        };
        let resource = self.resource(&vault);
        let authority = (vault.own || vault.cloud != Cloud::Public).then(|| self.authority(&vault));
        offline_decrypt(&vault, authority.as_deref(), &resource, wrapped, context)
    }
}
