//! Changes of state: the intent before the effect, and cuts that never wait for the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::facts::Effect;
use super::{Broker, Code, Cx, Failure};
use crate::audit::{self, Cut, KillEntry, Timestamp};
use crate::store::model::IdempotencyRecord;
use crate::store::{self, StoreError};

/// How long a cut waits for the log before it takes effect without it.
const CUT_PATIENCE: Duration = Duration::from_millis(500);

/// Makes the answer that is kept under the request's idempotency key, if it has one; it is
/// committed together with the effect.
pub type Keep<'a, T> = &'a (dyn Fn(&T) -> Result<Option<IdempotencyRecord>, Failure> + Send + Sync);

impl Broker {
    /// Makes the intent durable. The effect may be caused once this returned `Ok`.
    ///
    /// # Errors
    /// `audit_unavailable`: nothing may be done.
    pub(super) async fn announce(&self, cx: &Cx, change: audit::Change) -> Result<store::Change, Failure> {
        let intent = self.log.intent(self.entry(cx), change, cx.info().deadline).await.map_err(|error| {
            tracing::error!(%error, "an intent could not be recorded");
            Failure::new(Code::AuditUnavailable, "The audit log cannot record the intent; nothing was done.")
        })?;
        let position = intent.position().0;
        cx.set_effect(Effect::Announced(Box::new(intent)));
        Ok(store::Change {
            intent: Some(position),
            idempotency: None,
        })
    }

    /// Announces a cut. Where the log cannot take the intent, the cut stands in the kill
    /// file instead, and goes on.
    pub(super) async fn announce_cut(&self, cx: &Cx, cut: Cut) -> store::Change {
        let deadline = cx.info().deadline.min(Instant::now() + CUT_PATIENCE);
        match self.log.intent(self.entry(cx), cut.into(), deadline).await {
            Ok(intent) => {
                let position = intent.position().0;
                cx.set_effect(Effect::Announced(Box::new(intent)));
                store::Change {
                    intent: Some(position),
                    idempotency: None,
                }
            }
            Err(error) => {
                tracing::error!(%error, ?cut, "a cut takes effect although its intent cannot be recorded");
                self.push_to_kill_file(cx, cut).await;
                cx.set_effect(Effect::Unannounced(cut));
                store::Change {
                    intent: None,
                    idempotency: None,
                }
            }
        }
    }

    /// What a cut's transaction said: where the store cannot take it, memory and kill file
    /// hold it, and it is no failure.
    ///
    /// # Errors
    /// When the store could be asked and says that there is no such object.
    pub(super) async fn cut_committed<T>(&self, cx: &Cx, cut: Cut, committed: Result<T, StoreError>) -> Result<Option<T>, Failure> {
        match committed {
            Ok(row) => Ok(Some(row)),
            Err(error @ (StoreError::Database(_) | StoreError::Damaged(_))) => {
                tracing::error!(%error, ?cut, "the store could not take a cut");
                self.push_to_kill_file(cx, cut).await;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn push_to_kill_file(&self, cx: &Cx, cut: Cut) {
        let entry = KillEntry {
            tenant: cx.tenant(),
            cut,
            time: Timestamp::now(),
        };
        let file = Arc::clone(&self.kill_file);
        let pushed = tokio::task::spawn_blocking(move || file.push(entry)).await;
        if !matches!(pushed, Ok(Ok(()))) {
            tracing::error!(?cut, "the kill file could not take the cut: it holds until this process ends");
        }
    }

    /// Takes a cut out of the kill file before what undoes it takes effect: the next start
    /// would cut again otherwise.
    ///
    /// # Errors
    /// `audit_unavailable` when the file cannot be written: nothing may be undone then.
    pub(super) async fn lift_from_kill_file(&self, cut: Cut) -> Result<(), Failure> {
        let standing: Vec<KillEntry> = self.kill_file.entries().into_iter().filter(|entry| entry.cut == cut).collect();
        if standing.is_empty() {
            return Ok(());
        }
        let file = Arc::clone(&self.kill_file);
        match tokio::task::spawn_blocking(move || file.clear(&standing)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::new(
                Code::AuditUnavailable,
                "The kill file still holds the cut and cannot be written; nothing was undone.",
            )),
        }
    }
}

impl store::Change {
    /// With the answer to keep, if there is one.
    #[must_use]
    pub fn keeping(mut self, kept: Option<IdempotencyRecord>) -> Self {
        self.idempotency = kept;
        self
    }
}
