//! Offers revocations that the store could not take to the store again, until it has them.

use std::collections::HashMap;
use std::sync::Arc;

use claviger_provider::TenantId;
use metrics::gauge;

use super::revoke::Revoked;
use super::unstored::{Pending, UnstoredCounts};
use super::{Broker, Code, Failure};
use crate::audit::{EmergencyRevocation, Health, KillEntry, KillFileStanding};
use crate::keys::{ConnectionEntry, KeyEntry};
use crate::store::{Change, Refused, StoreError};

/// The metric of revocations that the store lacks.
const UNSTORED: &str = "claviger_revocations_unstored";
/// How many attempts of one round may fail before the rest waits for the next round.
const MAX_FAILURES: usize = 16;

/// What a revocation revokes, in memory.
enum Revocable {
    Key(Option<Arc<KeyEntry>>),
    Connection(Option<Arc<ConnectionEntry>>),
    Tenant,
    /// A token or a principal: never lifted.
    Credential,
}

impl Broker {
    /// How many revocations the store lacks.
    pub fn unstored_revocations(&self) -> UnstoredCounts {
        self.unstored.counts()
    }

    /// What became of the kill file.
    pub fn kill_file_standing(&self) -> KillFileStanding {
        self.kill_file.standing()
    }

    /// Ends a start that is refused. Blocks on the file system.
    pub fn start_refused(&self) {
        self.kill_file.start_refused();
    }

    /// Ends a start that is not refused. Blocks on the file system.
    pub fn start_accepted(&self) {
        self.kill_file.start_accepted();
    }

    /// Offers the revocations that the store lacks to the store again, and to the kill file those that it
    /// does not take. Call it every second.
    ///
    /// # Errors
    /// `effective_in_memory_only` while one is durable nowhere; another text while the store lacks one.
    pub async fn store_unstored(&self) -> Result<(), &'static str> {
        self.unstored.log_lost(self.log.lost_until());
        let (round, all) = self.unstored.next_round();
        if !all.is_empty() {
            self.note_written_records(&all);
            let mut failures = 0;
            for pending in all {
                let revocation = pending.journaled.revocation;
                self.unstored.change(pending.tenant, revocation, |pending| pending.tried = round);
                if let Err(failure) = self.store_again(&pending).await {
                    tracing::debug!(?revocation, code = failure.code.as_str(), "the store still lacks a revocation");
                    self.keep_again(&pending).await;
                    failures += 1;
                }
                if failures == MAX_FAILURES {
                    break;
                }
            }
        }
        self.free_slots().await;
        match self.count_unstored() {
            UnstoredCounts {
                in_memory_only: 0,
                elsewhere: 0,
            } => Ok(()),
            UnstoredCounts { in_memory_only: 0, .. } => Err("the store lacks revocations that the audit log or the kill file has"),
            UnstoredCounts { .. } => Err(Code::EffectiveInMemoryOnly.as_str()),
        }
    }

    /// Writes the kill file anew where the start could not. Call it now and then.
    ///
    /// # Errors
    /// A fixed text; the old file stays in use.
    pub async fn renew_kill_file(&self) -> Result<(), &'static str> {
        let file = Arc::clone(&self.kill_file);
        match tokio::task::spawn_blocking(move || file.renew()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err("the kill file cannot be written anew"),
        }
    }

    /// Puts the kill file back where something else removed or changed it. Until that succeeds, what only
    /// it has ends with this process. Then offers it the revocations that are durable nowhere: at the
    /// store each of them may wait for seconds. Call it every second.
    ///
    /// # Errors
    /// A fixed text, until it is back.
    pub async fn look_at_kill_file(&self) -> Result<(), &'static str> {
        let file = Arc::clone(&self.kill_file);
        let found = match tokio::task::spawn_blocking(move || file.look()).await {
            Ok(Ok(())) => {
                for pending in self.unstored.in_memory_only() {
                    self.keep_again(&pending).await;
                }
                Ok(())
            }
            Ok(Err(_)) | Err(_) => {
                self.unstored.kill_file_lost();
                Err("the kill file was removed or changed and cannot be put back")
            }
        };
        self.count_unstored();
        found
    }

    /// The revocations that the store lacks, as the metrics tell them from now on.
    fn count_unstored(&self) -> UnstoredCounts {
        let counts = self.unstored.counts();
        gauge!(UNSTORED, "kept" => "memory").set(counts.in_memory_only as f64);
        gauge!(UNSTORED, "kept" => "log_or_kill_file").set(counts.elsewhere as f64);
        counts
    }

    /// Once the log has written what it kept in memory, it has the records of these revocations.
    fn note_written_records(&self, all: &[Pending]) {
        if self.log.health() == Health::Sound && self.log.deferred() == 0 {
            for pending in all.iter().filter(|pending| pending.deferred) {
                self.unstored.note_recorded(pending.tenant, pending.journaled.revocation, None);
            }
        }
    }

    /// Commits a revocation that the store lacked, unless it was lifted meanwhile.
    async fn store_again(&self, pending: &Pending) -> Result<(), Failure> {
        let Pending { tenant, at, intent, .. } = *pending;
        let revocation = pending.journaled.revocation;
        let change = Change {
            intent,
            ..Change::unannounced()
        }
        .for_revocation();
        let commit = async || match self.commit_revocation(tenant, revocation, at, &change).await {
            Ok(revoked) => Ok(Some(revoked)),
            // What does not exist cannot be used either.
            Err(StoreError::NotFound) => {
                self.store.mark_applied(tenant, &change).await?;
                Ok(None)
            }
            Err(error) => Err(Failure::from(error)),
        };
        let object = match revocation {
            EmergencyRevocation::Disable(id) => Revocable::Key(self.directory().key(tenant, id).await?),
            EmergencyRevocation::Sever(id) => Revocable::Connection(self.directory().connection(tenant, id).await?),
            EmergencyRevocation::Suspend(_) => Revocable::Tenant,
            EmergencyRevocation::Revoke(_) | EmergencyRevocation::DeletePrincipal(_) => Revocable::Credential,
        };
        // The lock that an enable, a restore or a resume takes: what it lifted must not be committed after it.
        let _one_at_a_time = match &object {
            Revocable::Key(Some(entry)) => Some(entry.change().lock().await),
            Revocable::Connection(Some(entry)) => Some(entry.change().lock().await),
            Revocable::Tenant => Some(self.suspensions.turn().await),
            Revocable::Key(None) | Revocable::Connection(None) | Revocable::Credential => None,
        };
        if self.unstored.contains(tenant, revocation)
            && let Some(revoked) = commit().await?
        {
            match (&object, revoked) {
                (Revocable::Key(Some(entry)), Revoked::Key(row)) => entry.put(row, None),
                (Revocable::Connection(Some(entry)), Revoked::Connection(row)) => entry.put(row),
                (_, revoked) => self.apply_revocation(&revoked),
            }
        }
        self.stored(tenant, revocation);
        Ok(())
    }

    /// Pushes a revocation that no medium has to the kill file again.
    async fn keep_again(&self, pending: &Pending) {
        if pending.media.kill_file {
            return;
        }
        let entry = KillEntry::now(pending.tenant, pending.journaled);
        if self.push_to_kill_file(entry).await.is_ok() {
            let revocation = pending.journaled.revocation;
            self.unstored
                .change(pending.tenant, revocation, |pending| pending.media.kill_file = true);
        }
    }

    /// Removes from the kill file what store and log have since. Where that fails, the next start does it.
    async fn free_slots(&self) {
        let settled = self.unstored.take_settled().into_iter();
        let settled: HashMap<_, _> = settled
            .map(|(tenant, journaled)| ((tenant, journaled.revocation), journaled.lifts))
            .collect();
        if settled.is_empty() {
            return;
        }
        // One that was pushed after a lift has more of them, and stays.
        let is_settled = |entry: &KillEntry| {
            let lifts = settled.get(&(entry.tenant, entry.revocation.revocation));
            lifts.is_some_and(|lifts| entry.revocation.lifts <= *lifts)
        };
        let entries: Vec<KillEntry> = self.kill_file.entries().into_iter().filter(is_settled).collect();
        if !entries.is_empty() && !self.clear_from_kill_file(entries).await {
            tracing::warn!("the kill file keeps revocations that store and log have; the next start removes them");
        }
    }

    /// Forgets a revocation as one that the store lacks: the store has it, and memory was told of the
    /// row, or it was lifted.
    pub(super) fn stored(&self, tenant: TenantId, revocation: EmergencyRevocation) {
        if !self.unstored.remove(tenant, revocation) {
            return;
        }
        match revocation {
            EmergencyRevocation::Disable(id) => self.directory().key_stored(tenant, id),
            EmergencyRevocation::Sever(id) => self.directory().connection_stored(id),
            EmergencyRevocation::Revoke(id) => self.authenticator().readmit(Refused::Token(id)),
            EmergencyRevocation::DeletePrincipal(id) => self.authenticator().readmit(Refused::Principal(id)),
            EmergencyRevocation::Suspend(id) => self.authenticator().readmit(Refused::Tenant(id)),
        }
    }
}
