//! The token of a connection. Its life is the kit's [`Session`](claviger_provider::kit::session::Session).

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError};
use claviger_provider::kit::session::{self, BearerToken, CredentialSource, Term};
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
    /// When a refused token was last replaced.
    replaced: Mutex<Option<Instant>>,
}

impl TokenSource {
    /// Tokens of this identity, with the connection's secrets as they are at each login.
    pub(crate) fn new(identity: Identity, secrets: ConnectionSecrets, endpoint: Option<TokenEndpoint>) -> Self {
        Self {
            identity,
            secrets,
            endpoint,
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
            (Origin::Authority(credentials), Some(endpoint)) => match timeout(PATIENCE, request_token(&credentials, endpoint)).await {
                Ok(result) => result.map_err(CallError::in_login),
                Err(_) => Err(credentials.timed_out().in_login()),
            },
            (Origin::Authority(_), None) => Err(CallError::Unbuilt("a credential without an authority".to_owned())),
        }
    }

    async fn replaceable(&self, _refused: &BearerToken) -> Result<bool, CallError> {
        if self.endpoint.is_none() {
            return Ok(false);
        }
        let mut replaced = self.replaced.lock();
        let recently = replaced.is_some_and(|at| at.elapsed() < HOLD_OFF);
        if !recently {
            *replaced = Some(Instant::now());
        }
        Ok(!recently)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.secrets.paths();
        files.extend(self.identity.file());
        files
    }
}
