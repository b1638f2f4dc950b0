//! The identities that connections log in with, each at one service: several connections may share one.
//!
//! Key services lock an identity whose logins are refused often, for all who use it. So refusals are counted for
//! the identity, and not for each connection:
//!
//! - A secret that was not accepted yet is tried by one login at a time. The connections that wait share its
//!   refusal, and the pause after it.
//! - Once the secret is accepted, [`TURNS`] logins run at once, and connections that share a refusal try again.
//! - A check tries a refused secret again at once, but never so often that the service locks the identity.
//! - Each tenant's own connections are apart from those that the operator declares: a tenant may put a proxy of its
//!   own before the service, which must delay or refuse nobody else's logins. One refused login of all tenants' own
//!   connections is as much as an identity takes that the operator declares, too.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::ids::TenantId;
use crate::kit::call_error::{CallError, Refusal};
use crate::kit::settings::Secrets;
use crate::login_report::LoginReport;

/// The first pause after a refused login. It doubles with each further one.
const REFUSAL_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause after a refused login.
const LONGEST_REFUSAL_PAUSE: Duration = Duration::from_secs(60);

/// How many logins run at once. If a secret that was accepted before is refused by now, as many are refused at once, so
/// it is few.
const TURNS: usize = 2;
/// The most refused secrets of an identity that are remembered. One more replaces the oldest.
const MAX_REFUSED: usize = 16;
/// The most accepted secrets of an identity that are remembered.
const MAX_ACCEPTED: usize = 8;
/// The number of identities from which on those that no connection uses are forgotten.
const MAX_UNUSED: usize = 1024;

/// When a service locks an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lockout {
    /// How often a secret may be refused before the pause: at least two less than the service takes.
    pub refusals: u32,
    /// The pause after that: longer than the service counts.
    pub pause: Duration,
}

/// The identities of one provider's connections. Clones are the same.
pub struct Identities<R>(Arc<Mutex<HashMap<Name, Arc<Identity<R>>>>>);

impl<R> Clone for Identities<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> Default for Identities<R> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    /// The tenant of its own connections; `None` for those that the operator declares.
    tenant: Option<TenantId>,
    /// The service and the identity there, as the adapter writes them.
    identity: String,
}

struct Identity<R> {
    /// Each login takes one.
    turns: Semaphore,
    /// Taken by a login with a secret that was not accepted yet.
    unproven: tokio::sync::Mutex<()>,
    hasher: RandomState,
    known: Mutex<Known<R>>,
}

struct Known<R> {
    accepted: Vec<u64>,
    refused: Vec<Arc<RefusedSecret<R>>>,
    /// When a login of a tenant's own connection with this identity of the operator's was refused, or began.
    foreign: Option<Instant>,
}

/// A secret that the service refused.
struct RefusedSecret<R> {
    mark: u64,
    error: CallError<R>,
    /// How often it was refused.
    times: u32,
    until: Instant,
    /// It was accepted since.
    is_over: AtomicBool,
}

impl<R> Default for Identity<R> {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(TURNS),
            unproven: tokio::sync::Mutex::default(),
            hasher: RandomState::new(),
            known: Mutex::new(Known {
                accepted: Vec::new(),
                refused: Vec::new(),
                foreign: None,
            }),
        }
    }
}

impl<R: Refusal> Identities<R> {
    /// The part of one connection in the identity that it logs in with. `identity` names the service and the identity
    /// there.
    pub fn join(&self, identity: String, lockout: Option<Lockout>, report: &LoginReport) -> Membership<R> {
        let name = Name {
            tenant: report.own_tenant(),
            identity,
        };
        let mut all = self.0.lock();
        if all.len() >= MAX_UNUSED {
            all.retain(|_, identity| Arc::strong_count(identity) > 1 || identity.is_paused());
        }
        let identity = Arc::clone(all.entry(name.clone()).or_default());
        drop(all);
        Membership {
            identities: self.clone(),
            identity,
            name,
            lockout,
            last: Mutex::new(None),
            trial: AtomicBool::new(false),
        }
    }

    /// The operator's connections with the identity of this tenant's own connection.
    fn operators(&self, name: &Name) -> Option<Arc<Identity<R>>> {
        name.tenant?;
        let of_operator = Name {
            tenant: None,
            identity: name.identity.clone(),
        };
        self.0.lock().get(&of_operator).cloned()
    }
}

impl<R: Refusal> Identity<R> {
    /// What tells secrets apart: a hash with a secret key of the process, which is stored nowhere.
    fn mark(&self, secrets: &Secrets) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        for (name, secret) in secrets {
            name.hash(&mut hasher);
            secret.expose().hash(&mut hasher);
        }
        hasher.finish()
    }

    fn is_accepted(&self, mark: u64) -> bool {
        self.known.lock().accepted.contains(&mark)
    }

    /// Whether a refusal is remembered whose pause is not over.
    fn is_paused(&self) -> bool {
        let now = Instant::now();
        self.known.lock().refused.iter().any(|refused| refused.until > now)
    }

    /// The refusal of this secret, if its pause is not over.
    fn refusal(&self, mark: u64) -> Option<Arc<RefusedSecret<R>>> {
        let now = Instant::now();
        let known = self.known.lock();
        let refused = known.refused.iter().find(|refused| refused.mark == mark && refused.until > now);
        refused.cloned()
    }

    fn accept(&self, mark: u64) {
        let mut known = self.known.lock();
        if !known.accepted.contains(&mark) {
            if known.accepted.len() >= MAX_ACCEPTED {
                known.accepted.remove(0);
            }
            known.accepted.push(mark);
        }
        known.refused.retain(|refused| {
            let other = refused.mark != mark;
            if !other {
                refused.is_over.store(true, Ordering::Relaxed);
            }
            other
        });
    }

    fn refuse(&self, mark: u64, error: CallError<R>, lockout: Option<Lockout>) -> Arc<RefusedSecret<R>> {
        let mut known = self.known.lock();
        known.accepted.retain(|accepted| *accepted != mark);
        let before = known.refused.iter().position(|refused| refused.mark == mark);
        let times = before.map_or(0, |at| known.refused.remove(at).times).saturating_add(1);
        let pause = match lockout {
            Some(lockout) if times >= lockout.refusals => lockout.pause,
            Some(_) | None => refusal_pause(times),
        };
        let refused = Arc::new(RefusedSecret {
            mark,
            error,
            times,
            until: Instant::now() + pause,
            is_over: AtomicBool::new(false),
        });
        if known.refused.len() >= MAX_REFUSED {
            known.refused.remove(0);
        }
        known.refused.push(Arc::clone(&refused));
        refused
    }
}

/// The part of one connection in an identity.
pub struct Membership<R> {
    identities: Identities<R>,
    identity: Arc<Identity<R>>,
    name: Name,
    lockout: Option<Lockout>,
    /// The refusal that the connection got last.
    last: Mutex<Option<Arc<RefusedSecret<R>>>>,
    trial: AtomicBool,
}

/// The right of a tenant's own connection to one refused login with an identity of the operator's. It is given back
/// unless the login was refused.
struct Foreign<R> {
    operators: Arc<Identity<R>>,
    is_used: bool,
}

impl<R> Drop for Foreign<R> {
    fn drop(&mut self) {
        if !self.is_used {
            self.operators.known.lock().foreign = None;
        }
    }
}

impl<R: Refusal> Membership<R> {
    /// Makes a login with these secrets, or returns the refusal that it would get.
    ///
    /// # Errors
    /// The login's. [`CallError::NoCredential`] that is repeated if the secrets were refused a moment ago;
    /// [`CallError::NoSource`] if a tenant's own connection could lock an identity of the operator's.
    pub async fn login<T>(&self, secrets: &Secrets, login: impl Future<Output = Result<T, CallError<R>>>) -> Result<T, CallError<R>> {
        let mark = self.identity.mark(secrets);
        let alone = match self.identity.is_accepted(mark) {
            true => None,
            // It may be accepted while this one waits.
            false => Some(self.identity.unproven.lock().await).filter(|_| !self.identity.is_accepted(mark)),
        };
        // It is never closed, so there always is a turn.
        let turn = self.identity.turns.acquire().await.ok();
        let foreign = self.lockout.filter(|_| !self.identity.is_accepted(mark));
        let foreign = foreign.and_then(|lockout| Some((lockout, self.identities.operators(&self.name)?)));
        let lockout = match &foreign {
            Some((lockout, _)) => Some(Lockout { refusals: 1, ..*lockout }),
            None => self.lockout,
        };
        if let Some(refused) = self.identity.refusal(mark) {
            let is_trial = self.trial.swap(false, Ordering::Relaxed);
            let may_try = lockout.is_none_or(|lockout| refused.times < lockout.refusals);
            if !(is_trial && may_try) {
                let error = refused.error.clone().repeated();
                *self.last.lock() = Some(refused);
                return Err(error);
            }
        }
        let mut foreign = foreign.map(|(lockout, operators)| Self::foreign(operators, lockout)).transpose()?;
        let result = login.await;
        let refusal = result.as_ref().err().map(|error| error.clone().in_login());
        let refused = match refusal {
            None => {
                self.identity.accept(mark);
                None
            }
            Some(error) if error.is_refused_login() => {
                if let Some(foreign) = &mut foreign {
                    foreign.is_used = true;
                }
                Some(self.identity.refuse(mark, error, lockout))
            }
            // It says nothing about the secret.
            Some(_) => return result,
        };
        *self.last.lock() = refused;
        // The next one must find what became of this one.
        drop((turn, alone));
        result
    }

    /// The right to a login that the service may refuse.
    fn foreign(operators: Arc<Identity<R>>, lockout: Lockout) -> Result<Foreign<R>, CallError<R>> {
        let now = Instant::now();
        let mut known = operators.known.lock();
        if known.foreign.is_some_and(|at| now - at < lockout.pause) {
            return Err(CallError::NoSource {
                advice: "The operator's configuration declares a connection with this identity, which the service would lock for all \
                         after more refused logins. Use the declared connection, or an identity of your own.",
                cause: "a login of a tenant's own connection with an identity of the operator's was refused a moment ago".to_owned(),
            });
        }
        known.foreign = Some(now);
        drop(known);
        Ok(Foreign { operators, is_used: false })
    }

    /// Whether the next login also tries a secret that was refused, if that locks nothing.
    pub(super) fn set_trial(&self, trial: bool) {
        self.trial.store(trial, Ordering::Relaxed);
    }

    /// The pause after the refusal that the connection got last, as it is shared.
    pub(super) fn pause(&self) -> Option<Duration> {
        let last = self.last.lock();
        last.as_ref().map(|last| last.until.saturating_duration_since(Instant::now()))
    }

    /// Whether another connection logged in with the secret that this one was refused for.
    pub(super) fn is_over(&self) -> bool {
        let last = self.last.lock();
        last.as_ref().is_some_and(|last| last.is_over.load(Ordering::Relaxed))
    }
}

/// The pause after a refused login with the same secret, the `refusals`-th in a row, from 1: 15, 30, then 60 seconds.
pub(super) fn refusal_pause(refusals: u32) -> Duration {
    let doubled = REFUSAL_PAUSE.saturating_mul(1 << refusals.saturating_sub(1).min(8));
    doubled.min(LONGEST_REFUSAL_PAUSE)
}
