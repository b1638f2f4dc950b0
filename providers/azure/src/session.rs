//! The token of a connection. Its life is the kit's [`Session`](claviger_provider::kit::session::Session).

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError};
use claviger_provider::kit::session::identity::Membership;
use claviger_provider::kit::session::{self, BearerToken, CredentialSource, Standing, Term};
use claviger_provider::{LoginReport, Secret, SeverSwitch};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::credentials::{Credentials, Identity, Origin, TokenEndpoint};
use crate::errors::{CallError, Refusal, call_error};

/// A refused token is replaced at most once in this time. A vault that refuses again refuses the
/// identity, not the token.
const HOLD_OFF: Duration = Duration::from_secs(30);
/// The longest wait for a token: less than one attempt of the pipeline, so that the error names
/// the reason. The SDK would wait more than a minute for a machine's identity.
const PATIENCE: Duration = Duration::from_millis(2500);

/// The token of one connection.
pub(crate) type Session = session::Session<TokenSource>;

/// The source of a connection's tokens.
pub(crate) struct TokenSource {
    identity: Identity,
    secrets: ConnectionSecrets,
    /// The authority that issues tokens; `None` for a token that the settings contain, of which only the vault
    /// knows when it expires.
    endpoint: Option<TokenEndpoint>,
    /// `None` for an identity that no other connection logs in with, or not with a secret of its own.
    membership: Option<Membership<Refusal>>,
    /// When a refused token was last replaced.
    replaced: Mutex<Option<Instant>>,
}

impl TokenSource {
    /// Tokens of this identity, with the connection's secrets as they are at each login.
    pub(crate) fn new(
        identity: Identity,
        secrets: ConnectionSecrets,
        endpoint: Option<TokenEndpoint>,
        membership: Option<Membership<Refusal>>,
    ) -> Self {
        Self {
            identity,
            secrets,
            endpoint,
            membership,
            replaced: Mutex::default(),
        }
    }

    /// Creates the session of a connection with these tokens. This sends no request.
    pub(crate) fn session(self, report: LoginReport, switch: SeverSwitch) -> Session {
        Session::new(self, report, switch)
    }
}

async fn request_token(credentials: &Credentials, endpoint: &TokenEndpoint) -> Result<BearerToken, CallError> {
    // Create a new credential each time, because the files that it is created from may have
    // changed.
    let credential = credentials.sdk_credential(endpoint).await?;
    let token = credential.get_token(&[&endpoint.scope], None).await.map_err(call_error)?;
    Ok(BearerToken {
        credential: Secret::copy_from(token.token.secret().as_bytes()),
        term: Term::until(system_time(token.expires_on.unix_timestamp())),
    })
}

fn system_time(unix: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or_default())
}

impl CredentialSource for TokenSource {
    type Credential = BearerToken;
    type Refusal = Refusal;

    async fn fetch(&self, _previous: Option<&BearerToken>) -> Result<BearerToken, CallError> {
        let unusable = |cause: String| CallError::NoSource {
            advice: SecretsError::ADVICE,
            cause,
        };
        let secrets = self.secrets.read().await.map_err(|error| unusable(error.to_string()).in_login())?;
        let origin = self.identity.origin(&secrets).map_err(|why| unusable(why.to_owned()).in_login())?;
        match (origin, &self.endpoint) {
            (Origin::Token(credential), _) => Ok(BearerToken {
                credential,
                term: Term::ENDLESS,
            }),
            (Origin::Authority(credentials), Some(endpoint)) => {
                let login = async {
                    let requested = timeout(PATIENCE, request_token(&credentials, endpoint)).await;
                    requested.unwrap_or_else(|_| Err(credentials.timed_out()))
                };
                let result = match &self.membership {
                    Some(membership) => {
                        // Entra locks no application.
                        let ready = std::future::ready(Ok(()));
                        membership.login(&secrets, ready, login).await
                    }
                    None => login.await,
                };
                result.map_err(|error| match error {
                    error @ CallError::NoCredential { .. } => error,
                    other => other.in_login(),
                })
            }
            (Origin::Authority(_), None) => Err(CallError::Unbuilt("a credential without an authority".to_owned())),
        }
    }

    async fn standing(&self, _refused: &BearerToken) -> Result<Standing, CallError> {
        if self.endpoint.is_none() {
            return Ok(Standing::Only { accepted: Some(false) });
        }
        let mut replaced = self.replaced.lock();
        if replaced.is_some_and(|at| at.elapsed() < HOLD_OFF) {
            return Ok(Standing::Accepted);
        }
        *replaced = Some(Instant::now());
        Ok(Standing::Replaceable)
    }

    /// A vault sees a given token with the first call alone.
    fn is_proven(&self, _token: &BearerToken) -> bool {
        self.endpoint.is_some()
    }

    fn membership(&self) -> Option<&Membership<Refusal>> {
        self.membership.as_ref()
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.secrets.paths();
        files.extend(self.identity.file());
        files
    }
}
