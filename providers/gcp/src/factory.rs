//! Creates connections to Cloud KMS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use claviger_provider::egress::{self, Authorities, Destination, Egress, EgressPolicy, Options};
use claviger_provider::kit::http::CONNECT_TIMEOUT;
use claviger_provider::kit::secrets::ConnectionSecrets;
use claviger_provider::{
    BoundContext, Call, Capabilities, ClaimSpan, ConnectionParts, Error, ErrorKind, Factory, KeySpec, ParsedSettings, ProviderKind,
    PublicKeys, Secret, SettingsError, SettingsOrigin, SeverSwitch, Wrapped,
};

use crate::auth::{Auth, Base};
use crate::client::{Client, KmsApi};
use crate::credentials::{CLOUD_SCOPE, Identity, Impersonation, KMS_SCOPE};
use crate::errors::fault;
use crate::keys::unproven;
use crate::look_ups::{NewestVersions, VersionStates};
use crate::names::KeyRing;
use crate::offline_decrypt::offline_decrypt;
use crate::provider::{GcpProvider, capabilities};
use crate::session::{Session, TokenSource};
use crate::settings::{self, Settings};

/// Google's Security Token Service.
const STS: &str = "https://sts.googleapis.com/";
/// Google's IAM Service Account Credentials API.
const IAM: &str = "https://iamcredentials.googleapis.com/";
/// The timeout of a request to a token service.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest response of a token service, in bytes.
const MAX_RESPONSE: usize = 64 * 1024;

/// The operator's endpoints instead of Google's own: those of a private network, or of an
/// emulator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Cloud KMS.
    pub kms: Option<String>,
    /// The Security Token Service.
    pub sts: Option<String>,
    /// The IAM Service Account Credentials API.
    pub iam: Option<String>,
}

/// Creates connections.
pub struct GcpFactory {
    endpoints: Endpoints,
    egress: Egress,
    patience: Duration,
}

impl GcpFactory {
    /// With the operator's endpoints. `attempt` is the timeout of one attempt of the pipeline; for
    /// two thirds of it, the provider waits for the material of a new version.
    pub fn new(endpoints: Endpoints, attempt: Duration) -> Self {
        Self {
            endpoints,
            patience: attempt * 2 / 3,
            // Tenants name no hosts: all are Google's or the operator's.
            egress: Egress::new(EgressPolicy::everywhere()),
        }
    }

    /// Creates the provider of a connection from its stored settings and secrets. This sends no request.
    ///
    /// # Errors
    /// `Misconfigured` when the stored settings or secrets cannot be used.
    pub async fn provider(&self, parts: ConnectionParts<'_>) -> Result<GcpProvider, Error> {
        let switch = parts.switch.clone();
        let unusable = || fault(ErrorKind::Misconfigured, "the stored settings cannot be used");
        let settings: Settings = serde_json::from_str(parts.settings).map_err(|_| unusable())?;
        let ring = KeyRing::parse(&settings.key_ring).map_err(|_| unusable())?;
        let background = parts.background_trace();
        let sts = self.endpoint(&settings.sts_endpoint, &self.endpoints.sts, STS);
        let (identity, impersonation) = match &settings.auth {
            Auth::Plain(plain) => (self.identity(plain, KMS_SCOPE, &sts, &switch)?, None),
            Auth::Impersonate { service_account, base } => {
                let iam = self.endpoint(&settings.iam_endpoint, &self.endpoints.iam, IAM);
                let impersonation = Impersonation {
                    account: service_account.clone(),
                    iam: self.token_client(&iam, &switch)?,
                };
                (self.identity(base, CLOUD_SCOPE, &sts, &switch)?, Some(impersonation))
            }
        };
        let secrets = ConnectionSecrets::new(parts.secrets, parts.files);
        let source = TokenSource::new(identity, secrets, impersonation, background);
        let source = source.map_err(|why| fault(ErrorKind::Misconfigured, why))?;
        let session = Session::new(source, parts.login, switch.clone());
        let endpoint = settings.endpoint.as_ref().or(self.endpoints.kms.as_ref());
        let api = KmsApi::new(endpoint.map(String::as_str), session, switch).await;
        Ok(GcpProvider(Client {
            api: api.map_err(|error| {
                let error = error.into_error("create Google's client");
                Error {
                    kind: ErrorKind::Misconfigured,
                    ..error
                }
            })?,
            ring,
            level: settings.protection_level.google(),
            random: settings.hsm_random,
            public_keys: PublicKeys::default(),
            version_states: VersionStates::of_versions(),
            newest_versions: NewestVersions::of_keys(),
            patience: self.patience,
        }))
    }

    fn endpoint(&self, of_connection: &Option<String>, of_installation: &Option<String>, default: &str) -> String {
        let endpoint = of_connection.clone().or_else(|| of_installation.clone());
        endpoint.unwrap_or_else(|| default.to_owned())
    }

    /// The HTTP client of a token service.
    fn token_client(&self, address: &str, switch: &SeverSwitch) -> Result<egress::Client, Error> {
        let unusable = |why: &'static str| fault(ErrorKind::Misconfigured, why);
        let destination = Destination::of_operator(address).map_err(|_| unusable("the URL of an endpoint"))?;
        let options = Options {
            provider: ProviderKind::Gcp,
            authorities: Authorities::System,
            client_certificate: None,
            proxy: None,
            connect_timeout: CONNECT_TIMEOUT,
            timeout: TIMEOUT,
            max_response: MAX_RESPONSE,
            switch: switch.clone(),
        };
        let client = self.egress.client(destination, options);
        client.map_err(|error| unusable("the HTTP client of a token service").source(error))
    }

    fn identity(&self, base: &Base, scope: &'static str, sts: &str, switch: &SeverSwitch) -> Result<Identity, Error> {
        Ok(match base {
            Base::Token {} => Identity::Token,
            Base::ServiceAccountKey { .. } => Identity::Key { scope },
            Base::WorkloadIdentity { audience, token_file } => Identity::Workload {
                audience: audience.clone(),
                file: token_file.as_ref().map(PathBuf::from),
                sts: self.token_client(sts, switch)?,
            },
            Base::Ambient {} => Identity::Ambient { scope },
        })
    }
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

    /// Names of keys are unique everywhere, and no tenant names a CA, a proxy or an endpoint.
    fn network_settings(&self) -> &'static [&'static str] {
        &["endpoint", "iam_endpoint", "sts_endpoint"]
    }

    fn change_network(&self, _: &str, given: &str) -> Result<String, Vec<SettingsError>> {
        Err(settings::no_network(given))
    }

    fn claims(&self, settings: &str, _: SettingsOrigin) -> ClaimSpan {
        match serde_json::from_str(settings) {
            Ok(Settings { auth, .. }) if auth.operator_lends() => ClaimSpan::INSTALLATION,
            Ok(_) | Err(_) => ClaimSpan::Tenant,
        }
    }

    fn unproven(&self, _: &str) -> Error {
        unproven()
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts).await?))
    }

    fn offline_decrypt(&self, settings: &str, _: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        offline_decrypt(settings, self.endpoints.kms.as_deref(), wrapped, context)
    }
}
