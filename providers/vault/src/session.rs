//! The token of a connection: got when it is first needed, renewed before it ends, got
//! anew when the server has dropped it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use claviger_provider::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::api::{Api, Login, Reply, Request, Token};
use crate::errors::CallError;
use crate::names::Path;

/// After a renewal or login that failed while the token still lives, the next one waits.
const PAUSE: Duration = Duration::from_secs(10);
/// After a call that a brand-new token was refused too, for so long no refusal leads to
/// another login: it is the policy that refuses.
const HOLD_OFF: Duration = Duration::from_secs(30);

/// How tokens are got.
pub(crate) enum Credential {
    /// A token that somebody else made; there is no other when it ends.
    Token(Secret),
    /// A login at an auth method's mount.
    Login { mount: Path, body: LoginBody },
}

/// What a login sends.
pub(crate) enum LoginBody {
    Approle {
        role_id: String,
        secret_id: Secret,
    },
    Jwt {
        role: String,
        jwt: Secret,
    },
    /// The client certificate itself is shown while the connection is made.
    Cert {
        name: Option<String>,
    },
}

impl Serialize for LoginBody {
    /// For the request alone; the bytes are wiped after it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Approle { role_id, secret_id } => serializer.collect_map([("role_id", role_id.clone()), ("secret_id", text(secret_id))]),
            Self::Jwt { role, jwt } => serializer.collect_map([("role", role.clone()), ("jwt", text(jwt))]),
            Self::Cert { name } => serializer.collect_map(name.iter().map(|name| ("name", name.clone()))),
        }
    }
}

/// A secret as text. The settings take none that is not.
fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}

/// A token and its time.
struct Lease {
    token: Token,
    /// As the server granted it when the token was new; zero for one that never ends.
    granted: Duration,
    renewable: bool,
    /// When it is to be renewed, or replaced.
    due: Option<Instant>,
    ends: Option<Instant>,
}

impl Lease {
    fn new(token: Token, seconds: u64, renewable: bool) -> Self {
        // A year is as good as for ever, and no clock overflows.
        let granted = Duration::from_secs(seconds.min(365 * 24 * 3600));
        let now = Instant::now();
        Self {
            token,
            granted,
            renewable,
            due: (seconds > 0).then(|| now + granted.mul_f64(2.0 / 3.0)),
            ends: (seconds > 0).then(|| now + granted),
        }
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    fn has_ended(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Instant::now())
    }
}

#[derive(Default)]
struct State {
    lease: Option<Arc<Lease>>,
    /// No renewal is tried before.
    retry_at: Option<Instant>,
    /// No refusal leads to a login before.
    hold_off: Option<Instant>,
}

/// What `auth/token/lookup-self` tells.
#[derive(Deserialize)]
struct SelfLookup {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    renewable: bool,
    /// Seconds; no renewal goes beyond it. 0 for none.
    #[serde(default)]
    explicit_max_ttl: u64,
}

/// What `sys/wrapping/lookup` takes.
struct WrappingLookup<'a>(&'a Secret);

impl Serialize for WrappingLookup<'_> {
    /// For the request alone; the bytes are wiped after it.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("token", text(self.0))])
    }
}

/// What is told of a wrapping token.
#[derive(Deserialize)]
struct WrappingInfo {
    #[serde(rename = "creation_time")]
    _made: serde::de::IgnoredAny,
}

/// An answer whose data nobody needs.
#[derive(Deserialize)]
pub(crate) struct Ignored {}

/// A server and the credential of one connection.
pub(crate) struct Session {
    api: Api,
    credential: Credential,
    state: Mutex<State>,
    kept: AtomicBool,
}

impl Session {
    pub(crate) fn new(api: Api, credential: Credential) -> Arc<Self> {
        Arc::new(Self {
            api,
            credential,
            state: Mutex::default(),
            kept: AtomicBool::new(false),
        })
    }

    /// The calls that need no token.
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }

    /// One call with the connection's token; a second one when the first was refused
    /// because the token was dropped in mid-flight. A refusal changes nothing at the
    /// server, so repeating it is safe for every call.
    pub(crate) async fn call<D: DeserializeOwned>(self: &Arc<Self>, request: Request<'_>) -> Result<Reply<D>, CallError> {
        let lease = self.lease().await?;
        let repeated = request.again();
        match self.api.call(Some(&lease.token), request).await {
            Err(refused) if refused.denied() => {
                let Some(fresh) = self.replace(&lease).await? else {
                    return Err(refused);
                };
                let result = self.api.call(Some(&fresh.token), repeated).await;
                if result.as_ref().is_err_and(CallError::denied) {
                    self.state.lock().await.hold_off = Some(Instant::now() + HOLD_OFF);
                }
                result
            }
            other => other,
        }
    }

    /// Whether a secret is a wrapping token, which somebody has to unwrap first. The question
    /// does not use it up; any other call would.
    async fn is_wrapped(&self, secret: &Secret) -> Result<bool, CallError> {
        let request = Request::post(&["sys", "wrapping", "lookup"], &WrappingLookup(secret))?;
        match self.api.call::<WrappingInfo>(None, request).await.and_then(Reply::data) {
            Ok(WrappingInfo { .. }) => Ok(true),
            Err(CallError::Unsent(error)) => Err(CallError::Unsent(error)),
            Err(CallError::Refused(_) | CallError::NoLogin(_) | CallError::Wrapped | CallError::MalformedResponse(_)) => Ok(false),
        }
    }

    /// In how many seconds the token ends, where nothing can keep it alive or replace it.
    pub(crate) async fn ending(self: &Arc<Self>) -> Result<Option<u64>, CallError> {
        match &self.credential {
            Credential::Login { .. } => return Ok(None),
            Credential::Token(_) => {}
        }
        let lease = self.lease().await?;
        match self.look_up(&lease.token).await {
            Ok(found) => Ok((found.ttl > 0 && (!found.renewable || found.explicit_max_ttl > 0)).then_some(found.ttl)),
            // It may not ask; the rights say so.
            Err(refused) if refused.denied() => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Whether the server still knows the token.
    pub(crate) async fn alive(self: &Arc<Self>) -> Result<bool, CallError> {
        let lease = self.lease().await?;
        self.knows(&lease).await
    }

    async fn knows(&self, lease: &Lease) -> Result<bool, CallError> {
        match self.look_up(&lease.token).await {
            Ok(_) => Ok(true),
            Err(refused) if refused.denied() => Ok(false),
            Err(other) => Err(other),
        }
    }

    async fn look_up(&self, token: &Token) -> Result<SelfLookup, CallError> {
        let request = Request::get(&["auth", "token", "lookup-self"]);
        self.api.call(Some(token), request).await?.data()
    }

    /// The token that replaces one which was refused; `None` when there is no use in it.
    async fn replace(&self, refused: &Arc<Lease>) -> Result<Option<Arc<Lease>>, CallError> {
        let mut state = self.state.lock().await;
        match &state.lease {
            // Somebody else was faster.
            Some(current) if !Arc::ptr_eq(current, refused) => return Ok(Some(Arc::clone(current))),
            Some(_) | None => {}
        }
        let Credential::Login { mount, body } = &self.credential else {
            return Ok(None);
        };
        if state.hold_off.is_some_and(|until| until > Instant::now()) || self.knows(refused).await? {
            return Ok(None);
        }
        let fresh = Arc::new(self.log_in(mount, body).await?);
        state.lease = Some(Arc::clone(&fresh));
        Ok(Some(fresh))
    }

    /// A token that lives, as far as we know. One caller at a time gets or renews it.
    async fn lease(self: &Arc<Self>) -> Result<Arc<Lease>, CallError> {
        let mut state = self.state.lock().await;
        let current = state.lease.clone();
        let fresh = match &current {
            None => self.first().await?,
            Some(lease) if !lease.is_due() => return Ok(Arc::clone(lease)),
            Some(lease) if state.retry_at.is_some_and(|at| at > Instant::now()) && !lease.has_ended() => return Ok(Arc::clone(lease)),
            Some(lease) => match self.next(lease).await {
                Ok(fresh) => fresh,
                // The old one does until the next try.
                Err(_) if !lease.has_ended() => {
                    state.retry_at = Some(Instant::now() + PAUSE);
                    return Ok(Arc::clone(lease));
                }
                Err(error) => {
                    state.lease = None;
                    return Err(error);
                }
            },
        };
        let fresh = Arc::new(fresh);
        state.lease = Some(Arc::clone(&fresh));
        drop(state);
        self.keep(&fresh);
        Ok(fresh)
    }

    /// When the token is to be renewed; `None` for never.
    async fn due(&self) -> Option<Instant> {
        let state = self.state.lock().await;
        let due = state.lease.as_ref()?.due?;
        Some(state.retry_at.map_or(due, |at| due.max(at)))
    }

    async fn first(&self) -> Result<Lease, CallError> {
        match &self.credential {
            Credential::Login { mount, body } => self.log_in(mount, body).await,
            Credential::Token(secret) => {
                let token = Token::new(secret).ok_or(CallError::MalformedResponse("token"))?;
                if self.is_wrapped(secret).await? {
                    return Err(CallError::Wrapped);
                }
                match self.look_up(&token).await {
                    Ok(found) if found.renewable => Ok(Lease::new(token, found.ttl, true)),
                    Ok(_) => Ok(Lease::new(token, 0, false)),
                    // It may not ask about itself, or it is dead: the call itself will tell.
                    Err(refused) if refused.denied() => Ok(Lease::new(token, 0, false)),
                    Err(other) => Err(other),
                }
            }
        }
    }

    /// The token after this one: the same renewed, or another.
    async fn next(&self, lease: &Lease) -> Result<Lease, CallError> {
        if lease.renewable && !lease.has_ended() {
            match self.renew(lease).await {
                Ok(renewed) => return Ok(renewed),
                Err(error) => match &self.credential {
                    Credential::Token(_) => return Err(error),
                    Credential::Login { .. } => {}
                },
            }
        }
        self.first().await
    }

    async fn renew(&self, lease: &Lease) -> Result<Lease, CallError> {
        let request = Request::post(&["auth", "token", "renew-self"], &serde_json::json!({}))?;
        let reply: Reply<Ignored> = self.api.call(Some(&lease.token), request).await?;
        let mut login = reply.auth.ok_or(CallError::MalformedResponse("renewal"))?;
        let token = login.token().ok_or(CallError::MalformedResponse("renewal"))?;
        let renewed = Lease::new(token, login.lease_duration, login.renewable);
        // Near its greatest age a token gets ever less: then another is better.
        match &self.credential {
            Credential::Login { .. } if renewed.granted * 3 < lease.granted => Err(CallError::MalformedResponse("renewal")),
            Credential::Login { .. } | Credential::Token(_) => Ok(renewed),
        }
    }

    async fn log_in(&self, mount: &Path, body: &LoginBody) -> Result<Lease, CallError> {
        let mut path = vec!["auth"];
        path.extend(mount.segments());
        path.push("login");
        let reply: Reply<Ignored> = match self.api.call(None, Request::post(&path, body)?).await {
            Err(CallError::Refused(refusal)) if refusal.is_final() => {
                let wrapped = match body {
                    LoginBody::Approle { secret_id: secret, .. } | LoginBody::Jwt { jwt: secret, .. } => self.is_wrapped(secret).await?,
                    LoginBody::Cert { .. } => false,
                };
                return Err(if wrapped { CallError::Wrapped } else { CallError::NoLogin(refusal) });
            }
            other => other?,
        };
        let mut login: Login = reply.auth.ok_or(CallError::MalformedResponse("login"))?;
        let token = login.token().ok_or(CallError::MalformedResponse("login"))?;
        Ok(Lease::new(token, login.lease_duration, login.renewable))
    }

    /// Keeps a token alive that nobody could replace, also while no call is made. A login
    /// needs none of it: the next call logs in.
    fn keep(self: &Arc<Self>, lease: &Lease) {
        let lasting = match &self.credential {
            Credential::Token(_) => lease.renewable && lease.due.is_some(),
            Credential::Login { .. } => false,
        };
        if !lasting || self.kept.swap(true, Ordering::Relaxed) {
            return;
        }
        let session = Arc::downgrade(self);
        tokio::spawn(async move {
            // Until the connection is gone or its token has ended.
            while let Some(due) = match session.upgrade() {
                Some(session) => session.due().await,
                None => None,
            } {
                tokio::time::sleep_until(due).await;
                let Some(session) = session.upgrade() else { return };
                if session.lease().await.is_err() {
                    break;
                }
            }
            if let Some(session) = session.upgrade() {
                session.kept.store(false, Ordering::Relaxed);
            }
        });
    }
}
