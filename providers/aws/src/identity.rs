//! Whom the calls are signed for, and the session that is kept until it ends or is dropped.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::errors::CallError;

/// A session is replaced this long before it ends: longer than any call takes, and than
/// clocks differ.
const MARGIN: Duration = Duration::from_secs(120);
/// After a renewal that failed while the session still lives, the next one waits; and after
/// a call that a brand-new session was refused too, no refusal leads to another one before.
const PAUSE: Duration = Duration::from_secs(30);

/// Where credentials come from.
pub(crate) enum Source {
    /// From there.
    Plain(Base),
    /// From a role that those from there may assume.
    Role { role_arn: String, external_id: String, base: Base },
}

/// Where the first credentials come from.
pub(crate) enum Base {
    /// An access key, perhaps of a session that somebody else began.
    Static(Credentials),
    /// A profile of the operator's files.
    Profile(String),
    /// A role that a token in a file of the operator's speaks for.
    WebIdentity { role_arn: String, token_file: String },
    /// Whatever this machine has: variables, files, the container's or instance's role.
    Ambient,
}

/// What a source needs to reach out.
#[derive(Clone)]
pub(crate) struct Reach {
    /// For STS: its endpoint, region, timeouts and HTTP client.
    pub(crate) sts: SdkConfig,
    /// For what the operator lends: files that lead elsewhere, and the machine's own metadata
    /// service, which no connection's proxy is in front of.
    pub(crate) operator_owned: SharedHttpClient,
    /// Shown in the account's own log.
    pub(crate) session_name: String,
}

impl Reach {
    fn provider_config(&self) -> ProviderConfig {
        ProviderConfig::without_region()
            .with_region(self.sts.region().cloned())
            .with_http_client(self.operator_owned.clone())
    }
}

/// A role, and who assumes it.
pub(crate) struct Role {
    pub(crate) role_arn: String,
    pub(crate) external_id: String,
    base: SharedCredentialsProvider,
    reach: Reach,
}

impl Role {
    /// Whether STS gives the role to its identity also without the external id.
    ///
    /// # Errors
    /// Why not: what is to be hoped for is a refused right.
    pub(crate) async fn assumable_by_anyone(&self) -> Result<(), CallError> {
        let assumed = assume(self.role_arn.clone(), None, self.base.clone(), &self.reach).await;
        assumed
            .provide_credentials()
            .await
            .map(drop)
            .map_err(|error| CallError::of_source(&error))
    }
}

/// The provider of a source's credentials, and the role where it is one. Reaches nothing yet.
pub(crate) async fn provider(source: Source, reach: &Reach) -> (SharedCredentialsProvider, Option<Role>) {
    match source {
        Source::Role {
            role_arn,
            external_id,
            base,
        } => {
            let base = plain(base, reach).await;
            let assumed = assume(role_arn.clone(), Some(external_id.clone()), base.clone(), reach).await;
            let role = Role {
                role_arn,
                external_id,
                base,
                reach: reach.clone(),
            };
            (SharedCredentialsProvider::new(assumed), Some(role))
        }
        Source::Plain(base) => (plain(base, reach).await, None),
    }
}

async fn plain(base: Base, reach: &Reach) -> SharedCredentialsProvider {
    match base {
        Base::Static(credentials) => SharedCredentialsProvider::new(credentials),
        Base::Profile(name) => SharedCredentialsProvider::new(
            ProfileFileCredentialsProvider::builder()
                .configure(&reach.provider_config())
                .profile_name(name)
                .build(),
        ),
        Base::WebIdentity { role_arn, token_file } => SharedCredentialsProvider::new(WebIdentity {
            sts: Sts::new(&reach.sts),
            role_arn,
            token_file,
            session_name: reach.session_name.clone(),
        }),
        Base::Ambient => SharedCredentialsProvider::new(
            DefaultCredentialsChain::builder()
                .region(reach.sts.region().cloned().unwrap_or_else(|| SdkRegion::from_static("us-east-1")))
                .configure(reach.provider_config())
                .build()
                .await,
        ),
    }
}

/// A role assumed by these credentials, with the external id or, to see whether it is
/// demanded, without.
async fn assume(role_arn: String, external_id: Option<String>, base: SharedCredentialsProvider, reach: &Reach) -> AssumeRoleProvider {
    let builder = AssumeRoleProvider::builder(role_arn)
        .configure(&reach.sts)
        .session_name(reach.session_name.clone());
    let builder = match external_id {
        Some(id) => builder.external_id(id),
        None => builder,
    };
    builder.build_from_provider(base).await
}

/// The SDK's own provider of this kind takes no endpoint for STS.
#[derive(Debug)]
struct WebIdentity {
    sts: Sts,
    role_arn: String,
    token_file: String,
    session_name: String,
}

/// The longest token of a web identity, in bytes: what STS takes.
const MAX_TOKEN: u64 = 20_000;

impl WebIdentity {
    async fn assume(&self) -> provider::Result {
        let unread = |error: std::io::Error| CredentialsError::not_loaded(error.kind().to_string());
        let about = tokio::fs::metadata(&self.token_file).await.map_err(unread)?;
        if about.len() > MAX_TOKEN {
            return Err(CredentialsError::not_loaded("the token is too long"));
        }
        let token = tokio::fs::read_to_string(&self.token_file).await.map_err(unread)?;
        let answer = self
            .sts
            .assume_role_with_web_identity()
            .role_arn(&self.role_arn)
            .role_session_name(&self.session_name)
            .web_identity_token(token.trim_end())
            .send()
            .await
            .map_err(CredentialsError::provider_error)?;
        let session = answer
            .credentials()
            .ok_or_else(|| CredentialsError::unhandled("STS answered without credentials"))?;
        let ends = SystemTime::try_from(*session.expiration()).map_err(CredentialsError::unhandled)?;
        Ok(Credentials::new(
            session.access_key_id(),
            session.secret_access_key(),
            Some(session.session_token().to_owned()),
            Some(ends),
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

#[derive(Default)]
struct State {
    kept: Option<Credentials>,
    /// How many sessions there have been.
    generation: u64,
    /// No renewal is tried before.
    retry_at: Option<Instant>,
    /// No refusal leads to another session before.
    hold_off: Option<Instant>,
}

/// The credentials of one connection: got when they are first needed, by one caller for all,
/// replaced before they end, and when the service has dropped them.
#[derive(Clone)]
pub(crate) struct Session {
    source: SharedCredentialsProvider,
    /// Whether there could be others: an access key that was given is all there is.
    renewable: bool,
    state: Arc<Mutex<State>>,
}

impl Session {
    pub(crate) fn new(source: SharedCredentialsProvider, renewable: bool) -> Self {
        Self {
            source,
            renewable,
            state: Arc::default(),
        }
    }

    /// The credentials that live, and which session that is: the first has the number 1.
    async fn current(&self) -> Result<(Credentials, u64), CredentialsError> {
        let mut state = self.state.lock().await;
        let now = SystemTime::now();
        let lives = |kept: &Credentials, margin| kept.expiry().is_none_or(|ends| ends > now + margin);
        if let Some(kept) = &state.kept {
            let waiting = state.retry_at.is_some_and(|at| at > Instant::now());
            if lives(kept, MARGIN) || (waiting && lives(kept, Duration::ZERO)) {
                return Ok((kept.clone(), state.generation));
            }
        }
        match self.source.provide_credentials().await {
            Ok(fresh) => {
                state.kept = Some(fresh.clone());
                state.generation += 1;
                state.retry_at = None;
                Ok((fresh, state.generation))
            }
            // The old ones do until the next try.
            Err(error) => match &state.kept {
                Some(kept) if lives(kept, Duration::ZERO) => {
                    let kept = kept.clone();
                    state.retry_at = Some(Instant::now() + PAUSE);
                    Ok((kept, state.generation))
                }
                Some(_) | None => Err(error),
            },
        }
    }

    /// Sees to it that there is a session, and says which.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn ready(&self) -> Result<u64, CallError> {
        let current = self.current().await;
        current
            .map(|(_, generation)| generation)
            .map_err(|error| CallError::of_source(&error))
    }

    /// Drops the session that the service refused, unless another one has taken its place.
    /// Answers whether a second call is of use.
    pub(crate) async fn refused(&self, generation: u64) -> bool {
        if !self.renewable {
            return false;
        }
        let mut state = self.state.lock().await;
        if state.generation != generation {
            return true;
        }
        if state.hold_off.is_some_and(|until| until > Instant::now()) {
            return false;
        }
        state.kept = None;
        true
    }

    /// A brand-new session was refused too.
    pub(crate) async fn hold_off(&self) {
        self.state.lock().await.hold_off = Some(Instant::now() + PAUSE);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl ProvideCredentials for Session {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.current().await.map(|(credentials, _)| credentials) })
    }
}
