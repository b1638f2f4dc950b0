//! Whom the calls are made as: access tokens, got when they are first needed, kept until they
//! end or Google drops them.
//!
//! Google's own library signs the tokens of a service account's key, and finds the ambient
//! identity; it reaches out for the latter alone, and is not waited for longer than
//! [`PATIENCE`]. The exchanges for workload identity federation and for impersonation are
//! made here, over the client of [`claviger_provider::egress`]: the library's would follow
//! redirects, retry by itself in the background and take the address of the exchange from
//! the credentials' file.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::DateTime;
use claviger_provider::Secret;
use claviger_provider::egress::{Client, Request, Response};
use google_cloud_auth::credentials::{AccessTokenCredentials, CacheableResource, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::rpc::Code;
use http::{Extensions, HeaderMap, HeaderValue, Method, header};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::errors::{CallError, Refusal, pause};

/// What a token may be used for, where it is used for Cloud KMS alone.
pub(crate) const KMS_SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// The same of an identity that then speaks for a service account, and of a federated one.
pub(crate) const CLOUD_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The longest wait for what Google's library does: a machine without a metadata server would
/// have it wait for minutes.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest token of a workload, in bytes.
const MAX_SUBJECT: u64 = 20_000;
/// The longest access token, in bytes. Google promises at most 12 KiB for federated ones.
const MAX_TOKEN: usize = 16 * 1024;
/// A token is replaced this long before it ends: longer than any call takes, and than clocks differ.
const MARGIN: Duration = Duration::from_secs(120);
/// After a renewal that failed while the token still lives, the next one waits; and after a
/// call that a brand-new token was refused too, no refusal leads to another one before.
const PAUSE: Duration = Duration::from_secs(30);

/// Where the first token comes from.
pub(crate) enum Base {
    /// It was given.
    Token(Secret),
    /// From Google's library: a key's own signature, or whatever this machine has.
    Library(AccessTokenCredentials),
    /// From the exchange of a workload's token.
    Workload { audience: String, subject: Subject, sts: Client },
}

/// Where a workload's token comes from.
pub(crate) enum Subject {
    /// It was given.
    Given(Secret),
    /// A file of the operator's, read anew for each exchange.
    File(String),
}

/// A service account that the base identity speaks for.
pub(crate) struct Impersonated {
    pub(crate) account: String,
    pub(crate) iam: Client,
}

struct Token {
    secret: Secret,
    /// Never, of one that was given.
    ends: Option<SystemTime>,
}

impl Base {
    async fn token(&self) -> Result<Token, CallError> {
        match self {
            Self::Token(secret) => Ok(Token {
                secret: Secret::copy_from(secret.expose()),
                ends: None,
            }),
            Self::Library(credentials) => {
                let token = tokio::time::timeout(PATIENCE, credentials.access_token()).await;
                let token = token.map_err(|_| CallError::Unsourced("no answer in time".to_owned()))?;
                let token = token.map_err(|error| CallError::Unsourced(claviger_provider::innermost(&error)))?;
                // The library keeps it and renews it: it is asked again each time.
                Ok(Token {
                    secret: Secret::new(token.token.into_bytes()),
                    ends: Some(SystemTime::now()),
                })
            }
            Self::Workload { audience, subject, sts } => exchange(audience, subject, sts).await,
        }
    }

    /// Whether there could be another one.
    fn renewable(&self) -> bool {
        match self {
            Self::Token(_) | Self::Library(_) => false,
            Self::Workload { .. } => true,
        }
    }
}

#[derive(Deserialize)]
struct Exchanged {
    access_token: String,
    expires_in: u64,
}

/// The exchange of RFC 8693 at Google's STS.
async fn exchange(audience: &str, subject: &Subject, sts: &Client) -> Result<Token, CallError> {
    let from_file;
    let subject = match subject {
        Subject::Given(secret) => secret,
        Subject::File(path) => {
            from_file = read(path).await?;
            &from_file
        }
    };
    let subject = std::str::from_utf8(subject.expose()).map_err(|_| CallError::Unsourced("the token is no text".to_owned()))?;
    let body = json!({
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": audience,
        "scope": CLOUD_SCOPE,
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectToken": subject,
        "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
    });
    let answer = send(sts, &["v1", "token"], HeaderMap::new(), &body).await?;
    let exchanged: Exchanged = serde_json::from_slice(&answer.body).map_err(|_| CallError::MalformedResponse("body of STS"))?;
    Ok(Token {
        secret: sound(exchanged.access_token)?,
        ends: Some(SystemTime::now() + Duration::from_secs(exchanged.expires_in.min(86_400))),
    })
}

async fn read(path: &str) -> Result<Secret, CallError> {
    let unread = |error: std::io::Error| CallError::Unsourced(error.kind().to_string());
    let about = tokio::fs::metadata(path).await.map_err(unread)?;
    if about.len() > MAX_SUBJECT {
        return Err(CallError::Unsourced("the token is too long".to_owned()));
    }
    let text = Zeroizing::new(tokio::fs::read(path).await.map_err(unread)?);
    Ok(Secret::copy_from(text.trim_ascii()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonation {
    access_token: String,
    expire_time: String,
}

impl Impersonated {
    /// `generateAccessToken` of IAM's credentials service.
    async fn token(&self, base: &Token) -> Result<Token, CallError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, bearer(&base.secret)?);
        let call = format!("{}:generateAccessToken", self.account);
        let path = ["v1", "projects", "-", "serviceAccounts", &call];
        let answer = send(&self.iam, &path, headers, &json!({"scope": [KMS_SCOPE], "lifetime": "3600s"})).await?;
        let malformed = || CallError::MalformedResponse("body of generateAccessToken");
        let given: Impersonation = serde_json::from_slice(&answer.body).map_err(|_| malformed())?;
        let ends = DateTime::parse_from_rfc3339(&given.expire_time).map_err(|_| malformed())?;
        Ok(Token {
            secret: sound(given.access_token)?,
            ends: Some(ends.into()),
        })
    }
}

fn sound(token: String) -> Result<Secret, CallError> {
    let secret = Secret::new(token.into_bytes());
    let fits = (1..=MAX_TOKEN).contains(&secret.len()) && secret.expose().iter().all(u8::is_ascii_graphic);
    if fits {
        Ok(secret)
    } else {
        Err(CallError::MalformedResponse("access token"))
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, CallError> {
    let text = Zeroizing::new([b"Bearer ", token.expose()].concat());
    let mut value = HeaderValue::from_bytes(&text).map_err(|_| CallError::MalformedResponse("access token"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Asks a service of tokens.
async fn send(client: &Client, path: &[&str], headers: HeaderMap, body: &serde_json::Value) -> Result<Response, CallError> {
    let call = Request {
        method: Method::POST,
        path,
        query: &[],
        headers,
        json: Some(Zeroizing::new(body.to_string().into_bytes())),
    };
    let answer = client.send(call).await.map_err(CallError::Unsent)?;
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(refused(&answer))
}

/// Google's own refusal, or OAuth's (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct ErrorBody {
    error: Error,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Error {
    Google { status: String, message: String },
    OAuth(String),
}

fn refused(answer: &Response) -> CallError {
    let status = answer.status.as_u16();
    match serde_json::from_slice(&answer.body) {
        Ok(ErrorBody {
            error: Error::Google { status: code, message },
        }) => match Code::try_from(code.as_str()) {
            Ok(code) => CallError::Refused(Refusal::of_status(code, message, pause(Some(&answer.headers)))),
            Err(_) => CallError::Foreign(status),
        },
        Ok(ErrorBody { error: Error::OAuth(_) }) if status >= 500 => CallError::Foreign(status),
        Ok(ErrorBody {
            error: Error::OAuth(error),
        }) => CallError::Refused(Refusal::of_oauth(&error)),
        Err(_) => CallError::Foreign(status),
    }
}

#[derive(Default)]
struct State {
    kept: Option<Arc<Token>>,
    /// How many tokens there have been.
    generation: u64,
    /// No renewal is tried before.
    retry_at: Option<Instant>,
    /// No refusal leads to another token before.
    hold_off: Option<Instant>,
}

struct Identity {
    base: Base,
    impersonated: Option<Impersonated>,
    state: Mutex<State>,
}

/// The tokens of one connection: got by one caller for all.
#[derive(Clone)]
pub(crate) struct Session(Arc<Identity>);

impl Session {
    pub(crate) fn new(base: Base, impersonated: Option<Impersonated>) -> Self {
        Self(Arc::new(Identity {
            base,
            impersonated,
            state: Mutex::default(),
        }))
    }

    async fn fresh(&self) -> Result<Token, CallError> {
        let base = self.0.base.token().await?;
        match &self.0.impersonated {
            Some(impersonated) => impersonated.token(&base).await,
            None => Ok(base),
        }
    }

    /// The token that lives, and which that is: the first has the number 1.
    async fn current(&self) -> Result<(Arc<Token>, u64), CallError> {
        let mut state = self.0.state.lock().await;
        let now = SystemTime::now();
        let lives = |kept: &Token, margin| kept.ends.is_none_or(|ends| ends > now + margin);
        if let Some(kept) = &state.kept {
            let waiting = state.retry_at.is_some_and(|at| at > Instant::now());
            if lives(kept, MARGIN) || (waiting && lives(kept, Duration::ZERO)) {
                return Ok((Arc::clone(kept), state.generation));
            }
        }
        match self.fresh().await {
            Ok(fresh) => {
                let fresh = Arc::new(fresh);
                state.kept = Some(Arc::clone(&fresh));
                state.generation += 1;
                state.retry_at = None;
                Ok((fresh, state.generation))
            }
            // The old one does until the next try.
            Err(failed) => match state.kept.clone().filter(|kept| lives(kept, Duration::ZERO)) {
                Some(kept) => {
                    state.retry_at = Some(Instant::now() + PAUSE);
                    Ok((kept, state.generation))
                }
                None => Err(failed),
            },
        }
    }

    /// Sees to it that there is a token, and says which.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn ready(&self) -> Result<u64, CallError> {
        let current = self.current().await;
        current.map(|(_, generation)| generation).map_err(|why| match why {
            // Nothing was asked of Google yet.
            why @ (CallError::Unsourced(_) | CallError::Unsent(_) | CallError::Foreign(_) | CallError::MalformedResponse(_)) => why,
            why => CallError::NoIdentity(Box::new(why)),
        })
    }

    /// Drops the token that Google refused, unless another one has taken its place. Answers
    /// whether a second call is of use.
    pub(crate) async fn refused(&self, generation: u64) -> bool {
        if !self.0.base.renewable() && self.0.impersonated.is_none() {
            return false;
        }
        let mut state = self.0.state.lock().await;
        if state.generation != generation {
            return true;
        }
        if state.hold_off.is_some_and(|until| until > Instant::now()) {
            return false;
        }
        state.kept = None;
        true
    }

    /// A brand-new token was refused too.
    pub(crate) async fn hold_off(&self) {
        self.0.state.lock().await.hold_off = Some(Instant::now() + PAUSE);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}

impl CredentialsProvider for Session {
    async fn headers(&self, _: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let gone = |_| CredentialsError::from_msg(false, "no access token");
        let (token, _) = self.current().await.map_err(gone)?;
        let mut data = HeaderMap::new();
        data.insert(header::AUTHORIZATION, bearer(&token.secret).map_err(gone)?);
        Ok(CacheableResource::New {
            entity_tag: EntityTag::new(),
            data,
        })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}
