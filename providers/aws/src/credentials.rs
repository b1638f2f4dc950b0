//! Where a connection's credentials come from: an access key, a profile, a web identity, the machine's
//! own, or a role that one of these assumes. The SDK's providers, each made from one connection's
//! settings alone.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region as SdkRegion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::Client as Sts;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError};
use claviger_provider::kit::settings::Secrets;
use claviger_provider::kit::{secret_file, secrets};
use claviger_provider::{Error, ErrorKind};

use crate::auth::{ACCESS_KEY, Auth, Base, access_key};
use crate::errors::{CallError, fault, of_credentials};

/// How the calls that get credentials reach AWS.
#[derive(Clone)]
pub(crate) struct LoginAccess {
    /// For STS: its endpoint, region, timeouts and HTTP client.
    pub(crate) sts: SdkConfig,
    /// For the operator's own identities, because profiles may name other hosts, and the machine's
    /// metadata service is not behind a connection's proxy.
    pub(crate) operator_owned: SharedHttpClient,
    /// Shown in the account's CloudTrail.
    pub(crate) session_name: String,
}

impl LoginAccess {
    fn provider_config(&self) -> ProviderConfig {
        ProviderConfig::without_region()
            .with_region(self.sts.region().cloned())
            .with_http_client(self.operator_owned.clone())
    }
}

/// The identity of a connection.
pub(crate) struct Identity {
    pub(crate) auth: Auth,
    secrets: ConnectionSecrets,
    external_id: String,
    access: LoginAccess,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Sends no request.
    ///
    /// # Errors
    /// `Misconfigured` for an access key that is missing.
    pub(crate) fn new(auth: Auth, secrets: ConnectionSecrets, external_id: &str, access: LoginAccess) -> Result<Arc<Self>, Error> {
        if let Base::Static {} = auth.base()
            && static_key(&secrets.latest()).is_none()
        {
            return Err(fault(ErrorKind::Misconfigured, "the connection's access key is missing"));
        }
        Ok(Arc::new(Self {
            auth,
            secrets,
            external_id: external_id.to_owned(),
            access,
        }))
    }

    /// The files that a login reads.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = self.secrets.paths();
        match self.auth.base() {
            Base::Static {} => {}
            Base::WebIdentity { token_file, .. } => files.push(token_file.into()),
            Base::Profile { .. } | Base::Ambient {} => files.extend(machines_files()),
        }
        files
    }

    /// New credentials, with the secrets and files as they are now: the SDK's providers keep what they have read,
    /// so each login has its own.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) async fn credentials(&self) -> Result<Credentials, CallError> {
        let base = self.base().await?;
        let provided = match &self.auth {
            Auth::Plain(_) => base.provide_credentials().await,
            Auth::AssumeRole { role_arn, .. } => {
                let external_id = Some(self.external_id.clone());
                let assumed = assume(role_arn.clone(), external_id, base, &self.access).await;
                assumed.provide_credentials().await
            }
        };
        provided.map_err(|error| of_credentials(&error))
    }

    async fn base(&self) -> Result<SharedCredentialsProvider, CallError> {
        let secrets = self.secrets.read().await.map_err(|error| CallError::NoSource {
            advice: SecretsError::ADVICE,
            cause: error.to_string(),
        })?;
        of_base(self.auth.base().clone(), &secrets, &self.access).await
    }

    /// The role that it assumes, if it does.
    pub(crate) fn role(self: &Arc<Self>) -> Option<Role> {
        match &self.auth {
            Auth::Plain(_) => None,
            Auth::AssumeRole { role_arn, .. } => Some(Role {
                role_arn: role_arn.clone(),
                external_id: self.external_id.clone(),
                identity: Arc::clone(self),
            }),
        }
    }
}

/// A role, and the identity that assumes it.
pub(crate) struct Role {
    pub(crate) role_arn: String,
    pub(crate) external_id: String,
    identity: Arc<Identity>,
}

impl Role {
    /// Assumes the role without the external id, which STS should deny.
    ///
    /// # Errors
    /// Why it did not work; a denied right is what is hoped for.
    pub(crate) async fn assume_without_external_id(&self) -> Result<(), CallError> {
        let base = self.identity.base().await?;
        let assumed = assume(self.role_arn.clone(), None, base, &self.identity.access).await;
        let credentials = assumed.provide_credentials().await;
        credentials.map(drop).map_err(|error| of_credentials(&error))
    }
}

/// The access key among a connection's secrets.
fn static_key(secrets: &Secrets) -> Option<Credentials> {
    access_key(&secrets::secret(secrets, ACCESS_KEY)?)
}

/// The files of the machine that profiles and its ambient identity come from, where the SDK looks for them.
fn machines_files() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let named = |variable: &str, default: &str| {
        let file = std::env::var_os(variable).map(PathBuf::from);
        file.or_else(|| Some(home.as_ref()?.join(".aws").join(default)))
    };
    let token = std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").map(PathBuf::from);
    let files = [
        named("AWS_CONFIG_FILE", "config"),
        named("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        token,
    ];
    files.into_iter().flatten().collect()
}

async fn of_base(base: Base, secrets: &Secrets, access: &LoginAccess) -> Result<SharedCredentialsProvider, CallError> {
    Ok(match base {
        Base::Static {} => SharedCredentialsProvider::new(static_key(secrets).ok_or_else(|| CallError::NoSource {
            advice: SecretsError::ADVICE,
            cause: "the connection's access key is missing".to_owned(),
        })?),
        Base::Profile { name } => SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder()
                .configure(&access.provider_config())
                .profile_name(name)
                .build(),
        ),
        Base::WebIdentity { role_arn, token_file } => SharedCredentialsProvider::new(WebIdentity {
            sts: Sts::new(&access.sts),
            role_arn,
            token_file,
            session_name: access.session_name.clone(),
        }),
        Base::Ambient {} => SharedCredentialsProvider::new(
            DefaultCredentialsChain::builder()
                .region(access.sts.region().cloned().unwrap_or_else(|| SdkRegion::from_static("us-east-1")))
                .configure(access.provider_config())
                .build()
                .await,
        ),
    })
}

/// A role assumed by these credentials, with the external id or, to test whether it is required,
/// without.
async fn assume(
    role_arn: String,
    external_id: Option<String>,
    base: SharedCredentialsProvider,
    access: &LoginAccess,
) -> AssumeRoleProvider {
    let builder = AssumeRoleProvider::builder(role_arn)
        .configure(&access.sts)
        .session_name(access.session_name.clone());
    let builder = match external_id {
        Some(id) => builder.external_id(id),
        None => builder,
    };
    builder.build_from_provider(base).await
}

/// A role that is assumed with the web identity token in a file. The SDK's own provider of this
/// kind takes no endpoint for STS.
#[derive(Debug)]
struct WebIdentity {
    sts: Sts,
    role_arn: String,
    token_file: String,
    session_name: String,
}

/// The longest token of a web identity, in bytes: STS's own limit.
const MAX_TOKEN: usize = 20_000;

impl WebIdentity {
    async fn assume(&self) -> provider::Result {
        let token = secret_file::read_word(Path::new(&self.token_file), MAX_TOKEN).await;
        let token = token.map_err(|error| CredentialsError::not_loaded(error.to_string()))?;
        let response = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(&self.role_arn)
            .role_session_name(&self.session_name)
            .web_identity_token(String::from_utf8_lossy(token.expose()))
            .send()
            .await
            .map_err(CredentialsError::provider_error)?;
        let session = response
            .credentials()
            .ok_or_else(|| CredentialsError::unhandled("the response of STS has no credentials"))?;
        let end = SystemTime::try_from(*session.expiration()).map_err(CredentialsError::unhandled)?;
        Ok(Credentials::new(
            session.access_key_id(),
            session.secret_access_key(),
            Some(session.session_token().to_owned()),
            Some(end),
            "WebIdentity",
        ))
    }
}

impl ProvideCredentials for WebIdentity {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}
