//! Connections to AWS KMS.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::egress::Egress;
use claviger_provider::kit::secrets::ConnectionSecrets;
use claviger_provider::{
    BoundContext, Call, Capabilities, ClaimSpan, ConnectionId, ConnectionParts, Error, ErrorKind, Factory, KeySpec, ParsedSettings,
    ProviderKind, Secret, SettingsError, SettingsOrigin, Wrapped,
};

use crate::client::{Kms, base};
use crate::credentials::{Identity, LoginAccess};
use crate::custom_egress::CustomEgress;
use crate::errors::fault;
use crate::http::{Hosts, traced};
use crate::names::Region;
use crate::offline_decrypt::commands;
use crate::ownership::{Proof, unproven};
use crate::provider::{AwsProvider, capabilities};
use crate::session::Session;
use crate::settings::{self, Settings};

/// Endpoints for all connections instead of those of their regions: of a private network, or of an
/// emulator. Only the operator's configuration names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Endpoint of KMS; `None` for the region's own.
    pub kms: Option<String>,
    /// Endpoint of STS; `None` for the region's own.
    pub sts: Option<String>,
}

/// Makes the providers of connections to AWS KMS.
pub struct AwsFactory {
    hosts: Arc<Hosts>,
    endpoints: Endpoints,
    /// For the proxies that tenants name. No tenant names a host of AWS.
    egress: Egress,
}

impl AwsFactory {
    /// With the installation's endpoints, if it has any, and the egress policy for the proxies of
    /// connections.
    pub fn new(endpoints: Endpoints, egress: Egress) -> Self {
        Self {
            hosts: Hosts::shared(),
            endpoints,
            egress,
        }
    }

    /// Creates the provider of a connection from its stored settings and secrets. This sends no request.
    ///
    /// # Errors
    /// `Misconfigured` when the settings or secrets cannot be used.
    pub async fn provider(&self, parts: ConnectionParts<'_>) -> Result<AwsProvider, Error> {
        let unusable = || fault(ErrorKind::Misconfigured, "the stored settings cannot be used");
        let settings: Settings = serde_json::from_str(parts.settings).map_err(|_| unusable())?;
        let region = Region::parse(&settings.region).ok_or_else(unusable)?;
        let endpoint = |own: &Option<String>, all: &Option<String>| own.clone().or_else(|| all.clone());
        let kms_endpoint = endpoint(&settings.endpoint, &self.endpoints.kms);
        let sts_endpoint = endpoint(&settings.sts_endpoint, &self.endpoints.sts);
        // The operator may have set the installation's endpoints after the settings were stored.
        if settings.fips && (kms_endpoint.is_some() || sts_endpoint.is_some()) {
            return Err(fault(ErrorKind::Misconfigured, "FIPS endpoints together with a custom endpoint"));
        }
        let custom_egress = CustomEgress::of(&settings, &self.egress, &parts.switch)?;
        let shared = self.hosts.client(parts.switch.clone());
        // A client of a custom egress sends to one host, so each service gets its own.
        let http = || custom_egress.as_ref().map_or_else(|| shared.clone(), CustomEgress::client);
        let sts = |http| base(http, &region, settings.fips, sts_endpoint.as_deref());
        let access = LoginAccess {
            sts: sts(traced(http(), parts.background_trace())),
            operator_owned: traced(shared.clone(), parts.background_trace()),
            session_name: session_name(parts.connection),
        };
        let proof = Proof::of(&settings);
        let secrets = ConnectionSecrets::new(parts.secrets, parts.files);
        let identity = Identity::new(settings.auth, secrets, parts.external_id, access)?;
        let role = identity.role();
        let kms = base(http(), &region, settings.fips, kms_endpoint.as_deref());
        let sts = sts(http());
        Ok(AwsProvider {
            kms: Kms::new(kms, sts, region, Session::new(identity, parts.login, parts.switch)),
            proof,
            role,
        })
    }
}

/// The role session's name, shown in the account's CloudTrail; at most 64 characters.
fn session_name(connection: ConnectionId) -> String {
    format!("claviger-{connection}")
}

#[async_trait]
impl Factory for AwsFactory {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Aws
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    fn parse(&self, settings: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
        settings::parse(settings, origin, self.endpoints != Endpoints::default(), &self.egress)
    }

    fn replace_secrets(&self, public: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        settings::replace(public, given)
    }

    fn network_settings(&self) -> &'static [&'static str] {
        &["ca", "endpoint", "proxy", "sts_endpoint"]
    }

    fn change_network(&self, public: &str, given: &str) -> Result<String, Vec<SettingsError>> {
        settings::change_network(public, given, &self.egress)
    }

    fn claims(&self, settings: &str, origin: SettingsOrigin) -> ClaimSpan {
        serde_json::from_str(settings).map_or(ClaimSpan::Tenant, |settings: Settings| settings.claims(origin))
    }

    fn unproven(&self, settings: &str) -> Error {
        unproven(serde_json::from_str(settings).map_or(Proof::Credential, |settings| Proof::of(&settings)))
    }

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts).await?))
    }

    fn offline_decrypt(&self, settings: &str, _: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        commands(settings, wrapped, context)
    }
}
