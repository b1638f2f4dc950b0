//! Revocations that took effect and that the store could not take, until it can.
//!
//! Memory has them in any case. [`Media`] says where each is durable beside it: without any, it ends
//! with this process, which the caller is told (`effective_in_memory_only`). There is at most one for
//! each object, so the tenants' quotas bound the number, and a tenant's own never refuse another's.

use std::collections::HashMap;

use claviger_provider::TenantId;
use metrics::gauge;
use parking_lot::Mutex;

use super::{Broker, Code, Failure};
use crate::access::Refused;
use crate::audit::{EmergencyRevocation, Health, JournaledRevocation, KillEntry, KillFileStanding};
use crate::store::{Change, StoreError};

/// The metric of revocations that the store lacks.
const UNSTORED: &str = "claviger_revocations_unstored";
/// How many attempts of one round may fail before the rest waits for the next round.
const MAX_FAILURES: usize = 16;

/// Where a revocation is durable that the store lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Media {
    /// The audit log has its intent or its record.
    pub(super) log: bool,
    /// The kill file has it.
    pub(super) kill_file: bool,
}

impl Media {
    const fn is_none(self) -> bool {
        !self.log && !self.kill_file
    }
}

/// How many revocations the store lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnstoredCounts {
    /// Those that hold only while this process lives.
    pub in_memory_only: usize,
    /// Those that the audit log or the kill file has.
    pub elsewhere: usize,
}

/// A revocation that the store lacks.
#[derive(Debug, Clone, Copy)]
struct Pending {
    tenant: TenantId,
    journaled: JournaledRevocation,
    /// When the row was revoked, in Unix microseconds.
    at: i64,
    /// The position of its intent in the log.
    intent: Option<u64>,
    media: Media,
    /// Whether the log keeps its record in memory and writes it when it can.
    deferred: bool,
    /// The round in which the store was last tried.
    tried: u64,
}

/// All revocations that the store lacks.
#[derive(Debug, Default)]
pub(super) struct Unstored(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pending: HashMap<(TenantId, EmergencyRevocation), Pending>,
    round: u64,
}

/// Ids of keys are unique in a tenant only; a suspend belongs to the suspended tenant.
const fn name(tenant: TenantId, revocation: EmergencyRevocation) -> (TenantId, EmergencyRevocation) {
    match revocation {
        EmergencyRevocation::Suspend(suspended) => (suspended, revocation),
        EmergencyRevocation::Disable(_)
        | EmergencyRevocation::Sever(_)
        | EmergencyRevocation::Revoke(_)
        | EmergencyRevocation::DeletePrincipal(_) => (tenant, revocation),
    }
}

impl Unstored {
    /// Notes a revocation that the store could not take. `at` in Unix microseconds; `intent` is its
    /// position in the log.
    pub(super) fn note(&self, tenant: TenantId, journaled: JournaledRevocation, at: i64, intent: Option<u64>, kill_file: bool) {
        let media = Media {
            log: intent.is_some(),
            kill_file,
        };
        let mut state = self.0.lock();
        let pending = state.pending.entry(name(tenant, journaled.revocation)).or_insert(Pending {
            tenant,
            journaled,
            at,
            intent,
            media,
            deferred: false,
            tried: 0,
        });
        pending.journaled.lifts = pending.journaled.lifts.max(journaled.lifts);
        pending.intent = intent.or(pending.intent);
        pending.media.log |= media.log;
        pending.media.kill_file |= media.kill_file;
    }

    fn change(&self, tenant: TenantId, revocation: EmergencyRevocation, change: impl FnOnce(&mut Pending)) {
        if let Some(pending) = self.0.lock().pending.get_mut(&name(tenant, revocation)) {
            change(pending);
        }
    }

    /// The log has a record of the revocation, or its intent at this position.
    pub(super) fn note_recorded(&self, tenant: TenantId, revocation: EmergencyRevocation, intent: Option<u64>) {
        self.change(tenant, revocation, |pending| {
            pending.media.log = true;
            pending.intent = intent.or(pending.intent);
        });
    }

    /// The log keeps a record of the revocation in memory.
    pub(super) fn note_deferred(&self, tenant: TenantId, revocation: EmergencyRevocation) {
        self.change(tenant, revocation, |pending| pending.deferred = true);
    }

    /// Whether the revocation holds only while this process lives.
    pub(super) fn is_in_memory_only(&self, tenant: TenantId, revocation: EmergencyRevocation) -> bool {
        let state = self.0.lock();
        let pending = state.pending.get(&name(tenant, revocation));
        pending.is_some_and(|pending| pending.media.is_none())
    }

    fn remove(&self, tenant: TenantId, revocation: EmergencyRevocation) -> bool {
        self.0.lock().pending.remove(&name(tenant, revocation)).is_some()
    }

    fn counts(&self) -> UnstoredCounts {
        let state = self.0.lock();
        let in_memory_only = state.pending.values().filter(|pending| pending.media.is_none()).count();
        UnstoredCounts {
            in_memory_only,
            elsewhere: state.pending.len() - in_memory_only,
        }
    }

    /// Begins a round: all revocations, those without a medium first, then those that waited longest.
    fn next_round(&self) -> (u64, Vec<Pending>) {
        let mut state = self.0.lock();
        state.round += 1;
        let mut all: Vec<Pending> = state.pending.values().copied().collect();
        all.sort_by_key(|pending| (!pending.media.is_none(), pending.tried));
        (state.round, all)
    }
}

impl Broker {
    /// How many revocations the store lacks.
    pub fn unstored_revocations(&self) -> UnstoredCounts {
        self.unstored.counts()
    }

    /// What the start found of the kill file.
    pub fn kill_file_standing(&self) -> KillFileStanding {
        self.kill_file.standing()
    }

    /// Offers the revocations that the store lacks to the store again, and to the kill file those that
    /// are nowhere else. Call it every second.
    ///
    /// # Errors
    /// `effective_in_memory_only` while one is durable nowhere; another text while the store lacks one.
    pub async fn store_unstored(&self) -> Result<(), &'static str> {
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
        let counts = self.unstored.counts();
        gauge!(UNSTORED, "kept" => "memory").set(counts.in_memory_only as f64);
        gauge!(UNSTORED, "kept" => "log_or_kill_file").set(counts.elsewhere as f64);
        match counts {
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
        let file = std::sync::Arc::clone(&self.kill_file);
        match tokio::task::spawn_blocking(move || file.renew()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err("the kill file cannot be written anew"),
        }
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
        // Under the lock that an enable, a restore or a resume takes: what it lifted must not be
        // committed after it.
        let is_pending = || self.unstored.0.lock().pending.contains_key(&name(tenant, revocation));
        match revocation {
            EmergencyRevocation::Disable(id) => {
                let entry = self.directory().key(tenant, id).await?;
                let _one_at_a_time = match &entry {
                    Some(entry) => Some(entry.change().lock().await),
                    None => None,
                };
                if is_pending()
                    && let (Some(super::Revoked::Key(row)), Some(entry)) = (commit().await?, &entry)
                {
                    entry.put(row, None);
                }
                self.stored(tenant, revocation);
            }
            EmergencyRevocation::Sever(id) => {
                let entry = self.directory().connection(tenant, id).await?;
                let _one_at_a_time = match &entry {
                    Some(entry) => Some(entry.change().lock().await),
                    None => None,
                };
                if is_pending()
                    && let (Some(super::Revoked::Connection(row)), Some(entry)) = (commit().await?, &entry)
                {
                    entry.put(row);
                }
                self.stored(tenant, revocation);
            }
            EmergencyRevocation::Suspend(_) => {
                let _one_at_a_time = self.suspensions.turn().await;
                if is_pending()
                    && let Some(revoked) = commit().await?
                {
                    self.apply_revocation(&revoked);
                }
                self.stored(tenant, revocation);
            }
            EmergencyRevocation::Revoke(_) | EmergencyRevocation::DeletePrincipal(_) => {
                if let Some(revoked) = commit().await? {
                    self.apply_revocation(&revoked);
                }
                self.stored(tenant, revocation);
            }
        }
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
