//! Where access tokens come from.
//!
//! Google's library signs the tokens of a service account's key, and finds the ambient identity;
//! only for the latter it sends requests, also in the background, and is waited for no longer than
//! [`PATIENCE`]. The exchanges for
//! workload identity federation and impersonation use the client of
//! [`claviger_provider::egress`]: the library's would follow redirects, retry in the background,
//! and take the exchange's URL from the credentials file.

use std::path::PathBuf;
use std::time::Duration;

use chrono::DateTime;
use claviger_provider::egress::{Client, Request, Response};
use claviger_provider::kit::secret_file::read_word;
use claviger_provider::kit::secrets::{self, Stamp};
use claviger_provider::kit::session::{BearerToken, Term};
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{BackgroundTrace, CallResult, CallSink, Secret, innermost};
use google_cloud_auth::credentials::service_account::{AccessSpecifier, Builder as KeyBuilder};
use google_cloud_auth::credentials::{AccessTokenCredentials, Builder};
use google_cloud_gax::error::rpc::Code;
use http::{HeaderMap, Method, header};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::auth::SECRET;
use crate::errors::{CallError, Refusal, ServiceError, retry_after};

/// The scope of a token that is used for Cloud KMS only.
pub(crate) const KMS_SCOPE: &str = "https://www.googleapis.com/auth/cloudkms";
/// The scope of a token that then impersonates a service account, and of a federated one.
pub(crate) const CLOUD_SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// The longest wait for Google's library, which waits for minutes on a machine without a metadata
/// server.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest token of a workload, in bytes.
const MAX_SUBJECT: usize = 20_000;
/// The longest access token, in bytes. Google promises at most 12 KiB for federated ones.
const MAX_TOKEN: usize = 16 * 1024;
/// The longest accepted lifetime of a federated token, in seconds.
const MAX_LIFETIME: u64 = 86_400;

/// The identity of a connection, or its base identity for impersonation.
pub(crate) enum Credentials {
    /// An access token that the settings contain.
    Token(Secret),
    /// Google's library: signatures with a service account's key.
    Library(AccessTokenCredentials),
    /// Google's library: the machine's identity, from the file in `GOOGLE_APPLICATION_CREDENTIALS`,
    /// gcloud's file or the metadata server. It sends requests from its creation on, so it is created
    /// by the first call: a severed connection has none. It keeps what it has read, so it is made anew when the
    /// files change.
    Ambient {
        scope: &'static str,
        library: Mutex<Option<(Stamp, AccessTokenCredentials)>>,
    },
    /// Workload identity federation.
    Workload { audience: String, subject: Subject, sts: Client },
}

/// A workload's token.
pub(crate) enum Subject {
    /// The settings contain it.
    Given(Secret),
    /// A file of the operator's, read for each exchange.
    File(PathBuf),
}

/// A service account that the base identity impersonates.
pub(crate) struct Impersonation {
    pub(crate) account: String,
    pub(crate) iam: Client,
}

fn no_source(cause: impl Into<String>) -> CallError {
    CallError::NoSource {
        advice: "There are no credentials: the operator's ambient identity or token file provides none.",
        cause: cause.into(),
    }
}

impl Credentials {
    /// A new access token.
    ///
    /// # Errors
    /// Why no token could be fetched.
    pub(crate) async fn token(&self, background: &BackgroundTrace) -> Result<BearerToken, CallError> {
        match self {
            Self::Token(secret) => Ok(BearerToken {
                credential: Secret::copy_from(secret.expose()),
                term: Term::ENDLESS,
            }),
            Self::Library(credentials) => of_library(credentials).await,
            Self::Ambient { scope, library } => {
                let now = Stamp::of(&machines_files()).await;
                let made = library.lock().clone().filter(|(stamp, _)| *stamp == now);
                let credentials = match made {
                    Some((_, credentials)) => credentials,
                    None => {
                        let made = ambient(scope)?;
                        *library.lock() = Some((now, made.clone()));
                        made
                    }
                };
                of_library(&credentials).await
            }
            Self::Workload { audience, subject, sts } => exchange(background, audience, subject, sts).await,
        }
    }

    /// Whether another token may be accepted where one was refused.
    pub(crate) const fn renewable(&self) -> bool {
        match self {
            Self::Token(_) | Self::Library(_) | Self::Ambient { .. } => false,
            Self::Workload { .. } => true,
        }
    }
}

/// What the credentials of a connection are made from, but for its secrets.
pub(crate) enum Identity {
    /// An access token.
    Token,
    /// A service account's key, for tokens of this scope.
    Key { scope: &'static str },
    /// Workload identity federation; without a file, the token is a secret of the connection.
    Workload {
        audience: String,
        file: Option<PathBuf>,
        sts: Client,
    },
    /// The machine's identity.
    Ambient { scope: &'static str },
}

impl Identity {
    /// The credentials with these secrets.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub(crate) fn credentials(&self, secrets: &Secrets) -> Result<Credentials, &'static str> {
        let secret = || secrets::secret(secrets, SECRET).ok_or("the connection's secret is missing");
        Ok(match self {
            Self::Token => Credentials::Token(secret()?),
            Self::Key { scope } => {
                Credentials::Library(signed_by_key(&secret()?, scope).ok_or("the service account's key cannot be used")?)
            }
            Self::Workload { audience, file, sts } => Credentials::Workload {
                audience: audience.clone(),
                subject: match file {
                    Some(path) => Subject::File(path.clone()),
                    None => Subject::Given(secret()?),
                },
                sts: sts.clone(),
            },
            Self::Ambient { scope } => Credentials::Ambient {
                scope,
                library: Mutex::default(),
            },
        })
    }

    /// The files that a login reads.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Workload { file: Some(file), .. } => vec![file.clone()],
            // The library is asked for each token, and looks at them then.
            Self::Token | Self::Key { .. } | Self::Workload { file: None, .. } | Self::Ambient { .. } => Vec::new(),
        }
    }
}

/// The files of the machine's identity, where Google's library looks for them.
fn machines_files() -> Vec<PathBuf> {
    let named = std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config/gcloud/application_default_credentials.json"));
    named.or_else(home).into_iter().collect()
}

/// Tokens signed with a service account's key, without a request.
fn signed_by_key(secret: &Secret, scope: &str) -> Option<AccessTokenCredentials> {
    let file = serde_json::from_slice(secret.expose()).ok()?;
    let scopes = AccessSpecifier::from_scopes([scope]);
    KeyBuilder::new(file)
        .with_access_specifier(scopes)
        .build_access_token_credentials()
        .ok()
}

fn ambient(scope: &str) -> Result<AccessTokenCredentials, CallError> {
    let credentials = Builder::default().with_scopes([scope]).build_access_token_credentials();
    credentials.map_err(|error| CallError::NoSource {
        advice: "The gateway's machine has no Google credentials, or they cannot be read: check GOOGLE_APPLICATION_CREDENTIALS.",
        cause: innermost(&error),
    })
}

/// A token of Google's library, which caches and renews it, so each call asks it. Whether it then
/// sends a request is not visible, so no background call is reported.
async fn of_library(credentials: &AccessTokenCredentials) -> Result<BearerToken, CallError> {
    let token = tokio::time::timeout(PATIENCE, credentials.access_token()).await;
    let token = token.map_err(|_| no_source("no response in time"))?;
    let token = token.map_err(|error| no_source(innermost(&error)))?;
    Ok(BearerToken {
        credential: Secret::new(token.token.into_bytes()),
        term: Term::lasting(Duration::ZERO),
    })
}

#[derive(Deserialize)]
struct Exchanged {
    access_token: String,
    expires_in: u64,
}

/// The token exchange of Google's Security Token Service (RFC 8693).
async fn exchange(background: &BackgroundTrace, audience: &str, subject: &Subject, sts: &Client) -> Result<BearerToken, CallError> {
    let from_file;
    let subject = match subject {
        Subject::Given(secret) => secret,
        Subject::File(path) => {
            from_file = read_word(path, MAX_SUBJECT).await.map_err(|error| no_source(error.to_string()))?;
            &from_file
        }
    };
    let subject = std::str::from_utf8(subject.expose()).map_err(|_| no_source("the token is not text"))?;
    let body = json!({
        "grantType": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": audience,
        "scope": CLOUD_SCOPE,
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
        "subjectToken": subject,
        "subjectTokenType": "urn:ietf:params:oauth:token-type:jwt",
    });
    let response = send(background, "ExchangeToken", sts, &["v1", "token"], HeaderMap::new(), &body).await?;
    let exchanged: Exchanged = serde_json::from_slice(&response.body).map_err(|_| CallError::MalformedResponse("body of STS"))?;
    Ok(BearerToken {
        credential: validated(exchanged.access_token)?,
        term: Term::lasting(Duration::from_secs(exchanged.expires_in.min(MAX_LIFETIME))),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Generated {
    access_token: String,
    expire_time: String,
}

impl Impersonation {
    /// `generateAccessToken` of the IAM Service Account Credentials API.
    ///
    /// # Errors
    /// Why there is no token.
    pub(crate) async fn token(&self, background: &BackgroundTrace, base: &BearerToken) -> Result<BearerToken, CallError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, base.header()?);
        let account = format!("{}:generateAccessToken", self.account);
        let path = ["v1", "projects", "-", "serviceAccounts", &account];
        let body = json!({"scope": [KMS_SCOPE], "lifetime": "3600s"});
        let response = send(background, "GenerateAccessToken", &self.iam, &path, headers, &body).await?;
        let malformed = || CallError::MalformedResponse("body of generateAccessToken");
        let generated: Generated = serde_json::from_slice(&response.body).map_err(|_| malformed())?;
        let end = DateTime::parse_from_rfc3339(&generated.expire_time).map_err(|_| malformed())?;
        Ok(BearerToken {
            credential: validated(generated.access_token)?,
            term: Term::until(end.into()),
        })
    }
}

fn validated(token: String) -> Result<Secret, CallError> {
    let secret = Secret::new(token.into_bytes());
    let valid = (1..=MAX_TOKEN).contains(&secret.len()) && secret.expose().iter().all(u8::is_ascii_graphic);
    if valid {
        Ok(secret)
    } else {
        Err(CallError::MalformedResponse("access token"))
    }
}

/// Sends a request to a token service, whose responses carry no request id.
async fn send(
    background: &BackgroundTrace,
    operation: &'static str,
    client: &Client,
    path: &[&str],
    headers: HeaderMap,
    body: &serde_json::Value,
) -> Result<Response, CallError> {
    let request = Request {
        method: Method::POST,
        path,
        query: &[],
        headers,
        json: Some(Zeroizing::new(body.to_string().into_bytes())),
    };
    let attempt = CallSink::from(background).begin(operation);
    let result = match client.send(request).await {
        Ok(response) if response.status.is_success() => Ok(response),
        Ok(response) => Err(refused(&response)),
        Err(error) => Err(error.into()),
    };
    attempt.finish(None, CallResult::of(&result, CallError::result));
    result
}

/// The error body of a token service: Google's own, or OAuth's (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct ErrorBody {
    error: TokenError,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum TokenError {
    Google { status: String, message: String },
    OAuth(String),
}

fn refused(response: &Response) -> CallError {
    let status = response.status.as_u16();
    let service_error = match serde_json::from_slice(&response.body) {
        Ok(ErrorBody {
            error: TokenError::Google { status: code, message },
        }) => {
            let code = Code::try_from(code.as_str()).ok();
            code.map(|code| ServiceError::of_status(code, message, retry_after(Some(&response.headers))))
        }
        Ok(ErrorBody {
            error: TokenError::OAuth(error),
        }) if status < 500 => Some(ServiceError::of_oauth(&error)),
        Ok(ErrorBody {
            error: TokenError::OAuth(_),
        })
        | Err(_) => None,
    };
    CallError::Refused(service_error.map_or(Refusal::Foreign(status), Refusal::Service))
}
