//! What the log must know to continue: the next sequence numbers, the open intents, the last
//! effective change.

use std::collections::HashMap;

use claviger_provider::TenantId;

use super::fields::Lost;
use super::origin::Position;
use super::role::Role;
use super::scalar::Timestamp;

/// The state after all records up to one offset of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct State {
    /// The next sequence number of each tenant.
    pub(super) next: HashMap<TenantId, u64>,
    /// Intents without an outcome, by tenant and sequence number, and their offsets.
    pub(super) open: HashMap<(TenantId, u64), Position>,
    /// The position of the last change that took effect, or may have: that of its intent, or of its
    /// outcome if it had no intent. Open intents do not count.
    pub(super) last_effective: Option<Position>,
    /// The latest time of a record. The clock may step back.
    pub(super) last_time: Option<Timestamp>,
    /// The parts of the file that are gone, in the order in which they were found.
    pub(super) losses: Vec<Loss>,
}

/// A part of the file that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) lost: Lost,
    /// Whether a durable record reports it.
    pub(super) reported: bool,
}

impl State {
    /// The sequence number of the tenant's next record.
    pub(super) fn next(&self, tenant: TenantId) -> u64 {
        self.next.get(&tenant).copied().unwrap_or(0)
    }

    /// Adds a durable record.
    pub(super) fn add(&mut self, tenant: TenantId, number: u64, role: Role, position: Position, time: Timestamp) {
        self.next.insert(tenant, number + 1);
        self.last_time = self.last_time.max(Some(time));
        match role {
            Role::Plain => {}
            Role::Opens => {
                self.open.insert((tenant, number), position);
            }
            Role::Closes { intent, effective } => {
                let opened = self.open.remove(&(tenant, intent));
                if effective {
                    self.last_effective = self.last_effective.max(opened);
                }
            }
            Role::Effective => self.last_effective = self.last_effective.max(Some(position)),
            Role::ReportsLoss(lost) => {
                let mut same = self.losses.iter_mut().filter(|loss| loss.lost == lost);
                if let Some(loss) = same.next() {
                    loss.reported = true;
                }
            }
        }
    }

    /// Adds a part of the file that is gone, unless it is known. An intent in it has no outcome
    /// that a start could tell. Returns whether it is new.
    pub(super) fn lose(&mut self, lost: Lost) -> bool {
        let new = self.losses.iter().all(|loss| loss.lost != lost);
        if new {
            self.losses.push(Loss { lost, reported: false });
            self.open.retain(|_, position| !lost.contains(position.0));
        }
        new
    }

    /// The losses that no record reports yet.
    pub(super) fn unreported(&self) -> impl Iterator<Item = Lost> {
        self.losses.iter().filter(|loss| !loss.reported).map(|loss| loss.lost)
    }

    /// Takes over what an older state of the same log knows of records that are gone.
    pub(super) fn add_lost(&mut self, older: Self, until: u64) {
        for (tenant, next) in older.next {
            let now = self.next.entry(tenant).or_default();
            *now = next.max(*now);
        }
        // An intent before `until` that was not open any more had its outcome in a lost part.
        self.open
            .retain(|intent, position| position.0 >= until || older.open.contains_key(intent));
        self.last_effective = self.last_effective.max(older.last_effective);
        self.last_time = self.last_time.max(older.last_time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_when_it_took_effect_and_not_before() {
        let (tenant, time) = (TenantId::random(), Timestamp::now());
        let mut state = State::default();
        state.add(tenant, 0, Role::Opens, Position(100), time);
        state.add(tenant, 1, Role::Opens, Position(200), time);
        assert_eq!(state.last_effective, None);
        let closes = Role::Closes {
            intent: 0,
            effective: true,
        };
        state.add(tenant, 2, closes, Position(300), time);
        assert_eq!(state.last_effective, Some(Position(100)));
        assert_eq!(state.open.values().collect::<Vec<_>>(), [&Position(200)]);
        assert_eq!(state.next(tenant), 3);
    }
}
