//! The session of one connection: the credentials that sign its calls.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use claviger_provider::kit::session::{self, CredentialSource, Expiring, Expiry, Pauses};

use crate::errors::{CallError, of_credentials};

const PAUSES: Pauses = Pauses {
    fetch: Duration::from_secs(30),
    refusal: Duration::from_secs(30),
};

/// The SDK's provider of credentials, as the kit's session asks it.
pub(crate) struct SdkSource {
    provider: SharedCredentialsProvider,
    /// Whether it can provide other credentials. A given access key is the only one.
    renewable: bool,
}

impl CredentialSource for SdkSource {
    type Credential = Expiring<Credentials>;
    type Error = NoCredentials;

    async fn fetch(&self, _: Option<&Expiring<Credentials>>) -> Result<Expiring<Credentials>, NoCredentials> {
        let credential = self.provider.provide_credentials().await.map_err(NoCredentials)?;
        let expiry = credential.expiry().map_or_else(Expiry::never, Expiry::at);
        Ok(Expiring { credential, expiry })
    }

    async fn replaceable(&self, _: &Expiring<Credentials>) -> Result<bool, NoCredentials> {
        Ok(self.renewable)
    }
}

/// The SDK's reason why there are no credentials.
pub(crate) struct NoCredentials(CredentialsError);

impl From<NoCredentials> for CallError {
    fn from(NoCredentials(error): NoCredentials) -> Self {
        of_credentials(&error)
    }
}

/// The session that a connection's clients share.
#[derive(Debug, Clone)]
pub(crate) struct Session(Arc<session::Session<SdkSource>>);

impl Session {
    pub(crate) fn new(provider: SharedCredentialsProvider, renewable: bool) -> Self {
        Self(Arc::new(session::Session::new(SdkSource { provider, renewable }, PAUSES)))
    }

    /// Makes one call, and once more with other credentials where the first was refused for its
    /// own. See [`session::Session::call`].
    ///
    /// # Errors
    /// The call's, or why there are no credentials.
    pub(crate) async fn call<T, F>(&self, refused: fn(&CallError) -> bool, send: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        // The SDK asks this session for the credentials when it signs.
        self.0.call(refused, |_| send()).await
    }
}

impl ProvideCredentials for Session {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let current = self.0.current().await.map_err(|NoCredentials(error)| error)?;
            Ok(current.credential.clone())
        })
    }
}
