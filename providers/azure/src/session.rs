//! The token of a connection. Its life is the kit's [`Session`](claviger_provider::kit::session::Session).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claviger_provider::Secret;
use claviger_provider::kit::session::{self, BearerToken, CredentialSource, Expiry, Pauses};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::credentials::{Credentials, TokenEndpoint};
use crate::errors::{CallError, call_error};

/// A refused token is replaced at most once in this time. A vault that refuses again refuses the
/// identity, not the token.
const HOLD_OFF: Duration = Duration::from_secs(30);
/// The longest wait for a token: less than one attempt of the pipeline, so that the error names
/// the reason. The SDK would wait more than a minute for a machine's identity.
const PATIENCE: Duration = Duration::from_millis(2500);

/// The token of one connection.
pub(crate) type Session = session::Session<TokenSource>;

/// The source of a connection's tokens.
pub(crate) enum TokenSource {
    /// The settings contain the token. Only the vault knows when it expires.
    Static(Secret),
    /// The authority issues tokens for a credential.
    Authority {
        credentials: Credentials,
        endpoint: TokenEndpoint,
        /// When a refused token was last replaced.
        replaced: Mutex<Option<Instant>>,
    },
}

impl TokenSource {
    /// Tokens that the authority issues for a credential.
    pub(crate) fn authority(credentials: Credentials, endpoint: TokenEndpoint) -> Self {
        Self::Authority {
            credentials,
            endpoint,
            replaced: Mutex::default(),
        }
    }

    /// Creates the session of a connection with these tokens. This sends no request.
    pub(crate) fn session(self) -> Session {
        Session::new(
            self,
            Pauses {
                fetch: HOLD_OFF,
                refusal: HOLD_OFF,
            },
        )
    }
}

async fn request_token(credentials: &Credentials, endpoint: &TokenEndpoint) -> Result<BearerToken, CallError> {
    // Create a new credential each time, because the files that it is created from may have
    // changed.
    let credential = credentials.sdk_credential(endpoint).await?;
    let token = credential.get_token(&[&endpoint.scope], None).await.map_err(call_error)?;
    Ok(BearerToken {
        credential: Secret::copy_from(token.token.secret().as_bytes()),
        expiry: Expiry::at(system_time(token.expires_on.unix_timestamp())),
    })
}

fn system_time(unix: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or_default())
}

impl CredentialSource for TokenSource {
    type Credential = BearerToken;
    type Error = CallError;

    async fn fetch(&self, _previous: Option<&BearerToken>) -> Result<BearerToken, CallError> {
        match self {
            Self::Static(token) => Ok(BearerToken {
                credential: Secret::copy_from(token.expose()),
                expiry: Expiry::never(),
            }),
            Self::Authority { credentials, endpoint, .. } => match timeout(PATIENCE, request_token(credentials, endpoint)).await {
                Ok(result) => result.map_err(CallError::in_login),
                Err(_) => Err(credentials.timed_out().in_login()),
            },
        }
    }

    async fn replaceable(&self, _refused: &BearerToken) -> Result<bool, CallError> {
        Ok(match self {
            Self::Static(_) => false,
            Self::Authority { replaced, .. } => {
                let mut replaced = replaced.lock();
                let recently = replaced.is_some_and(|at| at.elapsed() < HOLD_OFF);
                if !recently {
                    *replaced = Some(Instant::now());
                }
                !recently
            }
        })
    }
}
