//! The token of a connection: got when it is first needed, and anew when the vault has refused it.
//!
//! The SDK asks for a token of the scope that a vault's challenge names. Here it gets one of the
//! connection's own scope, whatever was asked for: a challenge never decides what a token is good
//! for, nor who gives it out.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::error::ErrorKind;
use claviger_provider::Secret;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::credential::{Login, Source};
use crate::transport::Lost;

/// After a token was replaced, for so long no refusal leads to another one: it is the vault that
/// does not take this identity.
const HOLD_OFF: Duration = Duration::from_secs(30);
/// The longest wait for a token. Below an attempt of the pipeline's, so that the reason is told;
/// the SDK itself would ask a machine's identity for more than a minute.
const PATIENCE: Duration = Duration::from_millis(2500);

#[derive(Default)]
struct Given {
    /// The token that was given out last.
    last: Option<Secret>,
    /// It was refused: the next one is to be a new one.
    refused: bool,
    hold_off: Option<Instant>,
}

/// Where a connection's tokens come from.
pub(crate) struct Session {
    source: Source,
    login: Login,
    /// `None` until the first token, and after one was refused.
    credential: tokio::sync::Mutex<Option<Arc<dyn TokenCredential>>>,
    given: Mutex<Given>,
}

impl Session {
    pub(crate) fn new(source: Source, login: Login) -> Arc<Self> {
        Arc::new(Self {
            source,
            login,
            credential: tokio::sync::Mutex::default(),
            given: Mutex::default(),
        })
    }

    /// Notes that the vault has refused this token.
    pub(crate) fn refused(&self, token: &str) {
        let mut given = self.given.lock();
        let current = given.last.as_ref().is_some_and(|last| *last == Secret::copy_from(token.as_bytes()));
        let held = given.hold_off.is_some_and(|until| until > Instant::now());
        if current && !held {
            given.refused = true;
            given.hold_off = Some(Instant::now() + HOLD_OFF);
        }
    }

    async fn token(&self) -> azure_core::Result<AccessToken> {
        let mut credential = self.credential.lock().await;
        if std::mem::take(&mut self.given.lock().refused) {
            *credential = None;
        }
        let current = match &*credential {
            Some(current) => Arc::clone(current),
            None => {
                let fresh = self.source.credential(&self.login).await?;
                *credential = Some(Arc::clone(&fresh));
                fresh
            }
        };
        let token = match current.get_token(&[&self.login.scope], None).await {
            Ok(token) => token,
            Err(error) => {
                // What it was made from may be another by now.
                *credential = None;
                return Err(error);
            }
        };
        self.given.lock().last = Some(Secret::copy_from(token.token.secret().as_bytes()));
        Ok(token)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

#[async_trait::async_trait]
impl TokenCredential for Session {
    async fn get_token(&self, _: &[&str], _: Option<TokenRequestOptions<'_>>) -> azure_core::Result<AccessToken> {
        match timeout(PATIENCE, self.token()).await {
            // Whatever went wrong, the SDK's own credentials mark it as theirs; so do we.
            Ok(result) => result.map_err(|error| azure_core::Error::with_error(ErrorKind::Credential, error, "no token")),
            Err(_) => Err(azure_core::Error::with_error(
                ErrorKind::Credential,
                self.source.silent(),
                "no token",
            )),
        }
    }
}

impl Source {
    /// What it means when nobody gives out a token in time.
    fn silent(&self) -> Lost {
        match self {
            Self::ManagedIdentity { .. } => Lost::NoCredential(
                "No managed identity answers on the gateway's machine: it must run in Azure and have one, or the connection another `auth`.",
            ),
            Self::Static(_)
            | Self::ClientSecret { .. }
            | Self::Certificate { .. }
            | Self::Federated { .. }
            | Self::TokenFile { .. }
            | Self::Application { .. } => Lost::Late,
        }
    }
}
