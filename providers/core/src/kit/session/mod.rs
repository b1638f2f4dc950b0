//! The credential of one connection: fetched when it is first needed, renewed in the background before it
//! ends, and replaced when the provider refuses it.
//!
//! - One login at a time, in a task of its own. All calls that need its result share it, and a caller that goes
//!   away does not end it. A login that gets no response is made anew after a moment, like any other call.
//! - A live credential serves until it ends, while its renewal runs or fails. Only a call without one waits, at
//!   most until its own deadline.
//! - A login that the provider refuses for good is remembered ([`CallError::is_refused_login`]): calls get the
//!   same error at once, until the secret changes (new secrets make a new session, and files are watched), the
//!   pause is over, or a check tries ([`crate::OpContext::checking`]). Otherwise every call would be a refused
//!   login, and providers lock the identity of such callers. Connections with the same identity share the refusal
//!   ([`identity`]).
//! - If the provider refuses even a new credential, something else is the cause, so further refusals fetch no
//!   credential for a while.
//! - A severed connection logs in no more: the task passes the connection's switch.
//!
//! [`CallError::is_refused_login`]: super::call_error::CallError::is_refused_login

mod attempts;
mod credential_source;
pub mod identity;
mod lifetime;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use credential_source::{CredentialSource, Standing};
pub use lifetime::{BearerToken, Expiring, Lifetime, RENEWAL_MARGIN, Term};

use tokio::time::timeout;

use super::call_error::CallError;
use crate::login_report::LoginReport;
use crate::op_context::LoginWait;
use crate::sever_switch::SeverSwitch;
use state::{Inner, Look};

/// How long a check waits for a renewal while there is a live credential.
const TRIAL: Duration = Duration::from_secs(2);

/// The credential of one connection, shared by all its calls. Clones are the same session.
pub struct Session<S: CredentialSource>(Arc<Inner<S>>);

impl<S: CredentialSource> Clone for Session<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The result of [`Session::current`].
type Fetched<S> = Result<Arc<<S as CredentialSource>::Credential>, CallError<<S as CredentialSource>::Refusal>>;

impl<S: CredentialSource> Session<S> {
    /// Creates a session without a credential. This sends no request. What becomes of its logins goes to
    /// `report`; `switch` is the connection's.
    pub fn new(source: S, report: LoginReport, switch: SeverSwitch) -> Self {
        report.begin();
        Self(Arc::new(Inner::new(source, report, switch)))
    }

    /// The source of its credentials.
    pub fn source(&self) -> &S {
        &self.0.source
    }

    /// The credential to use now. Waits for a login only where there is no live one.
    ///
    /// # Errors
    /// Why there is no credential.
    pub async fn current(&self, wait: &LoginWait) -> Fetched<S> {
        loop {
            let attempt = match self.0.look(wait) {
                Look::Ready(credential) => return Ok(credential),
                Look::Refused(error) => self.0.fetch_if_changed().await.ok_or(error)?,
                Look::Wait(attempt) => attempt,
            };
            // A check tries a renewal that fails, and goes on with the live credential if that hangs.
            let outcome = match self.0.live() {
                Some(live) => match timeout(TRIAL, attempt.outcome()).await {
                    Ok(outcome) => outcome,
                    Err(_) => return Ok(live),
                },
                None => wait.during(attempt.outcome()).await,
            };
            match outcome {
                Some(Ok(Some(credential))) => return Ok(credential),
                Some(Err(error)) => return self.0.live().ok_or(error),
                Some(Ok(None)) | None => {}
            }
        }
    }

    /// Makes one call, and once more with another credential where the first was refused for its
    /// credential. A refusal changes nothing at a provider, so a second call is safe for every
    /// operation. `refused` says whether an error is such a refusal.
    ///
    /// # Errors
    /// The call's, or why there is no credential.
    pub async fn call<T, F>(
        &self,
        wait: &LoginWait,
        refused: fn(&CallError<S::Refusal>) -> bool,
        send: impl Fn(Arc<S::Credential>) -> F,
    ) -> Result<T, CallError<S::Refusal>>
    where
        F: Future<Output = Result<T, CallError<S::Refusal>>>,
    {
        let first = self.current(wait).await?;
        let result = send(Arc::clone(&first)).await;
        self.0.learn(&first, &result, refused);
        match result {
            Err(error) if refused(&error) => {
                // Boxed: it is rare, and the future of every call would be larger by it.
                let Some(other) = Box::pin(self.replacement(&first, wait)).await? else {
                    return Err(error);
                };
                let result = send(Arc::clone(&other)).await;
                self.0.learn(&other, &result, refused);
                if result.as_ref().is_err_and(refused) {
                    self.0.both_refused(&other);
                }
                result
            }
            result => result,
        }
    }

    /// The credential that takes the place of a refused one; `None` where a second call is of no use.
    async fn replacement(
        &self,
        refused: &Arc<S::Credential>,
        wait: &LoginWait,
    ) -> Result<Option<Arc<S::Credential>>, CallError<S::Refusal>> {
        loop {
            let attempt = match self.0.look_for_other(refused, wait) {
                Some(Look::Ready(other)) => return Ok(Some(other)),
                Some(Look::Refused(error)) => self.0.fetch_if_changed().await.ok_or(error)?,
                Some(Look::Wait(attempt)) => attempt,
                // A file may have another secret by now.
                None => match self.0.fetch_if_changed().await {
                    Some(attempt) => attempt,
                    None => return Ok(None),
                },
            };
            match wait.during(attempt.outcome()).await {
                Some(Ok(Some(other))) if !Arc::ptr_eq(&other, refused) => return Ok(Some(other)),
                Some(Ok(None)) => {
                    if self.0.fetch_if_changed().await.is_none() {
                        return Ok(None);
                    }
                }
                // A renewal that failed does not say that a login would.
                Some(Err(error)) if !attempt.is_renewal() => return Err(error),
                Some(Ok(Some(_)) | Err(_)) | None => {}
            }
        }
    }
}

impl<S: CredentialSource> std::fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Session")
    }
}
