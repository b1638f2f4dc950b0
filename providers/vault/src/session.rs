//! The token of a connection: fetched when it is first needed, renewed before it ends, and replaced
//! when the server has revoked it. See [`session`] for the state machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger_provider::kit::session::{self, CredentialSource, Lifetime, Pauses};
use claviger_provider::{BackgroundTrace, CallSink, OpContext, Secret};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::Instant;

use crate::client::{Api, ApiResponse, AuthBlock, Ignored, Request, Token};
use crate::credentials::{Credential, LoginBody, WrappingLookup};
use crate::errors::{CallError, Refusal, denied};
use crate::health::NamespaceGuard;
use crate::names::Path;

const PAUSES: Pauses = Pauses {
    fetch: Duration::from_secs(10),
    refusal: Duration::from_secs(30),
};

/// The longest lease that is counted. A longer one never ends, as far as the gateway is concerned.
const MAX_LEASE: Duration = Duration::from_secs(365 * 24 * 3600);

/// A token and its times.
pub(crate) struct Lease {
    token: Token,
    /// The time to live when the token was issued; zero for one that never ends.
    granted: Duration,
    renewable: bool,
    /// When it is to be renewed or replaced.
    due: Option<Instant>,
    end: Option<Instant>,
}

impl Lease {
    fn new(token: Token, seconds: u64, renewable: bool) -> Self {
        let granted = Duration::from_secs(seconds).min(MAX_LEASE);
        let now = Instant::now();
        Self {
            token,
            granted,
            renewable,
            due: (seconds > 0).then(|| now + granted.mul_f64(2.0 / 3.0)),
            end: (seconds > 0).then(|| now + granted),
        }
    }
}

impl Lifetime for Lease {
    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| end <= Instant::now())
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
struct TokenSource {
    api: Api,
    credential: Credential,
    trace: BackgroundTrace,
    /// Whether the token is a given one that renewals keep alive.
    renewals_needed: AtomicBool,
}

impl CredentialSource for TokenSource {
    type Credential = Lease;
    type Error = CallError;

    async fn fetch(&self, previous: Option<&Lease>) -> Result<Lease, CallError> {
        let lease = match previous {
            Some(lease) => self.next(lease).await?,
            None => self.first().await?,
        };
        if matches!(self.credential, Credential::Token(_)) && lease.renewable && lease.due.is_some() {
            self.renewals_needed.store(true, Ordering::Relaxed);
        }
        Ok(lease)
    }

    /// The server also refuses a valid token what its policy forbids. A new login does not help
    /// then.
    async fn replaceable(&self, refused: &Lease) -> Result<bool, CallError> {
        match &self.credential {
            Credential::Token(_) => Ok(false),
            Credential::Login { .. } => Ok(!self.knows(CallSink::from(&self.trace), refused).await?),
        }
    }
}

impl TokenSource {
    /// The call of a session itself, which serves all operations.
    async fn call<D: DeserializeOwned>(&self, token: Option<&Token>, request: Request<'_>) -> Result<ApiResponse<D>, CallError> {
        self.api.call(CallSink::from(&self.trace), token, request).await
    }

    async fn first(&self) -> Result<Lease, CallError> {
        let secret = match &self.credential {
            Credential::Login { mount, body } => return self.log_in(mount, body).await,
            Credential::Token(secret) => secret,
        };
        let token = Token::new(secret).ok_or(CallError::MalformedResponse("token"))?;
        if self.is_wrapping_token(secret).await? {
            return Err(CallError::Refused(Refusal::WrappingToken).in_login());
        }
        match self.look_up(CallSink::from(&self.trace), &token).await {
            Ok(found) if found.renewable => Ok(Lease::new(token, found.ttl, true)),
            Ok(_) => Ok(Lease::new(token, 0, false)),
            // The token lacks the right to look itself up, or it has ended. The operation's own
            // call will show which.
            Err(refused) if denied(&refused) => Ok(Lease::new(token, 0, false)),
            Err(other) => Err(other),
        }
    }

    /// The token after this one: the same renewed, or another.
    async fn next(&self, lease: &Lease) -> Result<Lease, CallError> {
        if lease.renewable && !lease.has_ended() {
            match (self.renew(lease).await, &self.credential) {
                (Ok(renewed), _) => return Ok(renewed),
                (Err(error), Credential::Token(_)) => return Err(error),
                (Err(_), Credential::Login { .. }) => {}
            }
        }
        self.first().await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, CallError> {
        let malformed = || CallError::MalformedResponse("renewal");
        let request = Request::post("auth/token/renew-self", &["auth", "token", "renew-self"], &serde_json::json!({}))?;
        let response: ApiResponse<Ignored> = self.call(Some(&lease.token), request).await?;
        let renewed = of_auth_block(response.auth).ok_or_else(malformed)?;
        // Near its maximum age, a token gets shorter and shorter leases. A new login is better
        // then.
        match &self.credential {
            Credential::Login { .. } if renewed.granted * 3 < lease.granted => Err(malformed()),
            Credential::Login { .. } | Credential::Token(_) => Ok(renewed),
        }
    }

    async fn log_in(&self, mount: &Path, body: &LoginBody) -> Result<Lease, CallError> {
        let mut path = vec!["auth"];
        path.extend(mount.segments());
        path.push("login");
        let response: ApiResponse<Ignored> = match self.call(None, Request::post("auth/login", &path, body)?).await {
            Err(CallError::Refused(Refusal::Response(response))) if response.is_final() => {
                let wrapping = match body.secret() {
                    Some(secret) => self.is_wrapping_token(secret).await?,
                    None => false,
                };
                let refusal = if wrapping {
                    Refusal::WrappingToken
                } else {
                    Refusal::Response(response)
                };
                return Err(CallError::Refused(refusal).in_login());
            }
            other => other?,
        };
        of_auth_block(response.auth).ok_or(CallError::MalformedResponse("login"))
    }

    /// Whether a secret is a wrapping token, which its owner has to unwrap first. This call does not
    /// use it up; any other call would.
    async fn is_wrapping_token(&self, secret: &Secret) -> Result<bool, CallError> {
        let request = Request::post("sys/wrapping/lookup", &["sys", "wrapping", "lookup"], &WrappingLookup(secret))?;
        match self.call::<WrappingInfo>(None, request).await.and_then(ApiResponse::data) {
            Ok(WrappingInfo { .. }) => Ok(true),
            // Without a response nothing is known; any other error means that it is none.
            Err(error @ (CallError::Unsent(_) | CallError::Timeout | CallError::Unreachable(_))) => Err(error),
            Err(
                CallError::Refused(_)
                | CallError::NoCredential(_)
                | CallError::NoSource { .. }
                | CallError::MalformedResponse(_)
                | CallError::Unbuilt(_),
            ) => Ok(false),
        }
    }

    async fn knows(&self, sink: CallSink<'_>, lease: &Lease) -> Result<bool, CallError> {
        match self.look_up(sink, &lease.token).await {
            Ok(_) => Ok(true),
            Err(refused) if denied(&refused) => Ok(false),
            Err(other) => Err(other),
        }
    }

    async fn look_up(&self, sink: CallSink<'_>, token: &Token) -> Result<SelfLookup, CallError> {
        let request = Request::get("auth/token/lookup-self", &["auth", "token", "lookup-self"]);
        self.api.call(sink, Some(token), request).await?.data()
    }
}

fn of_auth_block(block: Option<AuthBlock>) -> Option<Lease> {
    let mut block = block?;
    let token = block.token()?;
    Some(Lease::new(token, block.lease_duration, block.renewable))
}

/// The session of one connection.
pub(crate) struct Session {
    inner: session::Session<TokenSource>,
    namespace: NamespaceGuard,
    /// Whether a task renews the token.
    renewing: AtomicBool,
}

impl Session {
    pub(crate) fn new(api: Api, credential: Credential, trace: BackgroundTrace) -> Arc<Self> {
        let namespace = NamespaceGuard::new(api.has_namespace());
        let source = TokenSource {
            api,
            credential,
            trace,
            renewals_needed: AtomicBool::new(false),
        };
        Arc::new(Self {
            inner: session::Session::new(source, PAUSES),
            namespace,
            renewing: AtomicBool::new(false),
        })
    }

    /// The API, for calls that need no token.
    pub(crate) fn api(&self) -> &Api {
        &self.inner.source().api
    }

    /// Makes one call with the connection's token, and once more with another token where the
    /// server has revoked the first.
    ///
    /// # Errors
    /// The call's, or why there is no token.
    pub(crate) async fn call<D: DeserializeOwned>(
        self: &Arc<Self>,
        cx: &OpContext,
        request: Request<'_>,
    ) -> Result<ApiResponse<D>, CallError> {
        self.namespace.check(self.api(), CallSink::from(cx)).await?;
        let result = self.inner.call(denied, |lease| {
            let request = request.again();
            async move { self.api().call(CallSink::from(cx), Some(&lease.token), request).await }
        });
        let result = result.await;
        self.renew_in_background();
        result
    }

    /// In how many seconds the token ends, where neither a renewal nor a login can prolong it.
    pub(crate) async fn final_seconds(&self, cx: &OpContext) -> Result<Option<u64>, CallError> {
        match &self.inner.source().credential {
            Credential::Login { .. } => return Ok(None),
            Credential::Token(_) => {}
        }
        let lease = self.inner.current().await?;
        match self.inner.source().look_up(CallSink::from(cx), &lease.token).await {
            Ok(found) => Ok((found.ttl > 0 && (!found.renewable || found.explicit_max_ttl > 0)).then_some(found.ttl)),
            // The token lacks the right to look itself up. The report on the rights says so.
            Err(refused) if denied(&refused) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Whether the server still knows the token.
    pub(crate) async fn alive(&self, cx: &OpContext) -> Result<bool, CallError> {
        let lease = self.inner.current().await?;
        self.inner.source().knows(CallSink::from(cx), &lease).await
    }

    /// When the held token is to be renewed; `None` for never.
    async fn renewal_due(&self) -> Option<Instant> {
        let due = self.inner.held().await?.due?;
        Some(self.inner.fetch_after().await.map_or(due, |at| due.max(at)))
    }

    /// Starts the task that renews a given token also while no call is made: nobody could replace
    /// it. A login needs none; the next call logs in again.
    fn renew_in_background(self: &Arc<Self>) {
        let needed = self.inner.source().renewals_needed.load(Ordering::Relaxed);
        if !needed || self.renewing.swap(true, Ordering::Relaxed) {
            return;
        }
        let session = Arc::downgrade(self);
        tokio::spawn(async move {
            // Until the connection is dropped or its token has ended.
            while let Some(due) = match session.upgrade() {
                Some(session) => session.renewal_due().await,
                None => None,
            } {
                tokio::time::sleep_until(due).await;
                let Some(session) = session.upgrade() else { return };
                if session.inner.current().await.is_err() {
                    break;
                }
            }
            if let Some(session) = session.upgrade() {
                session.renewing.store(false, Ordering::Relaxed);
            }
        });
    }
}
