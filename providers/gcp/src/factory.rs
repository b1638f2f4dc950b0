//! Connections to Cloud KMS.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::egress::{Authorities, Client, Destination, Egress, EgressPolicy, Options};
use claviger_provider::{
    BoundContext, Call, Capabilities, ConnectionParts, Error, ErrorKind, Factory, KeySpec, ParsedSettings, ProviderKind, PublicKeys,
    Secret, SettingsError, SettingsOrigin, UpstreamMessage, Wrapped, innermost,
};
use google_cloud_auth::credentials::service_account::{AccessSpecifier, Builder as KeyBuilder};
use google_cloud_auth::credentials::{AccessTokenCredentials, Builder as AmbientBuilder};

use crate::client::Kms;
use crate::errors::fault;
use crate::identity::{self, CLOUD_SCOPE, Impersonated, KMS_SCOPE, Session, Subject};
use crate::login::{Auth, Base, SECRET};
use crate::names::KeyRing;
use crate::offline_decrypt::offline_decrypt;
use crate::provider::{GcpProvider, capabilities};
use crate::settings::{self, Settings};

/// Where tokens are exchanged, and made for service accounts.
const STS: &str = "https://sts.googleapis.com/";
const IAM: &str = "https://iamcredentials.googleapis.com/";
/// The longest call of those, and the longest until there is a connection.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(5);
/// The longest answer of those, in bytes.
const MAX_RESPONSE: usize = 64 * 1024;

/// Endpoints of the installation, instead of Google's own: a private network's, or an
/// emulator's. The operator's configuration alone names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For Cloud KMS.
    pub kms: Option<String>,
    /// For the exchange of tokens.
    pub sts: Option<String>,
    /// For the tokens of service accounts.
    pub iam: Option<String>,
}

/// Makes connections.
pub struct GcpFactory {
    endpoints: Endpoints,
    egress: Egress,
    patience: Duration,
}

impl GcpFactory {
    /// With the installation's endpoints, if it has any. `attempt` is how long one attempt may
    /// take: the material of a new version is waited for during two thirds of it.
    pub fn new(endpoints: Endpoints, attempt: Duration) -> Self {
        Self {
            endpoints,
            patience: attempt * 2 / 3,
            // No tenant names a host here: they are Google's, or the operator's.
            egress: Egress::new(EgressPolicy::everywhere()),
        }
    }

    /// The provider of kept settings. Reaches nothing yet.
    ///
    /// # Errors
    /// `Misconfigured` when the settings or secrets cannot be used.
    pub async fn provider(&self, parts: ConnectionParts<'_>) -> Result<GcpProvider, Error> {
        let unusable = || fault(ErrorKind::Misconfigured, "the kept settings cannot be used");
        let settings: Settings = serde_json::from_str(parts.settings).map_err(|_| unusable())?;
        let ring = KeyRing::parse(&settings.key_ring).map_err(|_| unusable())?;
        let secret = parts.secrets.into_iter().find(|(name, _)| name == SECRET).map(|(_, secret)| secret);
        let sts = self.endpoint(&settings.sts_endpoint, &self.endpoints.sts, STS);
        let session = match &settings.auth {
            Auth::Plain(plain) => Session::new(self.base(plain, secret, KMS_SCOPE, &sts)?, None),
            Auth::Impersonate { service_account, base } => {
                let iam = self.endpoint(&settings.iam_endpoint, &self.endpoints.iam, IAM);
                let impersonated = Impersonated {
                    account: service_account.clone(),
                    iam: self.client(&iam)?,
                };
                Session::new(self.base(base, secret, CLOUD_SCOPE, &sts)?, Some(impersonated))
            }
        };
        let endpoint = settings.endpoint.as_ref().or(self.endpoints.kms.as_ref());
        let kms = Kms::new(endpoint.map(String::as_str), session).await;
        Ok(GcpProvider {
            kms: kms.map_err(|failed| {
                let error = failed.into_error("make Google's client");
                Error {
                    kind: ErrorKind::Misconfigured,
                    ..error
                }
            })?,
            ring,
            level: settings.protection_level.of_google(),
            random: settings.hsm_random,
            public_keys: PublicKeys::default(),
            patience: self.patience,
        })
    }

    fn endpoint(&self, own: &Option<String>, all: &Option<String>, googles: &str) -> String {
        own.clone().or_else(|| all.clone()).unwrap_or_else(|| googles.to_owned())
    }

    /// A client of one of the services of tokens.
    fn client(&self, address: &str) -> Result<Client, Error> {
        let unusable = |why: &'static str| fault(ErrorKind::Misconfigured, why);
        let destination = Destination::of_operator(address).map_err(|_| unusable("an endpoint's address"))?;
        let options = Options {
            authorities: Authorities::System,
            client_certificate: None,
            proxy: None,
            connect_timeout: CONNECT,
            timeout: TIMEOUT,
            max_response: MAX_RESPONSE,
        };
        let client = self.egress.client(destination, options);
        client.map_err(|error| unusable("a client of a service of tokens").source(error))
    }

    fn base(&self, base: &Base, secret: Option<Secret>, scope: &str, sts: &str) -> Result<identity::Base, Error> {
        let missing = || fault(ErrorKind::Misconfigured, "the connection's secret is missing");
        Ok(match base {
            Base::Token {} => identity::Base::Token(secret.ok_or_else(missing)?),
            Base::ServiceAccountKey { .. } => identity::Base::Library(signed_by_key(&secret.ok_or_else(missing)?, scope)?),
            Base::WorkloadIdentity { audience, token_file } => identity::Base::Workload {
                audience: audience.clone(),
                subject: match token_file {
                    Some(path) => Subject::File(path.clone()),
                    None => Subject::Given(secret.ok_or_else(missing)?),
                },
                sts: self.client(sts)?,
            },
            Base::Ambient {} => identity::Base::Library(ambient(scope)?),
        })
    }
}

/// Tokens that a service account's key signs: nothing is asked of anybody for them.
fn signed_by_key(secret: &Secret, scope: &str) -> Result<AccessTokenCredentials, Error> {
    let unusable = || fault(ErrorKind::Misconfigured, "the service account's key cannot be used");
    let file = serde_json::from_slice(secret.expose()).map_err(|_| unusable())?;
    let scopes = AccessSpecifier::from_scopes([scope]);
    let credentials = KeyBuilder::new(file).with_access_specifier(scopes).build_access_token_credentials();
    credentials.map_err(|_| unusable())
}

/// What this machine has: a file that a variable names, gcloud's own, the metadata server.
fn ambient(scope: &str) -> Result<AccessTokenCredentials, Error> {
    let credentials = AmbientBuilder::default().with_scopes([scope]).build_access_token_credentials();
    credentials.map_err(|error| {
        fault(ErrorKind::Misconfigured, "the ambient identity cannot be used")
            .advice(
                "The gateway's machine has no credentials of Google's, or ones that cannot be read: see GOOGLE_APPLICATION_CREDENTIALS.",
            )
            .source(UpstreamMessage(innermost(&error)))
    })
}

#[async_trait]
impl Factory for GcpFactory {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Gcp
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(false)
    }

    fn parse(&self, settings: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        settings::parse(settings, origin)
    }

    fn replace_secrets(&self, public: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        settings::replace(public, given)
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts).await?))
    }

    fn offline_decrypt(&self, settings: &str, _: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        offline_decrypt(settings, self.endpoints.kms.as_deref(), wrapped, context)
    }
}
