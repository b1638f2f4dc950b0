//! Connections to AWS KMS.

use std::sync::Arc;

use async_trait::async_trait;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use claviger_provider::egress::Egress;
use claviger_provider::{
    BoundContext, Call, Capabilities, ConnectionId, ConnectionParts, Error, ErrorKind, Factory, KeySpec, ParsedSettings, ProviderKind,
    PublicKeys, Secret, SettingsError, SettingsOrigin, Wrapped,
};

use crate::client::{self, Clients};
use crate::errors::fault;
use crate::identity::{self, Reach, Session, Source, provider};
use crate::names::Region;
use crate::offline_decrypt::offline_decrypt;
use crate::own_way::OwnWay;
use crate::ownership::Proof;
use crate::provider::{AwsProvider, capabilities};
use crate::settings::{self, ACCESS_KEY, Auth, Base, Settings, credentials};

/// Endpoints of the installation, instead of those of each connection's region: a private
/// network's, or an emulator's. The operator's configuration alone names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// For KMS.
    pub kms: Option<String>,
    /// For STS.
    pub sts: Option<String>,
}

/// Makes connections.
pub struct AwsFactory {
    http: SharedHttpClient,
    endpoints: Endpoints,
    /// For the proxies that tenants name: AWS's own hosts are none of theirs.
    egress: Egress,
}

impl AwsFactory {
    /// With the installation's endpoints, if it has any, and the policy that a connection's
    /// proxy is met under.
    pub fn new(endpoints: Endpoints, egress: Egress) -> Self {
        Self {
            http: crate::http::client(),
            endpoints,
            egress,
        }
    }

    /// The provider of kept settings. Reaches nothing yet.
    ///
    /// # Errors
    /// `Misconfigured` when the settings or secrets cannot be used.
    pub async fn provider(&self, parts: ConnectionParts<'_>) -> Result<AwsProvider, Error> {
        let unusable = || fault(ErrorKind::Misconfigured, "the kept settings cannot be used");
        let settings: Settings = serde_json::from_str(parts.settings).map_err(|_| unusable())?;
        let region = Region::parse(&settings.region).ok_or_else(unusable)?;
        let own = |own: &Option<String>, all: &Option<String>| own.clone().or_else(|| all.clone());
        let kms = own(&settings.endpoint, &self.endpoints.kms);
        let sts = own(&settings.sts_endpoint, &self.endpoints.sts);
        let fips = settings.fips;
        // The installation's endpoints may have come later than the settings.
        if fips && (kms.is_some() || sts.is_some()) {
            return Err(fault(ErrorKind::Misconfigured, "FIPS endpoints, and an endpoint of the operator's"));
        }
        let own_way = OwnWay::of(&settings, &self.egress)?;
        // Two clients of a way of its own: each goes to one host.
        let http = || own_way.as_ref().map_or_else(|| self.http.clone(), OwnWay::client);
        let kms = client::base(http(), &region, fips, kms.as_deref());
        let sts = client::base(http(), &region, fips, sts.as_deref());
        let reach = Reach {
            sts: sts.clone(),
            operator_owned: self.http.clone(),
            session_name: session_name(parts.connection),
        };
        let secret = parts
            .secrets
            .into_iter()
            .find(|(name, _)| name == ACCESS_KEY)
            .map(|(_, secret)| secret);
        let proof = if settings.auth.operator_owned() {
            Proof::KeyPolicy
        } else {
            Proof::Credential
        };
        let renewable = settings.auth != Auth::Plain(Base::Static {});
        let (credentials, role) = provider(source(settings.auth, secret, parts.external_id)?, &reach).await;
        let session = Session::new(credentials, renewable);
        Ok(AwsProvider {
            clients: Clients::new(kms, sts, session),
            region,
            proof,
            role,
            public_keys: PublicKeys::default(),
        })
    }
}

/// Shown in the account's own log; at most 64 characters.
fn session_name(connection: ConnectionId) -> String {
    format!("claviger-{connection}")
}

fn source(auth: Auth, secret: Option<Secret>, external_id: &str) -> Result<Source, Error> {
    Ok(match auth {
        Auth::Plain(from) => Source::Plain(base(from, secret)?),
        Auth::AssumeRole { role_arn, base: from } => Source::Role {
            role_arn,
            external_id: external_id.to_owned(),
            base: base(from, secret)?,
        },
    })
}

fn base(base: Base, secret: Option<Secret>) -> Result<identity::Base, Error> {
    Ok(match base {
        Base::Static {} => {
            let key = secret.and_then(|secret| credentials(&secret));
            identity::Base::Static(key.ok_or_else(|| fault(ErrorKind::Misconfigured, "the connection's access key is missing"))?)
        }
        Base::Profile { name } => identity::Base::Profile(name),
        Base::WebIdentity { role_arn, token_file } => identity::Base::WebIdentity { role_arn, token_file },
        Base::Ambient {} => identity::Base::Ambient,
    })
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

    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error> {
        Ok(Arc::new(self.provider(parts).await?))
    }

    fn offline_decrypt(&self, settings: &str, _: KeySpec, wrapped: &Wrapped, context: &BoundContext) -> Vec<String> {
        offline_decrypt(settings, wrapped, context)
    }
}
