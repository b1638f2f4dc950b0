//! Where credentials come from.

use std::path::PathBuf;
use std::time::Duration;

use super::identity::Membership;
use super::lifetime::Lifetime;
use crate::kit::call_error::{CallError, Refusal};

/// The first pause after a refused login. It doubles with each further one.
const REFUSAL_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause after a refused login.
const LONGEST_REFUSAL_PAUSE: Duration = Duration::from_secs(60);

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

/// The pause after a refused login with the same secret, the `refusals`-th in a row, from 1: 15, 30, then 60 seconds.
pub(super) fn refusal_pause(refusals: u32) -> Duration {
    let doubled = REFUSAL_PAUSE.saturating_mul(1 << refusals.saturating_sub(1).min(8));
    doubled.min(LONGEST_REFUSAL_PAUSE)
}
