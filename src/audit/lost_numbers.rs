//! The sequence numbers that records of a lost part may have had: none of them is given again.
//!
//! A lost part tells by its length how many records it had at most, of one tenant as of all. The part at the end of a
//! log may have been longer than anything tells: the sidecar is older than the log by up to
//! [`super::Options::snapshot_bytes`], and the store by half a second. So a tenant that has no record behind a lost
//! part goes on with a gap, and so does one of which nothing is known.

use std::collections::HashMap;

use claviger_provider::TenantId;

use super::fields::Lost;
use super::origin::Position;
use super::state::State;

/// No frame is shorter, in bytes: each has the ids of installation and tenant, the names of its members, and a time.
const LEAST_FRAME: u64 = 128;

/// How much of a log may be lost that neither the sidecar nor the store knows of, in bytes: twice what the log grows
/// between two writes of the sidecar.
const UNSEEN: u64 = 128 << 20;

/// What is lost before the place up to which a log was read.
#[derive(Debug, Default)]
pub(super) struct LostNumbers {
    /// What was lost before this position had numbers that are known.
    known_until: u64,
    /// How many parts are lost.
    parts: usize,
    /// How many records they had at most.
    records: u64,
    /// Both at a tenant's last record, if any was lost before.
    at_last: HashMap<TenantId, (usize, u64)>,
}

impl LostNumbers {
    /// For a log of which something else knows each tenant's next number at that position.
    pub(super) fn known_until(position: u64) -> Self {
        Self {
            known_until: position,
            ..Self::default()
        }
    }

    /// Adds the next lost part.
    pub(super) fn lose(&mut self, lost: Lost) {
        self.parts += 1;
        let (from, to) = (lost.from.get(), lost.to.get());
        if to > self.known_until {
            self.records += (to - from.max(self.known_until) + UNSEEN) / LEAST_FRAME;
        }
    }

    /// Adds what another copy of the log had, up to a position in it: nothing tells where it went on in place of this one.
    pub(super) fn lose_branch(&mut self, until: Option<Position>) {
        self.parts += 1;
        self.records += (until.map_or(0, |until| until.0) + UNSEEN) / LEAST_FRAME;
    }

    /// Whether records of the tenant may have been lost since its last one, so that its number may jump.
    pub(super) fn may_jump(&self, tenant: TenantId) -> bool {
        self.parts > self.at_last.get(&tenant).map_or(0, |(parts, _)| *parts)
    }

    /// Notes a record of the tenant.
    pub(super) fn found(&mut self, tenant: TenantId) {
        if self.parts > 0 {
            self.at_last.insert(tenant, (self.parts, self.records));
        }
    }

    /// Raises the next numbers by those that may have been given.
    pub(super) fn add_to(&self, state: &mut State) {
        if self.records == 0 {
            return;
        }
        tracing::warn!(
            numbers = self.records,
            "records of unknown number are lost: tenants without a later record go on with a gap in their numbers"
        );
        for (tenant, next) in &mut state.numbers.next {
            let known = self.at_last.get(tenant).map_or(0, |(_, records)| *records);
            *next += self.records - known;
        }
        state.numbers.first += self.records;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_without_a_later_record_goes_on_behind_all_that_may_be_lost() {
        let [silent, later, unknown] = [1, 2, 3].map(|number| TenantId::from_bytes([number; 16]));
        let mut state = State::default();
        state.numbers.next.extend([(silent, 5), (later, 7)]);
        let mut lost = LostNumbers::default();
        assert!(!lost.may_jump(later));
        lost.lose(Lost::new(1000, 1000 + 10 * LEAST_FRAME));
        assert!(lost.may_jump(later));
        lost.found(later);
        assert!(!lost.may_jump(later) && lost.may_jump(silent));
        lost.add_to(&mut state);
        let gap = 10 + UNSEEN / LEAST_FRAME;
        assert_eq!([silent, later, unknown].map(|tenant| state.next(tenant)), [5 + gap, 7, gap]);
    }

    #[test]
    fn another_copy_may_have_given_numbers_from_its_beginning_on() {
        let mut state = State::default();
        let mut lost = LostNumbers::known_until(5000);
        let long = 10 * UNSEEN;
        lost.lose_branch(Some(Position(long)));
        lost.add_to(&mut state);
        assert_eq!(state.numbers.first, (long + UNSEEN) / LEAST_FRAME);
    }

    #[test]
    fn what_the_sidecar_knows_leaves_no_gap() {
        let mut state = State::default();
        let mut lost = LostNumbers::known_until(5000);
        lost.lose(Lost::new(1000, 5000));
        lost.add_to(&mut state);
        assert_eq!(state, State::default());
        lost.lose(Lost::new(4000, 5000 + LEAST_FRAME));
        lost.add_to(&mut state);
        assert_eq!(state.numbers.first, 1 + UNSEEN / LEAST_FRAME);
    }
}
