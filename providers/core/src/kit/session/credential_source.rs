//! Where credentials come from.

use std::path::PathBuf;

use super::identity::Membership;
use super::lifetime::Lifetime;
use crate::kit::call_error::{CallError, Refusal};

/// What a refusal says about a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Another credential may be accepted.
    Replaceable,
    /// The provider still accepts it, so it would refuse another one, too.
    Accepted,
    /// There is no other one.
    Only {
        /// Whether the provider still accepts it; `None` where nobody can tell.
        accepted: Option<bool>,
    },
}

/// Where a connection's credentials come from: what an adapter implements.
pub trait CredentialSource: Send + Sync + 'static {
    /// The credential. It is shared by calls that run at the same time.
    type Credential: Lifetime;
    /// A refusal in the provider's words.
    type Refusal: Refusal;

    /// Fetches a credential, with the secrets as they are now. `previous` is the live credential that is due,
    /// for a source that can renew credentials; `None` where another one is wanted.
    ///
    /// # Errors
    /// Why no credential could be fetched. What concerns the login is [`CallError::NoCredential`].
    fn fetch(&self, previous: Option<&Self::Credential>)
    -> impl Future<Output = Result<Self::Credential, CallError<Self::Refusal>>> + Send;

    /// What becomes of a credential with which the provider refused a call.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn standing(&self, refused: &Self::Credential) -> impl Future<Output = Result<Standing, CallError<Self::Refusal>>> + Send;

    /// Whether the provider accepted this credential when it was fetched. `false` for a given one, which the provider
    /// sees with the first call alone.
    fn is_proven(&self, _credential: &Self::Credential) -> bool {
        true
    }

    /// The connection's part in the identity that it logs in with; `None` where no other connection logs in with the
    /// same, or nothing follows from refused logins.
    fn membership(&self) -> Option<&Membership<Self::Refusal>> {
        None
    }

    /// The files that a fetch reads. When one of them changes, another credential is fetched.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Whether a credential is renewed also while no call is made, because nothing could replace it.
    fn is_kept(&self, _credential: &Self::Credential) -> bool {
        false
    }
}
