//! Changes of state: the intent before the effect, and revocations that never wait for the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{KeyId, TenantId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::context::Effect;
use super::{Broker, Code, Failure, RequestContext};
use crate::audit::{
    EmergencyRevocation, Intent, JournaledRevocation, KillEntry, KillFileError, Object, Outcome, Reason, StateChange, Unavailable, Verb,
};
use crate::store::{self, StoreError};

/// How long a revocation waits for the log before it takes effect without it, and for the store to say that it has it.
pub(super) const CUT_PATIENCE: Duration = Duration::from_millis(500);
/// The longest wait for an intent that was not durable within [`CUT_PATIENCE`].
const LATE_INTENT: Duration = Duration::from_secs(60);

/// Warns the operator of a provider key that a change may have made and that no version uses.
pub(super) fn warn_of_orphan(change: &StateChange) {
    let made_as = match change.verb {
        Verb::Create => Some(change.id),
        _ => change.made_as,
    };
    if let (Object::Key, Some(made_as)) = (change.object, made_as) {
        let (key, made_as) = (KeyId::from_bytes(change.id.0), KeyId::from_bytes(made_as.0));
        tracing::warn!(%key, %made_as, "a change was interrupted that makes a provider key: the provider may have one of that id. The gateway looks for it in a minute, and finishes \
             the change or logs what is left");
    }
}

impl Broker {
    /// Makes the intent durable. The effect may be caused once this returned `Ok`, and only together
    /// with the change that it returns, which is refused unless the credential is in force then.
    ///
    /// # Errors
    /// `audit_unavailable`, `not_ready` while the store's files are lost, and `unauthenticated` for a credential that has
    /// ended: nothing may be done.
    pub(super) async fn announce(&self, cx: &RequestContext, change: StateChange) -> Result<store::Change, Failure> {
        // Before a provider does what the store could not take.
        if !self.store.has_its_files() {
            return Err(StoreError::FilesLost.into());
        }
        let intent = self.log.intent(self.entry(cx), change, cx.info().deadline).await.map_err(|error| {
            tracing::error!(%error, "an intent could not be recorded");
            if error.reason() == Reason::Deadline {
                Failure::deadline()
            } else {
                Failure::new(Code::AuditUnavailable, "The audit log cannot record the intent; nothing was done.")
            }
        })?;
        let position = intent.position().0;
        cx.set_effect(Effect::Announced(Box::new(intent)));
        // What is done at a provider next cannot be refused by a transaction.
        self.in_force(cx)?;
        Ok(self.asked_by(cx, store::Change::announced(position)).within(self.quotas_of(cx)))
    }

    /// A change without an intent, for a request: what is kept of it beside its effect. It is refused unless the
    /// request's credential is in force when it is committed.
    pub(super) fn unannounced(&self, cx: &RequestContext) -> store::Change {
        self.asked_by(cx, store::Change::unannounced())
    }

    fn asked_by(&self, cx: &RequestContext, change: store::Change) -> store::Change {
        change.asked_with(cx.credential_ref(), self.authenticator().refusals())
    }

    /// Announces a revocation. If the log cannot take the intent within [`CUT_PATIENCE`], writes the
    /// revocation to the kill file instead and goes on, whatever becomes of the credential: the next
    /// start applies what is in the kill file, so a transaction must not refuse it.
    ///
    /// # Errors
    /// `unauthenticated` for a credential that has ended: it revokes nothing any more.
    pub(super) async fn announce_revocation(&self, cx: &RequestContext, revocation: JournaledRevocation) -> Result<store::Change, Failure> {
        self.in_force(cx)?;
        let (log, entry) = (self.log.clone(), self.entry(cx));
        let mut announcing = tokio::spawn(async move { log.intent(entry, revocation.into(), Instant::now() + LATE_INTENT).await });
        let announced = tokio::time::timeout(CUT_PATIENCE, &mut announcing).await;
        if let Ok(Ok(Ok(intent))) = announced {
            let position = intent.position().0;
            cx.set_effect(Effect::Announced(Box::new(intent)));
            return Ok(self.asked_by(cx, store::Change::announced(position)).for_revocation());
        }
        tracing::error!(?revocation, "a revocation takes effect although its intent is not recorded");
        let (waiting, stored) = oneshot::channel();
        if announced.is_err() {
            self.follow_late_intent(cx.tenant(), revocation.revocation, announcing, stored);
        }
        self.keep_in_kill_file(cx, revocation).await;
        cx.set_effect(Effect::Unannounced(revocation, Some(waiting)));
        Ok(store::Change::unannounced().for_revocation())
    }

    /// Closes an intent that becomes durable after its revocation went on without it. If it stayed
    /// open, the next start would handle it again. It is marked as applied once the store has the revocation (`stored`):
    /// if this part of the log gets lost, the store would count as an older one without the mark.
    fn follow_late_intent(
        &self,
        tenant: TenantId,
        revocation: EmergencyRevocation,
        announcing: JoinHandle<Result<Intent, Unavailable>>,
        stored: oneshot::Receiver<()>,
    ) {
        let (unstored, store) = (Arc::clone(&self.unstored), Arc::clone(&self.store));
        tokio::spawn(async move {
            let Ok(Ok(intent)) = announcing.await else { return };
            let position = intent.position().0;
            unstored.note_recorded(tenant, revocation, Some(position));
            let resolved = intent.resolve(Outcome::Success, |_| (), (), Instant::now() + LATE_INTENT).await;
            if resolved.is_err() {
                tracing::error!("a late intent stays open until the next start");
                return;
            }
            if stored.await.is_err() {
                // The store gets the position with the revocation, which may have become unstored only now.
                unstored.note_recorded(tenant, revocation, Some(position));
            } else if let Err(error) = store.mark_applied(tenant, &store::Change::announced(position)).await {
                tracing::warn!(%error, "a late intent is left to the next start");
            }
        });
    }

    /// Evaluates the result of a revocation's transaction. If the store could not take the
    /// revocation, it is kept in memory and the kill file, which is not a failure, and the store is
    /// tried again ([`Broker::store_unstored`]). `at` in Unix microseconds.
    ///
    /// # Errors
    /// When the store could be asked and says that there is no such object.
    pub(super) async fn revocation_committed<T>(
        &self,
        cx: &RequestContext,
        revocation: JournaledRevocation,
        at: i64,
        change: &store::Change,
        committed: Result<T, StoreError>,
    ) -> Result<Option<T>, Failure> {
        match committed {
            Ok(row) => Ok(Some(row)),
            Err(
                error @ (StoreError::Busy
                | StoreError::FilesLost
                | StoreError::CommitFailed(_)
                | StoreError::Database(_)
                | StoreError::Damaged(_)),
            ) => {
                tracing::error!(%error, ?revocation, "the store could not take a revocation");
                let kept = self.keep_in_kill_file(cx, revocation).await;
                self.unstored.note(cx.tenant(), revocation, at, change.intent, kept);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a revocation to the kill file. Returns whether it is durable there.
    async fn keep_in_kill_file(&self, cx: &RequestContext, revocation: JournaledRevocation) -> bool {
        let pushed = self.push_to_kill_file(KillEntry::now(cx.tenant(), revocation)).await;
        if let Err(error) = &pushed {
            tracing::error!(%error, ?revocation, "the kill file could not take a revocation");
        }
        pushed.is_ok()
    }

    pub(super) async fn push_to_kill_file(&self, entry: KillEntry) -> Result<(), KillFileError> {
        self.kill_file_writer.push(entry).await
    }

    /// Ends the revocation of an object that was enabled, restored or resumed: it is not offered to the
    /// store any more, and removed from the kill file. The latter may fail without harm: the commit
    /// raised the number of lifts, so the next start does not revoke again.
    pub(super) async fn revocation_lifted(&self, tenant: TenantId, lifted: EmergencyRevocation) {
        self.stored(tenant, lifted);
        // Two tenants can have keys of one id, and a suspend is no tenant's own.
        let is_own = |entry: &KillEntry| entry.tenant == tenant || matches!(lifted, EmergencyRevocation::Suspend(_));
        let entries = self.kill_file.entries().into_iter();
        let standing: Vec<KillEntry> = entries
            .filter(|entry| entry.revocation.revocation == lifted && is_own(entry))
            .collect();
        if standing.is_empty() {
            return;
        }
        if !self.clear_from_kill_file(standing).await {
            tracing::warn!(
                ?lifted,
                "the kill file keeps a revocation that was lifted; the next start removes it"
            );
        }
    }

    /// Removes revocations from the kill file. Returns whether that is durable.
    pub(super) async fn clear_from_kill_file(&self, entries: Vec<KillEntry>) -> bool {
        let file = Arc::clone(&self.kill_file);
        matches!(tokio::task::spawn_blocking(move || file.clear(&entries)).await, Ok(Ok(())))
    }
}
