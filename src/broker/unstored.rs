//! Revocations that took effect and that the store could not take, until it can.
//!
//! Memory has them in any case. [`Media`] says where each is durable beside it: without any, it ends
//! with this process, which the caller is told (`effective_in_memory_only`). There is at most one for
//! each object, so the tenants' quotas bound the number, and a tenant's own never refuse another's.

use std::collections::HashMap;

use claviger_provider::TenantId;
use parking_lot::Mutex;

use crate::audit::{EmergencyRevocation, JournaledRevocation};

/// How many revocations the kill file is offered in a round: each takes a sync.
const PUSHED: usize = 64;

/// Where a revocation is durable that the store lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Media {
    /// The audit log has its intent or its record.
    pub(super) log: bool,
    /// The kill file has it.
    pub(super) kill_file: bool,
}

impl Media {
    pub(super) const fn is_none(self) -> bool {
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
pub(super) struct Pending {
    pub(super) tenant: TenantId,
    pub(super) journaled: JournaledRevocation,
    /// When the row was revoked, in Unix microseconds.
    pub(super) at: i64,
    /// The position of its intent in the log.
    pub(super) intent: Option<u64>,
    pub(super) media: Media,
    /// Whether the log keeps its record in memory and writes it when it can.
    pub(super) deferred: bool,
    /// The round in which the store was last tried.
    pub(super) tried: u64,
}

/// All revocations that the store lacks.
#[derive(Debug, Default)]
pub(super) struct Unstored(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pending: HashMap<(TenantId, EmergencyRevocation), Pending>,
    /// How many reads are under way that began while the store lacked a revocation.
    reads: usize,
    /// What left `pending` during these reads, whose rows may be from before. It applies to newer rows, too: they are
    /// revoked already, or their revocation was lifted and they say so.
    left: HashMap<(TenantId, EmergencyRevocation), Pending>,
    /// What store and log have, so that it needs no slot in the kill file any more.
    settled: Vec<(TenantId, JournaledRevocation)>,
    round: u64,
    /// The position before which the log's records may be gone.
    lost_until: u64,
}

/// The revocations that the store may lack for a read of rows that begins after this was made: what is not here, the
/// rows have.
pub(super) struct Lacking<'a>(Option<&'a Unstored>);

impl Lacking<'_> {
    /// Whether the store has all of them, as it nearly always does.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A revocation of an object of this tenant, which a suspended tenant is itself.
    pub(super) fn get(&self, tenant: TenantId, revocation: EmergencyRevocation) -> Option<Pending> {
        let state = self.0?.0.lock();
        let name = (tenant, revocation);
        state.pending.get(&name).or_else(|| state.left.get(&name)).copied()
    }
}

impl Drop for Lacking<'_> {
    fn drop(&mut self) {
        if let Some(unstored) = self.0 {
            let mut state = unstored.0.lock();
            state.reads -= 1;
            if state.reads == 0 {
                state.left = HashMap::new();
            }
        }
    }
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

    /// Changes a revocation that is still here.
    pub(super) fn change(&self, tenant: TenantId, revocation: EmergencyRevocation, change: impl FnOnce(&mut Pending)) {
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

    /// The log lost a part that ends at this position: what stood before it may be gone. Without a known position, too.
    pub(super) fn log_lost(&self, until: u64) {
        let mut state = self.0.lock();
        if until <= state.lost_until {
            return;
        }
        state.lost_until = until;
        for pending in state
            .pending
            .values_mut()
            .filter(|pending| pending.intent.is_none_or(|at| at < until))
        {
            pending.media.log = false;
        }
    }

    /// The kill file has none of the revocations any more.
    pub(super) fn kill_file_lost(&self) {
        let mut state = self.0.lock();
        state.pending.values_mut().for_each(|pending| pending.media.kill_file = false);
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

    /// Whether the store still lacks the revocation.
    pub(super) fn contains(&self, tenant: TenantId, revocation: EmergencyRevocation) -> bool {
        self.0.lock().pending.contains_key(&name(tenant, revocation))
    }

    /// What the store lacks for a read that begins afterwards.
    pub(super) fn lacking(&self) -> Lacking<'_> {
        let mut state = self.0.lock();
        if state.pending.is_empty() {
            return Lacking(None);
        }
        state.reads += 1;
        Lacking(Some(self))
    }

    /// Forgets a revocation. Returns whether it was here.
    pub(super) fn remove(&self, tenant: TenantId, revocation: EmergencyRevocation) -> bool {
        let name = name(tenant, revocation);
        let mut state = self.0.lock();
        let Some(pending) = state.pending.remove(&name) else {
            return false;
        };
        if state.reads > 0 {
            state.left.insert(name, pending);
        }
        // Without its record, the next start must find it in the kill file.
        if pending.media.log && pending.media.kill_file {
            state.settled.push((pending.tenant, pending.journaled));
        }
        true
    }

    /// The log has the record of a revocation that was carried out without an intent. Unless it is here, the store
    /// has it, too.
    pub(super) fn release_slot(&self, tenant: TenantId, journaled: JournaledRevocation) {
        let mut state = self.0.lock();
        if !state.pending.contains_key(&name(tenant, journaled.revocation)) {
            state.settled.push((tenant, journaled));
        }
    }

    /// What needs no slot in the kill file since the last call.
    pub(super) fn take_settled(&self) -> Vec<(TenantId, JournaledRevocation)> {
        std::mem::take(&mut self.0.lock().settled)
    }

    /// How many there are.
    pub(super) fn counts(&self) -> UnstoredCounts {
        let state = self.0.lock();
        let in_memory_only = state.pending.values().filter(|pending| pending.media.is_none()).count();
        UnstoredCounts {
            in_memory_only,
            elsewhere: state.pending.len() - in_memory_only,
        }
    }

    /// Those that hold only while this process lives, [`PUSHED`] at most.
    pub(super) fn in_memory_only(&self) -> Vec<Pending> {
        let state = self.0.lock();
        let nowhere = state.pending.values().filter(|pending| pending.media.is_none());
        nowhere.take(PUSHED).copied().collect()
    }

    /// Begins a round: all revocations, those without a medium first, then those that waited longest.
    pub(super) fn next_round(&self) -> (u64, Vec<Pending>) {
        let mut state = self.0.lock();
        state.round += 1;
        let mut all: Vec<Pending> = state.pending.values().copied().collect();
        all.sort_by_key(|pending| (!pending.media.is_none(), pending.tried));
        (state.round, all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use claviger_provider::{KeyId, TenantId};

    use super::Unstored;
    use crate::audit::{EmergencyRevocation, JournaledRevocation};

    #[test]
    fn what_only_a_lost_part_of_the_log_had_is_in_memory_only() {
        let (unstored, tenant) = (Unstored::default(), TenantId::random());
        let [early, late, kept, unplaced] = [(); 4].map(|()| EmergencyRevocation::Disable(KeyId::random()));
        let of = |revocation| JournaledRevocation { revocation, lifts: 0 };
        unstored.note(tenant, of(early), 7, Some(100), false);
        unstored.note(tenant, of(late), 7, Some(300), false);
        unstored.note(tenant, of(kept), 7, Some(100), true);
        unstored.note(tenant, of(unplaced), 7, None, false);
        unstored.note_recorded(tenant, unplaced, None);
        unstored.log_lost(0);
        assert_eq!(unstored.counts().in_memory_only, 0);
        unstored.log_lost(200);
        let in_memory_only = |revocation| unstored.is_in_memory_only(tenant, revocation);
        assert!(in_memory_only(early) && in_memory_only(unplaced) && !in_memory_only(late) && !in_memory_only(kept));

        // Recorded again, it is not lost once more by the same loss.
        unstored.note_recorded(tenant, early, Some(400));
        unstored.note_recorded(tenant, unplaced, None);
        unstored.log_lost(200);
        assert_eq!(unstored.counts().in_memory_only, 0);
    }

    #[test]
    fn a_read_finds_what_leaves_while_it_runs_and_nothing_is_kept_after_it() {
        let (unstored, tenant) = (Unstored::default(), TenantId::random());
        let revocations = [(); 2].map(|()| EmergencyRevocation::Disable(KeyId::random()));
        assert!(unstored.lacking().is_empty());
        for revocation in revocations {
            let journaled = JournaledRevocation { revocation, lifts: 0 };
            unstored.note(tenant, journaled, 7, None, true);
        }

        let early = unstored.lacking();
        assert!(unstored.remove(tenant, revocations[0]));
        let late = unstored.lacking();
        drop(late);
        assert_eq!(early.get(tenant, revocations[0]).unwrap().at, 7, "its row may be from before");
        assert_eq!(early.get(tenant, revocations[1]).unwrap().at, 7);
        drop(early);

        let next = unstored.lacking();
        assert!(next.get(tenant, revocations[0]).is_none() && !next.is_empty());
        drop(next);
        assert!(unstored.remove(tenant, revocations[1]));
        assert!(unstored.lacking().is_empty());
    }
}
