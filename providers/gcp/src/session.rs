//! The access token of a connection. Its life is the kit's
//! [`Session`](claviger_provider::kit::session::Session).

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::BackgroundTrace;
use claviger_provider::kit::session::{self, BearerToken, CredentialSource, Pauses};
use google_cloud_auth::credentials::{CacheableResource, CredentialsProvider, EntityTag};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap, header};

use crate::credentials::{Credentials, Impersonation};
use crate::errors::CallError;

/// The pause after a failed fetch while the old token is valid, and after the refusal of a new
/// token.
const PAUSE: Duration = Duration::from_secs(30);

/// The source of a connection's tokens.
pub(crate) struct TokenSource {
    pub(crate) credentials: Credentials,
    pub(crate) impersonation: Option<Impersonation>,
    pub(crate) background: BackgroundTrace,
}

impl CredentialSource for TokenSource {
    type Credential = BearerToken;
    type Error = CallError;

    async fn fetch(&self, _previous: Option<&BearerToken>) -> Result<BearerToken, CallError> {
        let fetch = async {
            let base = self.credentials.token(&self.background).await?;
            match &self.impersonation {
                Some(impersonation) => impersonation.token(&self.background, &base).await,
                None => Ok(base),
            }
        };
        fetch.await.map_err(CallError::in_login)
    }

    async fn replaceable(&self, _refused: &BearerToken) -> Result<bool, CallError> {
        Ok(self.credentials.renewable() || self.impersonation.is_some())
    }
}

/// The session of one connection, also as the credentials of Google's client.
#[derive(Debug, Clone)]
pub(crate) struct Session(Arc<session::Session<TokenSource>>);

impl Session {
    /// Creates a session without a token. This sends no request.
    pub(crate) fn new(source: TokenSource) -> Self {
        let pauses = Pauses {
            fetch: PAUSE,
            refusal: PAUSE,
        };
        Self(Arc::new(session::Session::new(source, pauses)))
    }

    /// Makes one call, and once more with another token where the first was refused for its token.
    ///
    /// # Errors
    /// The call's, or why there is no token.
    pub(crate) async fn call<T, F>(&self, refused: fn(&CallError) -> bool, send: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        // Google's client gets the same token from `headers`.
        self.0.call(refused, |_token| send()).await
    }
}

impl CredentialsProvider for Session {
    async fn headers(&self, _: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let failed = |_| CredentialsError::from_msg(false, "no access token");
        let token = self.0.current().await.map_err(failed)?;
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
