//! Recovery after a crash or a restored backup: makes store and log consistent before the gateway
//! serves requests (`docs/audit-format.md`, Revocations).

use std::time::{Duration, Instant};

use claviger_provider::{KeyId, TenantId};

use super::lost_rotations::{LostRotation, rotated_key};
use super::write_ahead::warn_of_orphan;
use super::{Broker, Code};
use crate::access::Action;
use crate::audit::{
    self, ChangeHistory, EffectiveChange, EmergencyRevocation, Ending, JournaledRevocation, KillEntry, Object, OpenError, OpenIntent,
    Outcome, Position, Unavailable, Verb,
};
use crate::store::model::Liftable;
use crate::store::{Change, StoreError};

/// The longest time of one record during recovery.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the gateway must not start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The store lacks changes whose outcome in the log is `success`.
    #[error(
        "the store lacks {missing} change(s) that the audit log calls done, the first one {first}: it was restored from an older copy. \
         Restore the newer copy of the store. If there is none, start once with --accept-rollback: it goes on without them, applies \
         revocations among them again, and the gateway's log lists the others. What was wrapped under a key or version that is among \
         them does not open"
    )]
    StoreBehind {
        /// How many.
        missing: usize,
        /// The first one's verb and object.
        first: String,
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
    /// Outcomes that are written when the log is able to.
    pub following: usize,
}

/// What a start knows beside store and log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circumstances {
    /// Go on although the store is older than the log.
    pub accept_rollback: bool,
    /// Go on although the log lacks changes that the store has.
    pub accept_lost_log: bool,
    /// The last run closed the log in good order, with every record written.
    pub was_clean: bool,
}

/// What recovery does about a change that the log has and the store lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is applied again, unless it was lifted since.
    Revocation(JournaledRevocation),
    /// The outcome in the log is `interrupted`, and the store lacks the change. That is no
    /// contradiction.
    Unknown,
    /// The change is lost, and only the operator can accept that (`--accept-rollback`).
    Lost,
}

pub(super) fn fate(change: &EffectiveChange) -> Fate {
    match change.intent.change().and_then(|change| change.revocation()) {
        Some(revocation) => Fate::Revocation(revocation),
        None if change.outcome.ending() == Some(Ending::Interrupted) => Fate::Unknown,
        None => Fate::Lost,
    }
}

/// What recovery did with a revocation from the audit log or the kill file.
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

/// The operation in the record of a revocation whose request is not known any more.
const fn action_of(revocation: EmergencyRevocation) -> Action {
    match revocation {
        EmergencyRevocation::Disable(_) => Action::Disable,
        EmergencyRevocation::Sever(_) => Action::Sever,
        EmergencyRevocation::Revoke(_) => Action::ManageTokens,
        EmergencyRevocation::Suspend(_) => Action::ManageTenants,
        EmergencyRevocation::DeletePrincipal(_) => Action::ManagePrincipals,
    }
}

/// Tells the operator of a change that the store lacks and that no start can apply again.
pub(super) fn warn_of_loss(lost: &EffectiveChange) {
    let Some(change) = lost.intent.change() else { return };
    // All ids are written alike, whatever they are of.
    let id = KeyId::from_bytes(change.id.0);
    tracing::warn!(
        verb = %change.verb, object = %change.object, %id, tenant = %lost.intent.tenant(), time = %lost.intent.time(),
        position = lost.position.0, at_provider = change.at_provider,
        "the store lacks a change that was answered as done: it is lost unless a newer copy of the store has it"
    );
}

impl Broker {
    /// Makes store and log consistent.
    ///
    /// # Errors
    /// See [`RecoverError`]; nothing may be served then. A refusal changes nothing that a
    /// later start compares.
    pub async fn recover(&self, open: Vec<OpenIntent>, history: &ChangeHistory, how: Circumstances) -> Result<Recovery, RecoverError> {
        let mut done = Recovery::default();
        self.fold_kill_file(how.was_clean, &mut done).await?;
        let mut rotations = self.compare(history, how, &mut done).await?;
        // Revocations first, so that the keys and connections that the other intents load have the
        // revocations already.
        let is_revocation = |intent: &OpenIntent| intent.record().change().is_some_and(|change| change.revocation().is_some());
        let (revocations, others): (Vec<_>, Vec<_>) = open.into_iter().partition(is_revocation);
        for intent in revocations.into_iter().chain(others) {
            if let Some(rotation) = self.resolve(intent, history, &mut done).await? {
                rotations.push(rotation);
            }
        }
        // Last, because it asks providers: with all that is revoked, and with nothing else waiting for them.
        for (rotation, outcome) in self.look_for_rotations(rotations).await {
            match rotation {
                LostRotation::Open(intent) => {
                    let failed = matches!(outcome, Outcome::Failed(_));
                    // It may have had another outcome: then the store has its version already, and a look finds no new one.
                    let is_unknown = failed && history.may_lack_outcome(intent.position());
                    let outcome = if is_unknown { Outcome::Interrupted } else { outcome };
                    self.close(*intent, outcome, &mut done).await?;
                }
                // From here on it is compared no more.
                LostRotation::Interrupted(change) => self.mark(&change).await?,
            }
        }
        self.count_lost_rotations().await?;
        // The calls to providers are recorded before anything is served. Without room they are
        // kept, as the deferred outcomes are.
        if let Err(error) = self.record_background_calls(true).await {
            tracing::warn!(%error, "the provider calls of the recovery are recorded once the log has room");
        }
        // Keep the positions while outcomes are still to be written: the next start reads from them
        // whether a change took effect.
        if done.following == 0 {
            if let Some(Position(compared)) = history.until_compared() {
                self.store
                    .mark_applied(TenantId::INSTALLATION, &Change::announced(compared))
                    .await?;
            }
            if let Some(last) = self.store.last_applied().await? {
                self.store.prune_applied(last).await?;
            }
        }
        for tenant in self.store.suspended_tenants().await? {
            self.directory().factories().note_suspended(tenant, true);
        }
        Ok(done)
    }

    /// Applies the revocations in the kill file, which store or log could not take. After a clean
    /// stop, the log has their records. After an unclean stop that is not known, so they are
    /// recorded here.
    async fn fold_kill_file(&self, was_clean: bool, done: &mut Recovery) -> Result<(), RecoverError> {
        let entries = self.kill_file.entries();
        let mut folded = Vec::with_capacity(entries.len());
        for entry in entries {
            let KillEntry { tenant, revocation, .. } = entry;
            // Apply it without a log position. A position would mark everything before it in the
            // log as applied.
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

    /// Handles the changes whose outcome in the log is `success` and that the store lacks. Returns the rotations of
    /// unknown outcome, which are left to [`Broker::look_for_rotations`].
    async fn compare(&self, history: &ChangeHistory, how: Circumstances, done: &mut Recovery) -> Result<Vec<LostRotation>, RecoverError> {
        let mut applied: Vec<Position> = self.store.applied().await?.into_iter().map(Position).collect();
        let mut last = self.store.last_applied().await?.map(Position);
        let mut is_ahead = false;
        let missing = match history.missing_in(&applied, last) {
            Err(OpenError::StoreAhead { .. }) if how.accept_lost_log => {
                is_ahead = true;
                last = history.last_effective();
                applied.retain(|at| Some(*at) <= last);
                history.missing_in(&applied, last)
            }
            missing => missing,
        };
        let missing = missing.map_err(RecoverError::Log)?;
        let (removed, unreadable) = (history.lacks_removed(last), history.lacks_lost(last));
        let missing: Vec<_> = missing.into_iter().map(|change| (fate(&change), change)).collect();
        let mut lost = missing.iter().filter(|(fate, _)| *fate == Fate::Lost).map(|(_, change)| change);
        // Each of them, also where the start is refused: the operator decides by it.
        lost.clone().for_each(warn_of_loss);
        // Change nothing where it is refused: if a later position were applied now, the next start would not see what
        // is missing before it.
        if !how.accept_rollback {
            if let Some(Position(at)) = unreadable {
                return Err(RecoverError::Log(OpenError::ChangeLost { at }));
            }
            if let Some(Position(at)) = removed {
                return Err(RecoverError::Log(OpenError::ChangeRemoved { at }));
            }
            if let Some(first) = lost.next() {
                let named = first.intent.change();
                return Err(RecoverError::StoreBehind {
                    missing: 1 + lost.count(),
                    first: named.map_or_else(String::new, |change| format!("{} {}", change.verb, change.object)),
                });
            }
        }
        if let Some(at) = unreadable.max(removed) {
            tracing::warn!(
                position = at.0,
                "the store lacks changes whose records are removed or lost: they are lost unless a newer copy of the store has them"
            );
            self.store.mark_applied(TenantId::INSTALLATION, &Change::announced(at.0)).await?;
            done.given_up += 1;
        }
        if is_ahead {
            // New records will be written at the positions behind the log's end, so the store must forget its own
            // positions there.
            self.store.rewind_applied(last.map(|position| position.0)).await?;
        }
        // The positions of another copy's revocations are not noted: if this start ends in between, the next one would
        // compare the changes behind the first of them, which are that copy's, too.
        let compared = applied.first().copied().or(last);
        let is_noted = |change: &EffectiveChange| Some(change.position) > compared;
        let mut rotations = Vec::new();
        for (fate, change) in missing {
            match fate {
                Fate::Revocation(revocation) => {
                    let tenant = change.intent.tenant();
                    let position = is_noted(&change).then_some(change.position.0);
                    match self.replay(tenant, revocation, position, done).await? {
                        Replayed::Applied => {}
                        Replayed::Superseded => match self.record_replayed(tenant, revocation, Outcome::Superseded).await {
                            Ok(()) if is_noted(&change) => self.mark(&change).await?,
                            Ok(()) => {}
                            // The next start looks at it again, so it must not be pruned.
                            Err(error) => {
                                tracing::warn!(%error, ?revocation, "a superseded revocation is recorded when the log has room");
                                done.following += 1;
                            }
                        },
                    }
                }
                // What the store could not take before, it could not note for later either.
                Fate::Unknown if rotated_key(&change.intent).is_some() => rotations.push(LostRotation::Interrupted(Box::new(change))),
                Fate::Unknown => self.mark(&change).await?,
                Fate::Lost => {
                    self.mark(&change).await?;
                    done.given_up += 1;
                }
            }
        }
        Ok(rotations)
    }

    /// Marks a change as applied in the store, so that the next start does not report it as
    /// missing.
    pub(super) async fn mark(&self, change: &EffectiveChange) -> Result<(), StoreError> {
        let applied = Change::announced(change.position.0);
        self.store.mark_applied(change.intent.tenant(), &applied).await
    }

    /// Writes the outcome of an intent that has none, from the state of the store. Returns a rotation whose provider is
    /// to be asked.
    async fn resolve(
        &self,
        intent: OpenIntent,
        history: &ChangeHistory,
        done: &mut Recovery,
    ) -> Result<Option<LostRotation>, RecoverError> {
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
                    (None, Object::Key, Verb::Rotate) => return Ok(Some(LostRotation::Open(Box::new(intent)))),
                    // The provider may have carried out the change, which the gateway cannot find
                    // out.
                    (None, _, _) if change.at_provider => {
                        warn_of_orphan(&change);
                        Outcome::Interrupted
                    }
                    // It may have had another outcome, and the store may have forgotten the position since.
                    (None, _, _) if history.may_lack_outcome(intent.position()) => Outcome::Interrupted,
                    // The change concerned the store only, and the store lacks its transaction, so
                    // nothing changed.
                    (None, _, _) => Outcome::Failed(Code::Internal.as_str()),
                },
                None => Outcome::Interrupted,
            }
        };
        self.close(intent, outcome, done).await?;
        Ok(None)
    }

    /// Writes the outcome of an intent.
    async fn close(&self, intent: OpenIntent, outcome: Outcome, done: &mut Recovery) -> Result<(), RecoverError> {
        match intent.resolve(&self.log, outcome, Instant::now() + PATIENCE).await {
            Ok(_) => done.resolved += 1,
            // Start even with a full disk, because revocations must be possible.
            Err(error) if error.deferred() => {
                tracing::warn!(%error, "an outcome follows when the log has room");
                done.following += 1;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Applies a revocation from the audit log or the kill file again, unless its object was
    /// enabled, restored or resumed since.
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
                // Raise the number before the revocation, so that after a crash in between the next
                // start does both.
                Ok(_) => self.store.raise_lifts(tenant, object, lifts).await?,
                Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let change = Change {
            intent,
            ..Change::unannounced()
        };
        match self.commit_revocation(tenant, revocation, self.now(), &change).await {
            Ok(revoked) => self.apply_revocation(&revoked),
            Err(StoreError::NotFound) => match self.revoke_detached(tenant, journaled, &change).await {
                Ok(true) => {}
                Ok(false) => {
                    done.superseded += 1;
                    return Ok(Replayed::Superseded);
                }
                // What does not exist cannot be used either.
                Err(StoreError::NotFound) => self.store.mark_applied(tenant, &change).await?,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        }
        done.revocations += 1;
        Ok(Replayed::Applied)
    }

    /// Applies a disable to a key that is detached in the store: in an older copy the adoption that preceded it is lost.
    /// `false` when the key was enabled since.
    ///
    /// # Errors
    /// `NotFound` when there is no such key, and for every other revocation: what it is of is never detached.
    async fn revoke_detached(&self, tenant: TenantId, journaled: JournaledRevocation, change: &Change) -> Result<bool, StoreError> {
        match journaled.revocation {
            EmergencyRevocation::Disable(key) => self.store.disable_detached(tenant, key, journaled.lifts, change).await,
            EmergencyRevocation::Sever(_)
            | EmergencyRevocation::Revoke(_)
            | EmergencyRevocation::Suspend(_)
            | EmergencyRevocation::DeletePrincipal(_) => Err(StoreError::NotFound),
        }
    }

    /// Records the result of a revocation whose request is not known any more.
    async fn record_replayed(&self, tenant: TenantId, revocation: JournaledRevocation, outcome: Outcome) -> Result<(), Unavailable> {
        let record = self.log.entry(tenant, action_of(revocation.revocation));
        let recorded = self
            .log
            .record_revocation(record, revocation, outcome, (), Instant::now() + PATIENCE)
            .await;
        recorded.map(audit::Recorded::into_value)
    }
}
