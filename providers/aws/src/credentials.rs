//! Where a connection's credentials come from: an access key, a profile, a web identity, the machine's
//! own, or a role that one of these assumes. The SDK's providers, each made from one connection's
//! settings alone.

use std::path::Path;
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
use claviger_provider::kit::secret_file;
use claviger_provider::{Error, ErrorKind, Secret};

use crate::auth::{Auth, Base, access_key};
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

/// A role, and the identity that assumes it.
pub(crate) struct Role {
    pub(crate) role_arn: String,
    pub(crate) external_id: String,
    base: SharedCredentialsProvider,
    access: LoginAccess,
}

impl Role {
    /// Assumes the role without the external id, which STS should deny.
    ///
    /// # Errors
    /// Why it did not work; a denied right is what is hoped for.
    pub(crate) async fn assume_without_external_id(&self) -> Result<(), CallError> {
        let assumed = assume(self.role_arn.clone(), None, self.base.clone(), &self.access).await;
        let credentials = assumed.provide_credentials().await;
        credentials.map(drop).map_err(|error| of_credentials(&error))
    }
}

/// The provider of a connection's credentials, and the role where it assumes one. `secret` is the
/// connection's access key, if it has one. This sends no request.
///
/// # Errors
/// `Misconfigured` for an access key that is missing.
pub(crate) async fn provider(
    auth: Auth,
    secret: Option<Secret>,
    external_id: &str,
    access: LoginAccess,
) -> Result<(SharedCredentialsProvider, Option<Role>), Error> {
    match auth {
        Auth::Plain(base) => Ok((of_base(base, secret, &access).await?, None)),
        Auth::AssumeRole { role_arn, base } => {
            let base = of_base(base, secret, &access).await?;
            let external_id = external_id.to_owned();
            let assumed = assume(role_arn.clone(), Some(external_id.clone()), base.clone(), &access).await;
            let role = Role {
                role_arn,
                external_id,
                base,
                access,
            };
            Ok((SharedCredentialsProvider::new(assumed), Some(role)))
        }
    }
}

async fn of_base(base: Base, secret: Option<Secret>, access: &LoginAccess) -> Result<SharedCredentialsProvider, Error> {
    Ok(match base {
        Base::Static {} => {
            let key = secret.and_then(|secret| access_key(&secret));
            SharedCredentialsProvider::new(key.ok_or_else(|| fault(ErrorKind::Misconfigured, "the connection's access key is missing"))?)
        }
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
