//! After a crash or a restored backup: store and log are brought to agree, before anything
//! is served (`docs/audit-format.md`, Store and log).

use std::time::{Duration, Instant};

use claviger_provider::{KeyId, TenantId};

use super::{Broker, Code, Failure};
use crate::access::Action;
use crate::audit::{
    self, ChangeHistory, EffectiveChange, EmergencyRevocation, Ending, JournaledRevocation, KillEntry, Object, OpenError, OpenIntent,
    Outcome, Position, Unavailable, Verb,
};
use crate::store::model::Liftable;
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
         Restore the newer copy, or start once with --accept-rollback to go on without its records. If the log was removed, \
         --accept-lost-log goes on with all that is left, and records what is lost"
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
    /// Revocations that were applied again.
    pub revocations: usize,
    /// Revocations that were not applied, because their object was lifted since.
    pub superseded: usize,
    /// Changes that were given up under `--accept-rollback`.
    pub given_up: usize,
    /// Intents whose outcome is written when the log is able to.
    pub following: usize,
}

/// What a start knows beside store and log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// Go on although the store is older than the log, or the log older than the store.
    pub accept_rollback: bool,
    /// The last run closed the log in good order, with every record written.
    pub was_clean: bool,
}

/// What is to be done about a change that the log has and the store lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is applied again, unless it was lifted since.
    Revocation(JournaledRevocation),
    /// Its end was unknown when it was recorded; the store tells it now.
    Unknown,
    /// It is gone, which only the operator can accept.
    Lost,
}

fn fate(change: &EffectiveChange) -> Fate {
    match change.intent.change().and_then(|change| change.revocation()) {
        Some(revocation) => Fate::Revocation(revocation),
        None if change.outcome.ending() == Some(Ending::Interrupted) => Fate::Unknown,
        None => Fate::Lost,
    }
}

/// What became of a revocation of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replayed {
    /// It is in force.
    Applied,
    /// Its object was enabled, restored or resumed since. Nothing was changed.
    Superseded,
}

/// What enable, restore and resume act on; `None` where a revocation is for good.
const fn liftable(revocation: EmergencyRevocation) -> Option<Liftable> {
    match revocation {
        EmergencyRevocation::Disable(key) => Some(Liftable::Key(key)),
        EmergencyRevocation::Sever(connection) => Some(Liftable::Connection(connection)),
        EmergencyRevocation::Suspend(tenant) => Some(Liftable::Tenant(tenant)),
        EmergencyRevocation::Revoke(_) | EmergencyRevocation::DeletePrincipal(_) => None,
    }
}

/// The operation under which a revocation is recorded whose request nobody knows any more.
const fn action_of(revocation: EmergencyRevocation) -> Action {
    match revocation {
        EmergencyRevocation::Disable(_) => Action::Disable,
        EmergencyRevocation::Sever(_) => Action::Sever,
        EmergencyRevocation::Revoke(_) => Action::ManageTokens,
        EmergencyRevocation::Suspend(_) => Action::ManageTenants,
        EmergencyRevocation::DeletePrincipal(_) => Action::ManagePrincipals,
    }
}

impl Broker {
    /// Brings store and log to agree.
    ///
    /// # Errors
    /// See [`RecoverError`]; nothing may be served then. A refusal changes nothing that a
    /// later start compares.
    pub async fn recover(&self, open: Vec<OpenIntent>, history: &ChangeHistory, how: Circumstances) -> Result<Recovery, RecoverError> {
        let mut done = Recovery::default();
        self.fold_kill_file(how.was_clean, &mut done).await?;
        let log_rolled_back = self.compare(history, how.accept_rollback, &mut done).await?;
        // Revocations first: what is loaded for the others must be loaded as the revocations leave it.
        let is_revocation = |intent: &OpenIntent| intent.record().change().is_some_and(|change| change.revocation().is_some());
        let (revocations, others): (Vec<_>, Vec<_>) = open.into_iter().partition(is_revocation);
        for intent in revocations.into_iter().chain(others) {
            self.resolve(intent, log_rolled_back, &mut done).await?;
        }
        // The calls to providers are recorded before anything is served. Without room they are
        // kept, as the deferred outcomes are.
        if let Err(error) = self.record_background_calls(true).await {
            tracing::warn!(%error, "the provider calls of the recovery are recorded once the log has room");
        }
        // What an outcome that is still to be written was told from must stay.
        if done.following == 0
            && let Some(last) = self.store.last_applied().await?
        {
            self.store.prune_applied(last).await?;
        }
        Ok(done)
    }

    /// Revocations that store or log had no room for. Where the last run ended in order, the log
    /// has their records; where it did not, nobody knows, and they are recorded here.
    async fn fold_kill_file(&self, was_clean: bool, done: &mut Recovery) -> Result<(), RecoverError> {
        let entries = self.kill_file.entries();
        let mut folded = Vec::with_capacity(entries.len());
        for entry in entries {
            let KillEntry { tenant, revocation, .. } = entry;
            // Without a position: it must not look as if the store held what comes before it.
            let outcome = match self.replay(tenant, revocation, None, done).await? {
                Replayed::Applied if was_clean => None,
                Replayed::Applied => Some(Outcome::Success),
                Replayed::Superseded => Some(Outcome::Superseded),
            };
            let recorded = match outcome {
                Some(outcome) => self.record_replayed(tenant, revocation, outcome).await,
                None => Ok(()),
            };
            match recorded {
                Ok(()) => folded.push(entry),
                Err(error) => {
                    tracing::warn!(%error, ?revocation, "a revocation stays in the kill file until the log has room for its record")
                }
            }
        }
        if let Err(error) = self.kill_file.clear(&folded) {
            tracing::warn!(%error, "the kill file could not be cleared; its revocations are looked at again at the next start");
        }
        Ok(())
    }

    /// Changes that the log calls done and the store does not hold. Answers whether a log
    /// that is older than the store was accepted.
    async fn compare(&self, history: &ChangeHistory, accept_rollback: bool, done: &mut Recovery) -> Result<bool, RecoverError> {
        let applied = self.store.last_applied().await?.map(Position);
        let after = match history.after(applied) {
            Ok(after) => after,
            Err(OpenError::StoreAhead { applied }) if !accept_rollback => return Err(RecoverError::LogBehind { applied }),
            Err(OpenError::StoreAhead { .. }) => {
                // The places after the log's end will be other records' now.
                self.store
                    .rewind_applied(history.last_effective().map(|position| position.0))
                    .await?;
                return Ok(true);
            }
            Err(error) => return Err(RecoverError::Log(error)),
        };
        let mut missing = Vec::new();
        for change in after {
            if !self.store.is_applied(change.position.0).await? {
                missing.push((fate(&change), change));
            }
        }
        let mut lost = missing.iter().filter(|(fate, _)| *fate == Fate::Lost).map(|(_, change)| change);
        if let Some(first) = lost.next()
            && !accept_rollback
        {
            // Nothing is touched: a position applied now would hide what is missing before it.
            let named = first.intent.change();
            return Err(RecoverError::StoreBehind {
                missing: 1 + lost.count(),
                first: named.map_or_else(String::new, |change| format!("{} {}", change.verb, change.object)),
            });
        }
        for (fate, change) in missing {
            match fate {
                Fate::Revocation(revocation) => {
                    let tenant = change.intent.tenant();
                    match self.replay(tenant, revocation, Some(change.position.0), done).await? {
                        Replayed::Applied => {}
                        Replayed::Superseded => match self.record_replayed(tenant, revocation, Outcome::Superseded).await {
                            Ok(()) => self.mark(&change).await?,
                            Err(error) => {
                                tracing::warn!(%error, ?revocation, "a superseded revocation is recorded when the log has room")
                            }
                        },
                    }
                }
                Fate::Unknown => self.mark(&change).await?,
                Fate::Lost => {
                    self.mark(&change).await?;
                    done.given_up += 1;
                }
            }
        }
        Ok(false)
    }

    /// Takes a change off the list of what the store lacks.
    async fn mark(&self, change: &EffectiveChange) -> Result<(), StoreError> {
        let applied = Change::announced(change.position.0);
        self.store.mark_applied(change.intent.tenant(), &applied).await
    }

    /// An intent without outcome gets one from what the store and the provider say.
    async fn resolve(&self, intent: OpenIntent, log_rolled_back: bool, done: &mut Recovery) -> Result<(), RecoverError> {
        let position = intent.position().0;
        let outcome = if self.store.is_applied(position).await? {
            Outcome::Success
        } else {
            match intent.record().change() {
                Some(change) => match (change.revocation(), change.object, change.verb) {
                    (Some(revocation), _, _) => match self.replay(intent.tenant(), revocation, Some(position), done).await? {
                        Replayed::Applied => Outcome::Success,
                        Replayed::Superseded => Outcome::Superseded,
                    },
                    (None, Object::Key, Verb::Rotate) => {
                        self.finish_rotate(intent.tenant(), KeyId::from_bytes(change.id.0), position).await
                    }
                    // At a provider something may have come to be that nobody knows of.
                    (None, _, _) if change.at_provider => Outcome::Interrupted,
                    // The log does not go as far as the store: what came after is not known.
                    (None, _, _) if log_rolled_back => Outcome::Interrupted,
                    // In the store alone: the transaction is not there, so nothing changed.
                    (None, _, _) => Outcome::Failed(Code::Internal.as_str()),
                },
                None => Outcome::Interrupted,
            }
        };
        match intent.resolve(&self.log, outcome, Instant::now() + PATIENCE).await {
            Ok(_) => done.resolved += 1,
            // A full disk does not keep the gateway down: revocations must be possible.
            Err(error) if error.deferred() => {
                tracing::warn!(%error, "an outcome follows when the log has room");
                done.following += 1;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A rotate that reached the provider is finished here; one that did not left nothing.
    async fn finish_rotate(&self, tenant: TenantId, key: KeyId, position: u64) -> Outcome {
        let change = Change::announced(position);
        let taken: Result<bool, Failure> = match self.directory().key(tenant, key).await {
            Ok(Some(entry)) => self.take_versions_in_background("recovery", &entry, PATIENCE, Some(&change)).await,
            Ok(None) => Ok(false),
            Err(error) => Err(error.into()),
        };
        match taken {
            Ok(true) => Outcome::Success,
            Ok(false) => Outcome::Failed(Code::Internal.as_str()),
            Err(_) => Outcome::Interrupted,
        }
    }

    /// Applies a revocation of the journal again, unless it was lifted since.
    async fn replay(
        &self,
        tenant: TenantId,
        journaled: JournaledRevocation,
        intent: Option<u64>,
        done: &mut Recovery,
    ) -> Result<Replayed, StoreError> {
        let JournaledRevocation { revocation, lifts } = journaled;
        if let Some(object) = liftable(revocation) {
            match self.store.lifts(tenant, object).await {
                Ok(now) if now > lifts => {
                    done.superseded += 1;
                    return Ok(Replayed::Superseded);
                }
                // Before the revocation, so that a kill in between leaves both to be done.
                Ok(_) => self.store.raise_lifts(tenant, object, lifts).await?,
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let change = Change { intent, idempotency: None };
        match self.commit_revocation(tenant, revocation, self.now(), &change).await {
            Ok(revoked) => self.apply_revocation(&revoked),
            // What does not exist cannot be used either.
            Err(StoreError::NotFound) => self.store.mark_applied(tenant, &change).await?,
            Err(error) => return Err(error),
        }
        done.revocations += 1;
        Ok(Replayed::Applied)
    }

    /// Records what became of a revocation whose request nobody knows any more.
    async fn record_replayed(&self, tenant: TenantId, revocation: JournaledRevocation, outcome: Outcome) -> Result<(), Unavailable> {
        let record = self.log.entry(tenant, action_of(revocation.revocation));
        let recorded = self
            .log
            .record_revocation(record, revocation, outcome, (), Instant::now() + PATIENCE)
            .await;
        recorded.map(audit::Recorded::into_value)
    }
}
