//! The access token of a connection. Its life is the kit's
//! [`Session`](claviger_provider::kit::session::Session).

use std::path::PathBuf;
use std::sync::Arc;

use claviger_provider::kit::secrets::{ConnectionSecrets, SecretsError};
use claviger_provider::kit::session::{self, BearerToken, CredentialSource, Standing};
use claviger_provider::kit::settings::Secrets;
use claviger_provider::{BackgroundTrace, LoginReport, LoginWait, SeverSwitch};
use google_cloud_auth::credentials::{CacheableResource, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap, header};
use parking_lot::Mutex;

use crate::credentials::{Credentials, Identity, Impersonation};
use crate::errors::{CallError, Refusal};

/// The source of a connection's tokens.
pub(crate) struct TokenSource {
    identity: Identity,
    secrets: ConnectionSecrets,
    /// The credentials, and the secrets that they were made from.
    made: Mutex<(Arc<Secrets>, Arc<Credentials>)>,
    impersonation: Option<Impersonation>,
    background: BackgroundTrace,
}

impl TokenSource {
    /// Sends no request.
    ///
    /// # Errors
    /// Why the secrets cannot be used.
    pub(crate) fn new(
        identity: Identity,
        secrets: ConnectionSecrets,
        impersonation: Option<Impersonation>,
        background: BackgroundTrace,
    ) -> Result<Self, &'static str> {
        let latest = secrets.latest();
        let made = Arc::new(identity.credentials(&latest)?);
        Ok(Self {
            identity,
            secrets,
            made: Mutex::new((latest, made)),
            impersonation,
            background,
        })
    }

    /// The credentials with the secrets as they are now.
    async fn credentials(&self) -> Result<Arc<Credentials>, CallError> {
        let unusable = |cause: String| CallError::NoSource {
            advice: SecretsError::ADVICE,
            cause,
        };
        let secrets = self.secrets.read().await.map_err(|error| unusable(error.to_string()))?;
        let mut made = self.made.lock();
        if !Arc::ptr_eq(&made.0, &secrets) {
            let credentials = self.identity.credentials(&secrets).map_err(|why| unusable(why.to_owned()))?;
            *made = (secrets, Arc::new(credentials));
        }
        Ok(Arc::clone(&made.1))
    }
}

impl CredentialSource for TokenSource {
    type Credential = BearerToken;
    type Refusal = Refusal;

    async fn fetch(&self, _previous: Option<&BearerToken>) -> Result<BearerToken, CallError> {
        let fetch = async {
            let base = self.credentials().await?.token(&self.background).await?;
            match &self.impersonation {
                Some(impersonation) => impersonation.token(&self.background, &base).await,
                None => Ok(base),
            }
        };
        fetch.await.map_err(CallError::in_login)
    }

    async fn standing(&self, _refused: &BearerToken) -> Result<Standing, CallError> {
        Ok(match self.made.lock().1.renewable() || self.impersonation.is_some() {
            true => Standing::Replaceable,
            false => Standing::Only { accepted: Some(false) },
        })
    }

    /// Google sees a given token with the first call alone.
    fn is_proven(&self, _token: &BearerToken) -> bool {
        self.impersonation.is_some() || !matches!(self.identity, Identity::Token)
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.secrets.paths();
        files.extend(self.identity.files());
        files
    }
}

/// The session of one connection, also as the credentials of Google's client.
#[derive(Debug, Clone)]
pub(crate) struct Session(session::Session<TokenSource>);

impl Session {
    /// Creates a session without a token. This sends no request.
    pub(crate) fn new(source: TokenSource, report: LoginReport, switch: SeverSwitch) -> Self {
        Self(session::Session::new(source, report, switch))
    }

    /// Makes one call, and once more with another token where the first was refused for its token.
    ///
    /// # Errors
    /// The call's, or why there is no token.
    pub(crate) async fn call<T, F>(&self, wait: &LoginWait, refused: fn(&CallError) -> bool, send: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        // Google's client gets the same token from `headers`.
        self.0.call(wait, refused, |_token| send()).await
    }
}

impl CredentialsProvider for Session {
    async fn headers(&self, _: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let failed = |_| CredentialsError::from_msg(false, "no access token");
        let token = self.0.current(&LoginWait::default()).await.map_err(failed)?;
        let mut data = HeaderMap::new();
        data.insert(header::AUTHORIZATION, token.header().map_err(failed)?);
        Ok(CacheableResource::New {
            entity_tag: EntityTag::new(),
            data,
        })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}
