//! The session of one connection: the credentials that sign its calls.

use std::path::PathBuf;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use claviger_provider::kit::session::{self, CredentialSource, Expiring, Standing, Term};
use claviger_provider::{LoginReport, LoginWait, SeverSwitch};

use crate::credentials::Identity;
use crate::errors::{CallError, LoginFailed, Refusal};

/// A connection's identity, as the kit's session asks it for credentials.
pub(crate) struct SdkSource(Arc<Identity>);

impl CredentialSource for SdkSource {
    type Credential = Expiring<Credentials>;
    type Refusal = Refusal;

    async fn fetch(&self, _: Option<&Expiring<Credentials>>) -> Result<Expiring<Credentials>, CallError> {
        let credential = self.0.credentials().await.map_err(|error| match error {
            error @ CallError::NoCredential { .. } => error,
            other => other.in_login(),
        })?;
        let term = credential.expiry().map_or(Term::ENDLESS, Term::until);
        Ok(Expiring { credential, term })
    }

    async fn standing(&self, _: &Expiring<Credentials>) -> Result<Standing, CallError> {
        Ok(match self.0.auth.renewable() {
            true => Standing::Replaceable,
            false => Standing::Only { accepted: Some(false) },
        })
    }

    /// AWS sees an access key with the first call alone.
    fn is_proven(&self, _: &Expiring<Credentials>) -> bool {
        self.0.auth.renewable()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.0.files()
    }
}

/// The session that a connection's clients share.
#[derive(Debug, Clone)]
pub(crate) struct Session(session::Session<SdkSource>);

impl Session {
    pub(crate) fn new(identity: Arc<Identity>, report: LoginReport, switch: SeverSwitch) -> Self {
        Self(session::Session::new(SdkSource(identity), report, switch))
    }

    /// Makes one call, and once more with other credentials where the first was refused for its
    /// own. See [`session::Session::call`].
    ///
    /// # Errors
    /// The call's, or why there are no credentials.
    pub(crate) async fn call<T, F>(&self, wait: &LoginWait, refused: fn(&CallError) -> bool, send: impl Fn() -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        // The SDK asks this session for the credentials when it signs.
        self.0.call(wait, refused, |_| send()).await
    }
}

impl ProvideCredentials for Session {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let current = self.0.current(&LoginWait::default()).await;
            let current = current.map_err(|error| CredentialsError::provider_error(LoginFailed(error)))?;
            Ok(current.credential.clone())
        })
    }
}
