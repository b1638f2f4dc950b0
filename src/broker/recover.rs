//! After a crash or a restored backup: store and log are brought to agree, before anything
//! is served (`docs/audit-format.md`, Store and log).

use std::time::{Duration, Instant};

use claviger_provider::{KeyId, OpContext, TenantId};

use super::{Broker, Code, Failure};
use crate::audit::{
    ChangeHistory, Cut, Ending, KillEntry, Object, OpenError, OpenIntent, Outcome, Position, StateChange, Unavailable, Verb,
};
use crate::store::{Change, StoreError};

/// How long one record or one look at a provider may take here.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the gateway must not start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// Changes that the log calls done are not in the store.
    #[error(
        "the store lacks {missing} change(s) that the audit log calls done, the first one {first}: it was restored from an older copy. \
         Restore the newer copy, or start once with --accept-rollback to go on without them"
    )]
    StoreBehind {
        /// How many.
        missing: usize,
        /// The first one's verb and object.
        first: String,
    },
    /// The store knows changes that the log does not.
    #[error(
        "the store knows of a change at byte {applied} of the audit log, where the log has none: the log was restored from an older copy. \
         Restore the newer copy, or start once with --accept-rollback to go on without its records"
    )]
    LogBehind {
        /// The position that the store holds.
        applied: u64,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Log(OpenError),
    /// The log cannot be written.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Recovery {
    /// Intents that got their outcome.
    pub resolved: usize,
    /// Cuts that were applied again.
    pub cuts: usize,
    /// Changes that were given up under `--accept-rollback`.
    pub given_up: usize,
}

impl Broker {
    /// Brings store and log to agree.
    ///
    /// # Errors
    /// See [`RecoverError`]; nothing may be served then.
    pub async fn recover(&self, open: Vec<OpenIntent>, history: &ChangeHistory, accept_rollback: bool) -> Result<Recovery, RecoverError> {
        let mut done = Recovery::default();
        self.fold_kill_file(&mut done).await?;
        self.compare(history, accept_rollback, &mut done).await?;
        // Cuts first: what is loaded for the others must be loaded as the cuts leave it.
        let is_cut = |intent: &OpenIntent| intent.record().change().is_some_and(|change| change.cut().is_some());
        let (cuts, others): (Vec<_>, Vec<_>) = open.into_iter().partition(is_cut);
        for intent in cuts.into_iter().chain(others) {
            self.resolve(intent, &mut done).await?;
        }
        Ok(done)
    }

    /// Cuts that neither store nor log had room for.
    async fn fold_kill_file(&self, done: &mut Recovery) -> Result<(), RecoverError> {
        let entries = self.kill_file.entries();
        for KillEntry { tenant, cut, .. } in &entries {
            self.cut_again(*tenant, *cut, None).await?;
            done.cuts += 1;
        }
        if !entries.is_empty()
            && let Err(error) = self.kill_file.clear(&entries)
        {
            tracing::warn!(%error, "the kill file could not be cleared; its cuts are applied again at the next start");
        }
        Ok(())
    }

    /// Changes that the log calls done and the store does not hold.
    async fn compare(&self, history: &ChangeHistory, accept_rollback: bool, done: &mut Recovery) -> Result<(), RecoverError> {
        let applied = self.store.last_applied().await?.map(Position);
        let after = match history.after(applied) {
            Ok(after) => after,
            Err(OpenError::StoreAhead { applied }) if !accept_rollback => return Err(RecoverError::LogBehind { applied }),
            Err(OpenError::StoreAhead { .. }) => Vec::new(),
            Err(error) => return Err(RecoverError::Log(error)),
        };
        let mut lost = Vec::new();
        for change in after {
            if self.store.is_applied(change.position.0).await? {
                continue;
            }
            match change.intent.change().and_then(|change| change.cut()) {
                Some(cut) => {
                    self.cut_again(change.intent.tenant(), cut, Some(change.position.0)).await?;
                    done.cuts += 1;
                }
                // Its end was unknown when it was recorded; the store tells it now.
                None if change.outcome.ending() == Some(Ending::Interrupted) => self.mark(&change).await?,
                None => lost.push(change),
            }
        }
        if let Some(first) = lost.first()
            && !accept_rollback
        {
            let first = first
                .intent
                .change()
                .map_or_else(String::new, |change| format!("{} {}", change.verb, change.object));
            return Err(RecoverError::StoreBehind {
                missing: lost.len(),
                first,
            });
        }
        for change in lost {
            self.mark(&change).await?;
            done.given_up += 1;
        }
        Ok(())
    }

    /// Takes a change off the list of what the store lacks.
    async fn mark(&self, change: &StateChange) -> Result<(), StoreError> {
        let applied = Change {
            intent: Some(change.position.0),
            idempotency: None,
        };
        self.store.mark_applied(change.intent.tenant(), &applied).await
    }

    /// An intent without outcome gets one from what the store and the provider say.
    async fn resolve(&self, intent: OpenIntent, done: &mut Recovery) -> Result<(), RecoverError> {
        let position = intent.position().0;
        let outcome = if self.store.is_applied(position).await? {
            Outcome::Success
        } else {
            match intent.record().change() {
                Some(change) => match (change.cut(), change.object, change.verb) {
                    (Some(cut), _, _) => {
                        self.cut_again(intent.tenant(), cut, Some(position)).await?;
                        done.cuts += 1;
                        Outcome::Success
                    }
                    (None, Object::Key, Verb::Rotate) => {
                        self.finish_rotate(intent.tenant(), KeyId::from_bytes(change.id.0), position).await
                    }
                    // At a provider something may have come to be that nobody knows of.
                    (None, _, _) if change.at_provider => Outcome::Interrupted,
                    // In the store alone: the transaction is not there, so nothing changed.
                    (None, _, _) => Outcome::Failed(Code::Internal.as_str()),
                },
                None => Outcome::Interrupted,
            }
        };
        intent.resolve(&self.log, outcome, Instant::now() + PATIENCE).await?;
        done.resolved += 1;
        Ok(())
    }

    /// A rotate that reached the provider is finished here; one that did not left nothing.
    async fn finish_rotate(&self, tenant: TenantId, key: KeyId, position: u64) -> Outcome {
        let cx = OpContext {
            request_id: "recovery".to_owned(),
            tenant,
            actor: "system".to_owned(),
            deadline: Instant::now() + PATIENCE,
        };
        let change = Change {
            intent: Some(position),
            idempotency: None,
        };
        let taken: Result<bool, Failure> = match self.directory().key(tenant, key).await {
            Ok(Some(entry)) => self.take_versions(&cx, &entry, &change).await,
            Ok(None) => Ok(false),
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(true) => Outcome::Success,
            Ok(false) => Outcome::Failed(Code::Internal.as_str()),
            Err(_) => Outcome::Interrupted,
        }
    }

    async fn cut_again(&self, tenant: TenantId, cut: Cut, intent: Option<u64>) -> Result<(), StoreError> {
        let change = Change { intent, idempotency: None };
        let now = self.now();
        let cut_off = match cut {
            Cut::Disable(key) => self.store.set_key_disabled(tenant, key, true, now, &change).await.map(drop),
            Cut::Sever(connection) => self
                .store
                .set_connection_severed(tenant, connection, true, now, &change)
                .await
                .map(drop),
            Cut::Revoke(token) => self.store.revoke_token(tenant, token, now, &change).await,
            // This release suspends nobody, so its log holds no such cut.
            Cut::Suspend(_) => self.store.mark_applied(tenant, &change).await,
        };
        match cut_off {
            // What is gone cannot be used either.
            Err(StoreError::NotFound) => self.store.mark_applied(tenant, &change).await,
            other => other,
        }
    }
}
