//! What can be done with keys: one use case per file.
//!
//! A use case consumes a permit that only `access` makes, uses `keys`, `envelope`, `cache`
//! and the provider's pipeline, and gives back a [`Guarded`] value: it reaches a caller only
//! through [`Broker::conclude`], which records the outcome first and looks at the gates of
//! key and connection last. The faces call this module; it calls none of them.

mod admit;
mod apply;
mod batch;
mod conclude;
mod connections;
mod context;
mod create_key;
mod data_key;
mod declare;
mod detach;
mod disable;
mod enable;
mod failure;
mod idempotency;
mod inspect;
mod opening;
mod principals;
mod read;
mod recover;
mod rewrap;
mod rotate;
mod sever;
mod tenants;
mod tokens;
mod turns;
mod unwrap;
mod update_key;
mod wrap;
mod wrapping;
mod write_ahead;

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::access::{Authenticator, Authorizer};
use crate::audit::{KillFile, Log};
use crate::cache::{DekCache, Rules};
use crate::keys::{Directory, EpochGuard};
use crate::store::Store;

pub use admit::{Authorized, KeyNamed, Names, NewTokenNamed, Operation, PairNamed, TokenNamed, op};
pub use apply::{Declaration, Declarations, DeclaredKind, Step, Steps};
pub use batch::BatchOutcome;
pub use conclude::Unrecorded;
pub use connections::{CheckReport, ConnectionChange, NewConnection};
pub use context::{AuditFields, RequestContext, RequestInfo};
pub use create_key::NewKey;
pub use data_key::{DataKey, Generates};
pub use declare::{DeclaredConnection, DeclaredKey, DeclaredTenant, Found, How};
pub use failure::{Code, Failure, Place};
pub use idempotency::{Completed, Completion, InFlight, Keep, Once, Repeat};
pub use inspect::{Inspected, InspectedRecipient};
pub use principals::NewPrincipal;
pub use read::{KeyQuery, NamedKey, Page};
pub use recover::{Circumstances, RecoverError, Recovery};
pub use rewrap::{Rewrapped, scope_unsupported};
pub use tenants::NewTenant;
pub use tokens::{GrantedToken, IssuedToken};
pub use unwrap::Unwrapped;
pub use wrap::Wrapped;

/// Everything that a use case needs.
pub struct Broker {
    store: Arc<dyn Store>,
    log: Log,
    kill_file: Arc<KillFile>,
    directory: Directory,
    cache: Arc<DekCache<Failure>>,
    cache_defaults: Rules,
    authenticator: Authenticator,
    authorizer: Arc<dyn Authorizer>,
    in_flight: Arc<InFlight>,
    idempotency_key: aws_lc_rs::hmac::Key,
    accepted: TaskTracker,
    declarations: Arc<dyn Declarations>,
    /// Held by the one that applies them.
    applying: tokio::sync::Mutex<()>,
}

/// An operation under way.
pub type Accepted = TaskTrackerToken;

/// What [`Broker::new`] is made of.
pub struct Parts {
    /// The memory.
    pub store: Arc<dyn Store>,
    /// The record.
    pub log: Log,
    /// Where revocations stand when the disk is full.
    pub kill_file: KillFile,
    /// The keys.
    pub directory: Directory,
    /// Decides what callers may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// The DEK cache, which boot also settles once in a while.
    pub cache: Arc<DekCache<Failure>>,
    /// Rules for keys that set none.
    pub cache_defaults: Rules,
    /// Compares the bodies of repeated requests.
    pub idempotency_key: aws_lc_rs::hmac::Key,
    /// What the operator declares.
    pub declarations: Arc<dyn Declarations>,
}

impl Broker {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self {
            authenticator: Authenticator::new(Arc::clone(&parts.store)),
            authorizer: parts.authorizer,
            store: parts.store,
            log: parts.log,
            kill_file: Arc::new(parts.kill_file),
            directory: parts.directory,
            cache: parts.cache,
            cache_defaults: parts.cache_defaults,
            in_flight: Arc::default(),
            idempotency_key: parts.idempotency_key,
            accepted: TaskTracker::new(),
            declarations: parts.declarations,
            applying: tokio::sync::Mutex::new(()),
        }
    }

    /// The record.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// The keys and connections in memory.
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Who calls.
    pub const fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Lets the cache do what it has put off; to be called a few times a second.
    pub fn sweep_cache(&self) {
        self.cache.sweep();
    }

    /// Waits until the operations that were accepted have ended, their callers gone or not;
    /// at most for so long.
    pub async fn finish_accepted(&self, at_most: Duration) {
        if tokio::time::timeout(at_most, {
            self.accepted.close();
            self.accepted.wait()
        })
        .await
        .is_err()
        {
            tracing::warn!("operations were still under way at the end of the drain");
        }
    }

    /// Counts an operation as accepted for as long as the guard lives.
    pub fn accept_operation(&self) -> Accepted {
        self.accepted.token()
    }

    pub(crate) fn cache(&self) -> &DekCache<Failure> {
        &self.cache
    }

    const fn cache_defaults(&self) -> Rules {
        self.cache_defaults
    }

    /// Now, in Unix microseconds.
    pub fn now(&self) -> i64 {
        Utc::now().timestamp_micros()
    }
}

/// A value that may be handed over only if none of the watched keys and connections has
/// moved on since its making began.
pub struct Guarded<T> {
    value: T,
    epoch_guards: Vec<EpochGuard>,
}

impl<T> Guarded<T> {
    /// With these epoch_guards.
    pub const fn new(value: T, epoch_guards: Vec<EpochGuard>) -> Self {
        Self { value, epoch_guards }
    }

    /// That depends on no key or connection.
    pub const fn free(value: T) -> Self {
        Self {
            value,
            epoch_guards: Vec::new(),
        }
    }

    /// Adds a epoch_guard.
    #[must_use]
    pub fn and_guard(mut self, epoch_guard: EpochGuard) -> Self {
        self.epoch_guards.push(epoch_guard);
        self
    }

    /// Another form of the value.
    ///
    /// # Errors
    /// What `form` says.
    pub fn try_map<U>(self, form: impl FnOnce(T) -> Result<U, Failure>) -> Result<Guarded<U>, Failure> {
        Ok(Guarded {
            value: form(self.value)?,
            epoch_guards: self.epoch_guards,
        })
    }
}
