//! The identities that connections log in with, each at one service: several connections may share one.
//!
//! Key services lock an identity whose logins are refused often, for all who use it. So refusals are counted for
//! the identity, and not for each connection:
//!
//! - A secret that was not accepted yet is tried by one login at a time. The connections that wait share its
//!   refusal, and the pause after it.
//! - Once the secret is accepted, [`TURNS`] logins run at once, and connections that share a refusal try again.
//! - A check tries a refused secret again at once, but never so often that the service locks the identity.
//! - Where the service locks identities, a login that was sent and got no response counts as refused: the service may
//!   have counted it. So the service is first asked whether it responds at all, and the login then has more time. The
//!   exception is a login that the gateway itself cut off, by a sever for example, whose secret was accepted before:
//!   a tenant who severs and restores could otherwise keep all others from their logins.
//! - Each tenant's own connections are apart from those that the operator declares: a tenant may put a proxy of its
//!   own before the service, which must delay or refuse nobody else's logins. What is accepted through one proxy is
//!   not accepted through another. What such connections may do with a declared identity: [`declared`].

mod declared;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turns;

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use self::declared::{Declared, Guard, Right};
use crate::ErrorKind;
use crate::ids::{ConnectionId, TenantId};
use crate::kit::call_error::{CallError, Refusal};
use crate::kit::settings::Secrets;
use crate::login_report::LoginReport;
use crate::op_context::LoginWait;

/// The first pause after a refused login. It doubles with each further one.
const REFUSAL_PAUSE: Duration = Duration::from_secs(15);
/// The longest pause after a refused login.
const LONGEST_REFUSAL_PAUSE: Duration = Duration::from_secs(60);

/// The time of a login's last attempt, and of one that counts as refused without a response.
pub(super) const LONGEST: Duration = Duration::from_secs(10);

/// How many logins run at once. If a secret that was accepted before is refused by now, as many are refused at once, so
/// it is few.
const TURNS: usize = 2;
/// The most refused secrets of an identity that are remembered. One more replaces the oldest.
const MAX_REFUSED: usize = 16;
/// The most accepted secrets of an identity that are remembered.
const MAX_ACCEPTED: usize = 8;
/// The number of identities from which on those that no connection uses are forgotten.
const MAX_UNUSED: usize = 1024;
/// The number of identities from which on those of tenants are forgotten that no connection uses, although the service
/// may count their refusals: a tenant who makes connections and deletes them would take memory without end. What it can
/// lock then is its own.
const MAX_COUNTED: usize = 4 * MAX_UNUSED;

/// When a service locks an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lockout {
    /// How often a secret may be refused before the pause: at least two less than the service takes.
    pub refusals: u32,
    /// The pause after that: longer than the service counts.
    pub pause: Duration,
    /// The same after logins without a clear answer. Shorter than `pause` where the adapter itself remembers such logins, and
    /// decides before the next one how many the service may have counted.
    pub unclear_pause: Duration,
}

/// Whom a connection logs in as, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LoginIdentity {
    /// The service, with all that tells apart equal names of identities there. It may have several names.
    pub service: String,
    /// The name of the identity there.
    pub identity: String,
    /// How the service is reached: the proxy and the authorities. Something else may answer through another proxy.
    pub route: String,
}

/// The identities of one provider's connections. Clones are the same.
pub struct Identities<R>(Arc<Registry<R>>);

struct Registry<R> {
    known: Mutex<HashMap<Name, Arc<Identity<R>>>>,
    declared: Declared,
}

impl<R> Clone for Identities<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> Default for Identities<R> {
    fn default() -> Self {
        Self(Arc::new(Registry {
            known: Mutex::default(),
            declared: Declared::default(),
        }))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    /// The tenant of its own connections; `None` for those that the operator declares.
    tenant: Option<TenantId>,
    service: String,
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
    /// [`Marks::routed`].
    accepted: Vec<u64>,
    refused: Vec<Arc<RefusedSecret<R>>>,
}

/// What tells secrets apart: hashes with a secret key of the process, which is stored nowhere.
#[derive(Debug, Clone, Copy)]
struct Marks {
    secret: u64,
    /// Of the secret and the route.
    routed: u64,
}

/// A secret that the service refused, or may have.
struct RefusedSecret<R> {
    /// [`Marks::secret`].
    mark: u64,
    error: CallError<R>,
    /// How often it was refused.
    times: u32,
    until: Instant,
    /// How long the service may count it.
    counts_until: Instant,
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
            }),
        }
    }
}

impl<R: Refusal> Identities<R> {
    /// The part of one connection in the identity that it logs in with.
    pub fn join(&self, login: LoginIdentity, lockout: Option<Lockout>, report: &LoginReport) -> Membership<R> {
        let name = Name {
            tenant: report.own_tenant(),
            service: login.service,
            identity: login.identity,
        };
        let mut all = self.0.known.lock();
        if all.len() >= MAX_UNUSED {
            let full = all.len() >= MAX_COUNTED;
            all.retain(|name, identity| {
                let is_kept = !full || name.tenant.is_none();
                Arc::strong_count(identity) > 1 || (is_kept && identity.is_counted())
            });
        }
        let identity = Arc::clone(all.entry(name.clone()).or_default());
        drop(all);
        Membership {
            identities: self.clone(),
            identity,
            name,
            route: login.route,
            lockout,
            last: Mutex::new(None),
            trial: AtomicBool::new(false),
            waits: LoginWait::default(),
        }
    }

    /// Notes the identity of a connection that the operator declares, from its declaration on; `None` for a connection
    /// that is no longer declared, or has none.
    pub fn declare(&self, connection: ConnectionId, login: Option<LoginIdentity>) {
        self.0.declared.note(connection, login.map(|login| login.identity));
    }
}

impl<R: Refusal> Identity<R> {
    fn marks(&self, secrets: &Secrets, route: &str) -> Marks {
        let mut hasher = self.hasher.build_hasher();
        for (name, secret) in secrets {
            name.hash(&mut hasher);
            secret.expose().hash(&mut hasher);
        }
        let secret = hasher.finish();
        route.hash(&mut hasher);
        Marks {
            secret,
            routed: hasher.finish(),
        }
    }

    fn is_accepted(&self, marks: Marks) -> bool {
        self.known.lock().accepted.contains(&marks.routed)
    }

    /// Whether a refusal is remembered that the service may count.
    fn is_counted(&self) -> bool {
        let now = Instant::now();
        self.known.lock().refused.iter().any(|refused| refused.counts_until > now)
    }

    /// The refusal of this secret, if its pause is not over.
    fn refusal(&self, marks: Marks) -> Option<Arc<RefusedSecret<R>>> {
        let now = Instant::now();
        let known = self.known.lock();
        let refused = known
            .refused
            .iter()
            .find(|refused| refused.mark == marks.secret && refused.until > now);
        refused.cloned()
    }

    fn accept(&self, marks: Marks) {
        let mut known = self.known.lock();
        if !known.accepted.contains(&marks.routed) {
            if known.accepted.len() >= MAX_ACCEPTED {
                known.accepted.remove(0);
            }
            known.accepted.push(marks.routed);
        }
        known.refused.retain(|refused| {
            let other = refused.mark != marks.secret;
            if !other {
                refused.is_over.store(true, Ordering::Relaxed);
            }
            other
        });
    }

    fn refuse(&self, marks: Marks, error: CallError<R>, lockout: Option<Lockout>) -> Arc<RefusedSecret<R>> {
        let mut known = self.known.lock();
        known.accepted.retain(|accepted| *accepted != marks.routed);
        let before = known.refused.iter().position(|refused| refused.mark == marks.secret);
        let times = before.map_or(0, |at| known.refused.remove(at).times).saturating_add(1);
        let pause = match lockout {
            Some(lockout) if times >= lockout.refusals && error.is_refused_login() => lockout.pause,
            Some(lockout) if times >= lockout.refusals => lockout.unclear_pause,
            Some(_) | None => refusal_pause(times),
        };
        let now = Instant::now();
        let refused = Arc::new(RefusedSecret {
            mark: marks.secret,
            error,
            times,
            until: now + pause,
            counts_until: now + lockout.map_or(pause, |lockout| lockout.pause),
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
    route: String,
    lockout: Option<Lockout>,
    /// What the connection's last login was refused with, if it was.
    last: Mutex<Option<Arc<RefusedSecret<R>>>>,
    trial: AtomicBool,
    waits: LoginWait,
}

/// The turn of one login.
struct Turn<'a> {
    _any: Option<SemaphorePermit<'a>>,
    /// Of a secret that was not accepted yet.
    _alone: Option<MutexGuard<'a, ()>>,
}

/// A login that is sent. Dropped before it has ended, it was cut off.
struct Sent<'a, R: Refusal> {
    membership: &'a Membership<R>,
    marks: Marks,
    lockout: Option<Lockout>,
    right: Option<Right>,
    has_ended: bool,
}

impl<R: Refusal> Sent<'_, R> {
    fn end<T>(mut self, result: &Result<T, CallError<R>>) {
        self.has_ended = true;
        let refusal = match result {
            Ok(_) => {
                self.membership.identity.accept(self.marks);
                None
            }
            Err(error) if error.kind() == ErrorKind::Severed => self.cut_off(),
            Err(error) => Some(error.clone().in_login()).filter(|error| self.counts(error)),
        };
        match refusal {
            Some(refusal) => self.refuse(refusal),
            None => {
                if let Some(right) = self.right.take() {
                    right.give_back();
                }
            }
        }
    }

    /// Whether the service refused the login, or may count it as refused.
    fn counts(&self, error: &CallError<R>) -> bool {
        error.is_refused_login() || (self.lockout.is_some() && error.may_have_been_processed())
    }

    /// What a login counts as that the gateway itself did not wait for. Not as a refusal of a secret that was accepted
    /// before: a tenant that severs and restores its connection time and again would keep all others of the identity from
    /// their logins. That the connection is severed would not be true of the others.
    fn cut_off(&self) -> Option<CallError<R>> {
        let counts = self.lockout.is_some() && !self.membership.identity.is_accepted(self.marks);
        counts.then(|| CallError::Timeout.in_login())
    }

    fn refuse(&self, error: CallError<R>) {
        let refused = self.membership.identity.refuse(self.marks, error, self.lockout);
        *self.membership.last.lock() = Some(refused);
    }
}

impl<R: Refusal> Drop for Sent<'_, R> {
    fn drop(&mut self) {
        if !self.has_ended
            && let Some(refusal) = self.cut_off()
        {
            self.refuse(refusal);
        }
    }
}

impl<R: Refusal> Membership<R> {
    /// Makes a login with these secrets, or returns the refusal that it would get. `ready` asks the service, before a
    /// login that it may count, whether it responds and takes logins.
    ///
    /// # Errors
    /// The login's, or that of `ready`. [`CallError::NoCredential`] that is repeated if the secrets were refused a
    /// moment ago, or may have been; [`CallError::NoSource`] if a tenant's own connection could lock an identity of the
    /// operator's.
    pub async fn login<T>(
        &self,
        secrets: &Secrets,
        ready: impl Future<Output = Result<(), CallError<R>>>,
        login: impl Future<Output = Result<T, CallError<R>>>,
    ) -> Result<T, CallError<R>> {
        *self.last.lock() = None;
        let marks = self.identity.marks(secrets, &self.route);
        let _turn = self.waits.during(self.turn(marks)).await;
        let guard = self.guard().filter(|_| !self.identity.is_accepted(marks));
        let lockout = match &guard {
            Some(_) => self.lockout.map(|lockout| Lockout { refusals: 1, ..lockout }),
            None => self.lockout,
        };
        if let Some(refused) = self.identity.refusal(marks) {
            let may_try = lockout.is_none_or(|lockout| refused.times < lockout.refusals);
            if !(may_try && self.trial.load(Ordering::Relaxed)) {
                let error = refused.error.clone().repeated();
                *self.last.lock() = Some(refused);
                return Err(error);
            }
        }
        if lockout.is_some() {
            ready.await?;
        }
        self.trial.store(false, Ordering::Relaxed);
        let right = guard.zip(lockout).map(|(guard, lockout)| guard.right(lockout.pause)).transpose()?;
        // After the turn, so that it is dropped before: the next login must find what became of this one.
        let sent = Sent {
            membership: self,
            marks,
            lockout,
            right,
            has_ended: false,
        };
        let result = match lockout {
            // A login that counts is not made anew for want of time.
            Some(_) => self.waits.during(timeout(LONGEST, login)).await.unwrap_or(Err(CallError::Timeout)),
            None => login.await,
        };
        sent.end(&result);
        result
    }

    /// Waits for a turn. The connection's request bounds the wait.
    async fn turn(&self, marks: Marks) -> Turn<'_> {
        let alone = match self.identity.is_accepted(marks) {
            true => None,
            // It may be accepted while this one waits.
            false => Some(self.identity.unproven.lock().await).filter(|_| !self.identity.is_accepted(marks)),
        };
        Turn {
            // It is never closed, so there always is a turn.
            _any: self.identity.turns.acquire().await.ok(),
            _alone: alone,
        }
    }

    /// What guards an identity of the operator's from this connection of a tenant's own, if the service locks identities.
    fn guard(&self) -> Option<Arc<Guard>> {
        self.lockout.and(self.name.tenant)?;
        self.identities.0.declared.guard(&self.name.identity)
    }

    /// The waits of the connection's logins that are not their own time: for turns, and for a login that is not made
    /// anew.
    pub const fn waits(&self) -> &LoginWait {
        &self.waits
    }

    /// Whether the next login also tries a secret that was refused, if that locks nothing.
    pub(super) fn set_trial(&self, trial: bool) {
        self.trial.store(trial, Ordering::Relaxed);
    }

    /// The pause after the refusal that the connection's last login got, as it is shared; `None` if it got none.
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
