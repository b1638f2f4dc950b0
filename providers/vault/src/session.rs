//! The token of a connection: fetched when it is first needed, renewed before it ends, and replaced
//! when the server has revoked it. See [`session`] for the state machine.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError};
use claviger_provider::kit::session::identity::{Lockout, LoginIdentity, Membership};
use claviger_provider::kit::session::{self, CredentialSource, Lifetime, Standing, Term};
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{BackgroundTrace, CallSink, Error, ErrorKind, LoginReport, OpContext, Secret, SeverSwitch};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::auth::Auth;
use crate::client::{Api, ApiResponse, AuthBlock, Ignored, Request, Token};
use crate::connector::Connector;
use crate::credentials::{Credential, LoginBody, WrappingLookup, credential};
use crate::errors::{CallError, Refusal, denied, fault};
use crate::health::{Health, NamespaceGuard};
use crate::names::Path;
use crate::settings::Settings;

/// The longest lease that is counted. A longer one never ends, as far as the gateway is concerned.
const MAX_LEASE: Duration = Duration::from_secs(365 * 24 * 3600);

/// OpenBao and Vault lock a role, for all who use it, after five refusals within fifteen minutes of each other.
const LOCKOUT: Lockout = Lockout {
    refusals: 3,
    pause: LOCKOUT_PAUSE,
    unclear_pause: LOCKOUT_PAUSE,
};
const LOCKOUT_PAUSE: Duration = Duration::from_secs(16 * 60);

/// A token and its life.
pub(crate) struct Lease {
    /// The server, as the login reached it: with the client certificate that it was made with.
    api: Arc<Api>,
    token: Token,
    /// The time to live when the token was issued; zero for one that never ends.
    granted: Duration,
    renewable: bool,
    term: Term,
    /// Whether the server said that it knows the token.
    known: bool,
}

impl Lease {
    /// A token that the server knows.
    fn new(api: &Arc<Api>, token: Token, seconds: u64, renewable: bool) -> Self {
        let granted = Duration::from_secs(seconds).min(MAX_LEASE);
        let term = match seconds {
            0 => Term::ENDLESS,
            _ => Term::renewed_after(granted, granted.mul_f64(2.0 / 3.0)),
        };
        Self {
            api: Arc::clone(api),
            token,
            granted,
            renewable,
            term,
            known: true,
        }
    }
}

impl Lifetime for Lease {
    fn term(&self) -> Term {
        self.term
    }
}

/// The response of `auth/token/lookup-self`.
#[derive(Deserialize)]
struct SelfLookup {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
    /// Seconds from the token's creation; no renewal goes beyond it. 0 for no limit.
    #[serde(default)]
    explicit_max_ttl: u64,
}

/// The response of `sys/wrapping/lookup`.
#[derive(Deserialize)]
struct WrappingInfo {
    #[serde(rename = "creation_time")]
    _created: IgnoredAny,
}

/// A server, and the credential of one connection.
pub(crate) struct TokenSource {
    connector: Connector,
    auth: Auth,
    secrets: ConnectionSecrets,
    /// The server, and the secrets whose client certificate its client has.
    api: Mutex<(Arc<Secrets>, Arc<Api>)>,
    /// `None` for a given token.
    membership: Option<Membership<Refusal>>,
    trace: BackgroundTrace,
}

impl CredentialSource for TokenSource {
    type Credential = Lease;
    type Refusal = Refusal;

    async fn fetch(&self, previous: Option<&Lease>) -> Result<Lease, CallError> {
        match previous {
            Some(lease) => self.next(lease).await,
            None => self.first().await,
        }
        .map_err(|error| match error {
            error @ CallError::NoCredential { .. } => error,
            other => other.in_login(),
        })
    }

    /// The server also refuses a valid token what its policy forbids. A new login does not help
    /// then.
    async fn standing(&self, refused: &Lease) -> Result<Standing, CallError> {
        let known = knows(CallSink::from(&self.trace), refused).await?;
        Ok(match &self.auth {
            // A token that never had the right to look itself up may still be good.
            Auth::Token {} => Standing::Only {
                accepted: Some(known).filter(|known| *known || refused.known),
            },
            Auth::Approle { .. } | Auth::Jwt { .. } | Auth::Kubernetes { .. } | Auth::Cert { .. } if known => Standing::Accepted,
            Auth::Approle { .. } | Auth::Jwt { .. } | Auth::Kubernetes { .. } | Auth::Cert { .. } => Standing::Replaceable,
        })
    }

    fn is_proven(&self, lease: &Lease) -> bool {
        lease.known
    }

    fn membership(&self) -> Option<&Membership<Refusal>> {
        self.membership.as_ref()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.secrets.paths()
    }

    /// Nobody could replace a given token. After a login, the next call logs in again.
    fn is_kept(&self, lease: &Lease) -> bool {
        matches!(self.auth, Auth::Token {}) && lease.renewable
    }
}

/// Whom a login with these settings is made as, and when the server locks such an identity; `None` for a given token.
pub(crate) fn login(settings: &Settings) -> Option<(LoginIdentity, Option<Lockout>)> {
    let (method, who, mount) = match &settings.auth {
        Auth::Token {} => return None,
        Auth::Approle { role_id, mount } => ("approle", role_id.as_str(), mount),
        Auth::Jwt { role, mount } => ("jwt", role.as_str(), mount),
        Auth::Kubernetes { role, mount } => ("kubernetes", role.as_str(), mount),
        Auth::Cert { name, mount } => ("cert", name.as_deref().unwrap_or_default(), mount),
    };
    let namespace = settings.namespace.as_deref().unwrap_or_default();
    let login = LoginIdentity {
        service: [settings.address.as_str(), namespace, mount, method].join("\n"),
        identity: who.to_owned(),
        route: [&settings.proxy, &settings.ca]
            .map(|part| part.as_deref().unwrap_or_default())
            .join("\n"),
    };
    Some((login, matches!(settings.auth, Auth::Approle { .. }).then_some(LOCKOUT)))
}

impl TokenSource {
    /// Sends no request.
    ///
    /// # Errors
    /// `Misconfigured` when a secret is missing or cannot be used.
    pub(crate) fn new(
        connector: Connector,
        auth: Auth,
        secrets: ConnectionSecrets,
        trace: BackgroundTrace,
        membership: Option<Membership<Refusal>>,
    ) -> Result<Self, Error> {
        let latest = secrets.latest();
        let (_, certificate) = credential(&auth, &latest)
            .ok_or_else(|| fault(ErrorKind::Misconfigured, "a secret of the connection is missing or cannot be used"))?;
        let api = Arc::new(connector.api(certificate)?);
        Ok(Self {
            connector,
            auth,
            secrets,
            api: Mutex::new((latest, api)),
            membership,
            trace,
        })
    }

    /// The call of a session itself, which serves all operations.
    async fn call<D: DeserializeOwned>(&self, api: &Api, token: Option<&Token>, request: Request<'_>) -> Result<ApiResponse<D>, CallError> {
        api.call(CallSink::from(&self.trace), token, request).await
    }

    /// The credential with the secrets as they are now, and the server as it is reached with them.
    async fn at_hand(&self) -> Result<(Credential, Arc<Secrets>, Arc<Api>), CallError> {
        let unusable = |cause: String| CallError::NoSource {
            advice: SecretsError::ADVICE,
            cause,
        };
        let secrets = self.secrets.read().await.map_err(|error| unusable(error.to_string()))?;
        let found = credential(&self.auth, &secrets);
        let (credential, certificate) = found.ok_or_else(|| unusable("a secret of the connection is missing".to_owned()))?;
        let mut api = self.api.lock();
        if certificate.is_some() && !Arc::ptr_eq(&api.0, &secrets) {
            let made = self.connector.api(certificate).map_err(|error| unusable(error.to_string()))?;
            *api = (Arc::clone(&secrets), Arc::new(made));
        }
        Ok((credential, secrets, Arc::clone(&api.1)))
    }

    async fn first(&self) -> Result<Lease, CallError> {
        let (credential, secrets, api) = self.at_hand().await?;
        let secret = match (&credential, &self.membership) {
            (Credential::Login { mount, body }, Some(membership)) => {
                let ready = Health::takes_logins(&api, CallSink::from(&self.trace));
                return membership.login(&secrets, ready, self.log_in(&api, mount, body)).await;
            }
            (Credential::Login { mount, body }, None) => return self.log_in(&api, mount, body).await,
            (Credential::Token(secret), _) => secret,
        };
        let token = Token::new(secret).ok_or(CallError::MalformedResponse("token"))?;
        if self.is_wrapping_token(&api, secret).await? {
            return Err(CallError::Refused(Refusal::WrappingToken));
        }
        match look_up(&api, CallSink::from(&self.trace), &token).await {
            Ok(found) if found.renewable => Ok(Lease::new(&api, token, found.ttl, true)),
            Ok(_) => Ok(Lease::new(&api, token, 0, false)),
            // The token lacks the right to look itself up, or it has ended. The operation's own
            // call will show which.
            Err(refused) if denied(&refused) => Ok(Lease {
                known: false,
                ..Lease::new(&api, token, 0, false)
            }),
            Err(other) => Err(other),
        }
    }

    /// The token after this one: the same renewed, or another.
    async fn next(&self, lease: &Lease) -> Result<Lease, CallError> {
        if lease.renewable {
            match (self.renew(lease).await, &self.auth) {
                (Ok(renewed), _) => return Ok(renewed),
                (Err(error), Auth::Token {}) => return Err(error),
                (Err(_), Auth::Approle { .. } | Auth::Jwt { .. } | Auth::Kubernetes { .. } | Auth::Cert { .. }) => {}
            }
        }
        self.first().await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, CallError> {
        let malformed = || CallError::MalformedResponse("renewal");
        let request = Request::post("auth/token/renew-self", &["auth", "token", "renew-self"], &serde_json::json!({}))?;
        let response: ApiResponse<Ignored> = self.call(&lease.api, Some(&lease.token), request).await?;
        let renewed = of_auth_block(&lease.api, response.auth).ok_or_else(malformed)?;
        // Near its maximum age, a token gets shorter and shorter leases. A new login is better
        // then.
        match &self.auth {
            Auth::Token {} => Ok(renewed),
            _ if renewed.granted * 3 < lease.granted => Err(malformed()),
            Auth::Approle { .. } | Auth::Jwt { .. } | Auth::Kubernetes { .. } | Auth::Cert { .. } => Ok(renewed),
        }
    }

    async fn log_in(&self, api: &Arc<Api>, mount: &Path, body: &LoginBody) -> Result<Lease, CallError> {
        let mut path = vec!["auth"];
        path.extend(mount.segments());
        path.push("login");
        let response: ApiResponse<Ignored> = match self.call(api, None, Request::post("auth/login", &path, body)?).await {
            Err(CallError::Refused(Refusal::Response(response))) if response.is_final() => {
                let wrapping = match body.secret() {
                    // The login was refused, also where nothing is known of the secret.
                    Some(secret) => self.is_wrapping_token(api, secret).await.unwrap_or(false),
                    None => false,
                };
                return Err(CallError::Refused(match wrapping {
                    true => Refusal::WrappingToken,
                    false => Refusal::Response(response),
                }));
            }
            other => other?,
        };
        of_auth_block(api, response.auth).ok_or(CallError::MalformedResponse("login"))
    }

    /// Whether a secret is a wrapping token, which its owner has to unwrap first. This call does not
    /// use it up; any other call would.
    async fn is_wrapping_token(&self, api: &Api, secret: &Secret) -> Result<bool, CallError> {
        let request = Request::post("sys/wrapping/lookup", &["sys", "wrapping", "lookup"], &WrappingLookup(secret))?;
        match self.call::<WrappingInfo>(api, None, request).await.and_then(ApiResponse::data) {
            Ok(WrappingInfo { .. }) => Ok(true),
            // Without a response nothing is known; any other error means that it is none.
            Err(error @ (CallError::Unsent(_) | CallError::Timeout | CallError::Unreachable(_))) => Err(error),
            Err(
                CallError::Refused(_)
                | CallError::NoCredential { .. }
                | CallError::NoSource { .. }
                | CallError::MalformedResponse(_)
                | CallError::Unbuilt(_),
            ) => Ok(false),
        }
    }
}

async fn knows(sink: CallSink<'_>, lease: &Lease) -> Result<bool, CallError> {
    match look_up(&lease.api, sink, &lease.token).await {
        Ok(_) => Ok(true),
        Err(refused) if denied(&refused) => Ok(false),
        Err(other) => Err(other),
    }
}

async fn look_up(api: &Api, sink: CallSink<'_>, token: &Token) -> Result<SelfLookup, CallError> {
    let request = Request::get("auth/token/lookup-self", &["auth", "token", "lookup-self"]);
    api.call(sink, Some(token), request).await?.data()
}

fn of_auth_block(api: &Arc<Api>, block: Option<AuthBlock>) -> Option<Lease> {
    let mut block = block?;
    let token = block.token()?;
    Some(Lease::new(api, token, block.lease_duration, block.renewable))
}

/// The session of one connection.
pub(crate) struct Session {
    inner: session::Session<TokenSource>,
    namespace: NamespaceGuard,
}

impl Session {
    /// Creates a session without a token. This sends no request.
    pub(crate) fn new(source: TokenSource, report: LoginReport, switch: SeverSwitch) -> Self {
        let namespace = NamespaceGuard::new(source.connector.namespace.is_some());
        Self {
            inner: session::Session::new(source, report, switch),
            namespace,
        }
    }

    /// The API, for calls that need no token.
    pub(crate) fn api(&self) -> Arc<Api> {
        Arc::clone(&self.inner.source().api.lock().1)
    }

    /// Refuses a server that would ignore the connection's namespace, before a login there.
    async fn has_its_namespace(&self, cx: &OpContext) -> Result<(), CallError> {
        if self.namespace.is_proven() {
            return Ok(());
        }
        // Boxed, since it is rare and would be part of every call's future.
        Box::pin(async { self.namespace.check(&self.api(), CallSink::from(cx)).await }).await
    }

    /// Makes one call with the connection's token, and once more with another token where the
    /// server has revoked the first.
    ///
    /// # Errors
    /// The call's, or why there is no token.
    pub(crate) async fn call<D: DeserializeOwned>(&self, cx: &OpContext, request: Request<'_>) -> Result<ApiResponse<D>, CallError> {
        self.has_its_namespace(cx).await?;
        let send = |lease: Arc<Lease>| {
            let request = request.again();
            async move { lease.api.call(CallSink::from(cx), Some(&lease.token), request).await }
        };
        self.inner.call(cx.login(), denied, send).await
    }

    /// In how many seconds the token ends, where neither a renewal nor a login can prolong it.
    pub(crate) async fn final_seconds(&self, cx: &OpContext) -> Result<Option<u64>, CallError> {
        if !matches!(self.inner.source().auth, Auth::Token {}) {
            return Ok(None);
        }
        self.has_its_namespace(cx).await?;
        let lease = self.inner.current(cx.login()).await?;
        match look_up(&lease.api, CallSink::from(cx), &lease.token).await {
            Ok(found) => Ok((found.ttl > 0 && (!found.renewable || found.explicit_max_ttl > 0)).then_some(found.ttl)),
            // The token lacks the right to look itself up. The report on the rights says so.
            Err(refused) if denied(&refused) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Whether the server still knows the token.
    pub(crate) async fn alive(&self, cx: &OpContext) -> Result<bool, CallError> {
        self.has_its_namespace(cx).await?;
        let lease = self.inner.current(cx.login()).await?;
        knows(CallSink::from(cx), &lease).await
    }
}
