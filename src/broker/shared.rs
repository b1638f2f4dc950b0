//! The broker: the parts that the use cases share, and the value that they return.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::Utc;
use claviger_provider::xaes::XaesKey;
use futures::future::BoxFuture;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::access::{Authenticator, Authorizer};
use crate::audit::{BackgroundLog, DailyBytes, KillFile, KillFileWriter, Log, Unavailable};
use crate::cache::{DekCache, Rules};
use crate::keys::{Directory, EpochGuard};
use crate::store::model::Quotas;
use crate::store::{Store, clock};

use super::declaration::Declarations;
use super::degraded::Degraded;
use super::failure::Failure;
use super::in_flight::InFlight;
use super::late_answers::LateAnswers;
use super::slow_connections::SlowConnections;
use super::suspensions::Suspensions;
use super::unstored::Unstored;
use super::wrap_warnings::WrapWarnings;

/// All use cases, and the parts of the gateway that they use.
pub struct Broker {
    pub(super) store: Arc<dyn Store>,
    pub(super) log: Log,
    pub(super) background: Arc<BackgroundLog>,
    pub(super) kill_file: Arc<KillFile>,
    pub(super) kill_file_writer: KillFileWriter,
    pub(super) directory: Directory,
    pub(super) cache: Arc<DekCache<Failure>>,
    pub(super) cache_defaults: Rules,
    pub(super) quotas: Quotas,
    pub(super) log_bytes: DailyBytes,
    pub(super) authenticator: Authenticator,
    pub(super) authorizer: Arc<dyn Authorizer>,
    pub(super) in_flight: Arc<InFlight>,
    /// Keys that providers created after the requests for them had ended.
    pub(super) late_answers: Arc<LateAnswers>,
    pub(super) idempotency_key: aws_lc_rs::hmac::Key,
    pub(super) cursor_key: XaesKey,
    pub(super) accepted: TaskTracker,
    pub(super) declarations: Arc<dyn Declarations>,
    pub(super) suspensions: Suspensions,
    pub(super) wrap_warnings: WrapWarnings,
    pub(super) unstored: Arc<Unstored>,
    /// How many rotations of unknown outcome the store had when it was last asked.
    pub(super) lost_rotations: AtomicU64,
    pub(super) degraded: Degraded,
    /// Held while the declarations are applied: one apply at a time.
    pub(super) applying: tokio::sync::Mutex<()>,
    pub(super) slow_connections: SlowConnections,
    pub(super) recall: Recall,
}

/// Recalls the responses that were handed over and depend on the credential, tenant, key or connection with this id:
/// once it resolves, no byte of them leaves any more. `None` for what an earlier request has revoked, and whose id is not
/// known any more: it resolves once that request has recalled them.
pub type Recall = Arc<dyn Fn(Option<[u8; 16]>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Counts as one operation under way until it is dropped.
pub type Accepted = TaskTrackerToken;

/// The arguments of [`Broker::new`].
pub struct Parts {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The audit log.
    pub log: Log,
    /// Records provider calls that serve no request.
    pub background: Arc<BackgroundLog>,
    /// Keeps revocations while log or store cannot take them.
    pub kill_file: KillFileWriter,
    /// Keys and connections in memory.
    pub directory: Directory,
    /// Maximum number of API tokens in memory.
    pub tokens: usize,
    /// Decides what callers may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// The DEK cache. `boot` calls [`Broker::sweep_cache`] on a timer.
    pub cache: Arc<DekCache<Failure>>,
    /// Cache rules for keys that set none.
    pub cache_defaults: Rules,
    /// Each tenant's quotas.
    pub quotas: Quotas,
    /// Each tenant's bytes of records today, with their quota.
    pub log_bytes: DailyBytes,
    /// Authenticates the bodies of repeated requests.
    pub idempotency_key: aws_lc_rs::hmac::Key,
    /// Seals the cursors of lists.
    pub cursor_key: XaesKey,
    /// Reads what the operator's configuration declares.
    pub declarations: Arc<dyn Declarations>,
    /// Reaches what was handed over to the connections of callers.
    pub recall: Recall,
}

impl Broker {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self {
            authenticator: Authenticator::new(Arc::clone(&parts.store), parts.tokens),
            authorizer: parts.authorizer,
            store: parts.store,
            log: parts.log,
            background: parts.background,
            kill_file: Arc::clone(parts.kill_file.file()),
            kill_file_writer: parts.kill_file,
            directory: parts.directory,
            cache: parts.cache,
            cache_defaults: parts.cache_defaults,
            quotas: parts.quotas,
            log_bytes: parts.log_bytes,
            in_flight: Arc::default(),
            late_answers: Arc::default(),
            idempotency_key: parts.idempotency_key,
            cursor_key: parts.cursor_key,
            accepted: TaskTracker::new(),
            declarations: parts.declarations,
            suspensions: Suspensions::default(),
            wrap_warnings: WrapWarnings::default(),
            unstored: Arc::default(),
            lost_rotations: AtomicU64::new(0),
            degraded: Degraded::default(),
            applying: tokio::sync::Mutex::new(()),
            slow_connections: SlowConnections::default(),
            recall: parts.recall,
        }
    }

    /// The audit log.
    pub const fn log(&self) -> &Log {
        &self.log
    }

    /// Records provider calls that serve no request: those that are due, or all of them.
    ///
    /// # Errors
    /// [`Unavailable`]; the calls are kept for the next time.
    pub async fn record_background_calls(&self, everything: bool) -> Result<(), Unavailable> {
        self.background.flush(&self.log, everything).await
    }

    /// The keys and connections in memory.
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Turns credentials into callers.
    pub const fn authenticator(&self) -> &Authenticator {
        &self.authenticator
    }

    /// Removes expired entries from the DEK cache. Call it a few times a second.
    pub fn sweep_cache(&self) {
        self.cache.sweep();
    }

    /// Waits until all accepted operations have ended, also those whose callers are gone; at most
    /// for `at_most`.
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

    pub(super) const fn cache_defaults(&self) -> Rules {
        self.cache_defaults
    }

    /// The system's clock, in Unix microseconds.
    pub fn now(&self) -> i64 {
        Utc::now().timestamp_micros()
    }

    /// The time by which credentials expire, in Unix microseconds ([`clock::now`]).
    pub fn credential_time(&self) -> i64 {
        clock::now()
    }
}

/// A value with the epochs of the keys and connections that it was made from. It is handed over
/// only if none of these epochs has changed since.
pub struct Guarded<T> {
    pub(super) value: T,
    pub(super) epoch_guards: Vec<EpochGuard>,
}

impl<T> Guarded<T> {
    /// A value that depends on the keys and connections of these guards.
    pub const fn new(value: T, epoch_guards: Vec<EpochGuard>) -> Self {
        Self { value, epoch_guards }
    }

    /// A value that depends on no key or connection.
    pub const fn free(value: T) -> Self {
        Self {
            value,
            epoch_guards: Vec::new(),
        }
    }

    /// Adds a key and its connection that the value depends on.
    #[must_use]
    pub fn and_guard(mut self, epoch_guard: EpochGuard) -> Self {
        self.epoch_guards.push(epoch_guard);
        self
    }

    /// Converts the value.
    ///
    /// # Errors
    /// The error of `form`.
    pub fn try_map<U>(self, form: impl FnOnce(T) -> Result<U, Failure>) -> Result<Guarded<U>, Failure> {
        Ok(Guarded {
            value: form(self.value)?,
            epoch_guards: self.epoch_guards,
        })
    }
}
