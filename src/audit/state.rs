//! What the log must know to continue: the next sequence numbers, the open intents, the last
//! effective change.

use std::collections::HashMap;

use claviger_provider::TenantId;

use super::fields::Lost;
use super::numbers::Numbers;
use super::origin::Position;
use super::removed::Removal;
use super::role::Role;
use super::scalar::Timestamp;

/// The state after all records up to one offset of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct State {
    /// The next sequence number of each tenant.
    pub(super) numbers: Numbers,
    /// Intents without an outcome, by tenant and sequence number, and their offsets.
    pub(super) open: HashMap<(TenantId, u64), Position>,
    /// The position of the last change that took effect, or may have: that of its intent, or of its
    /// outcome if it had no intent. Open intents do not count.
    pub(super) last_effective: Option<Position>,
    /// The positions of the changes of which `last_effective` is the last one.
    pub(super) effective: EffectivePositions,
    /// The latest time of a record. The clock may step back.
    pub(super) last_time: Option<Timestamp>,
    /// The parts of the file that are gone, in the order in which they were found.
    pub(super) losses: Vec<Loss>,
    /// The last complete removal of the log's oldest files.
    pub(super) begun: Option<Begun>,
    /// A removal of which some records were written.
    pub(super) removing: Option<Begun>,
}

/// A removal of the log's oldest files: the log begins at `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    /// The position at which the log begins.
    pub(super) to: u64,
    /// The position of the first of the removal's records.
    pub(super) records: Position,
    /// The position of the last change before `to` that took effect; 0 if there was none.
    pub(super) changed: u64,
}

impl Begun {
    /// The position of the last change before the beginning that took effect.
    pub(super) fn changed(self) -> Option<Position> {
        (self.changed > 0).then_some(Position(self.changed))
    }
}

/// The positions of the changes that took effect, or may have, after one place of the log. A start
/// compares each with the store, because a later change in the store does not show an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct EffectivePositions {
    /// All such positions after this one are known.
    pub(super) since: Position,
    /// In no particular order; at most [`MAX_EFFECTIVE`].
    pub(super) positions: Vec<Position>,
}

/// The most positions of changes in memory and in the sidecar. With more, the next start reads the log.
const MAX_EFFECTIVE: usize = 1 << 16;

impl EffectivePositions {
    fn add(&mut self, position: Position) {
        self.positions.push(position);
        if self.positions.len() > MAX_EFFECTIVE {
            self.positions.sort_unstable();
            self.forget_until(self.positions[MAX_EFFECTIVE / 2]);
        }
    }

    /// Forgets the positions up to this one, which is the last one compared with the store.
    pub(super) fn forget_until(&mut self, position: Position) {
        self.since = self.since.max(position);
        self.positions.retain(|kept| *kept > self.since);
    }

    /// The positions after this one, or after the beginning of the log. `None` if some of them are not known.
    pub(super) fn after(&self, position: Option<Position>) -> Option<impl Iterator<Item = Position> + '_> {
        let after = position.unwrap_or_default();
        (self.since <= after).then(|| self.positions.iter().copied().filter(move |kept| *kept > after))
    }
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
        self.numbers.next(tenant)
    }

    /// Adds a durable record.
    pub(super) fn add(&mut self, tenant: TenantId, number: u64, role: Role, position: Position, time: Timestamp) {
        self.numbers.next.insert(tenant, number + 1);
        self.last_time = self.last_time.max(Some(time));
        match role {
            Role::Plain => {}
            Role::Opens => {
                self.open.insert((tenant, number), position);
            }
            Role::Closes { intent, effective } => {
                let opened = self.open.remove(&(tenant, intent));
                if effective && let Some(opened) = opened {
                    self.took_effect(opened);
                }
            }
            Role::Effective => self.took_effect(position),
            Role::ReportsLoss(lost) => {
                let mut same = self.losses.iter_mut().filter(|loss| loss.lost == lost);
                if let Some(loss) = same.next() {
                    loss.reported = true;
                }
            }
            Role::Removes(removal) => self.remove(removal, position),
        }
    }

    /// Adds a durable record of a removal. The removal counts once all its records are durable.
    pub(super) fn remove(&mut self, removal: Removal, position: Position) {
        let begun = self.removing.take().filter(|removing| removing.to == removal.to);
        let begun = Begun {
            to: removal.to,
            records: begun.map_or(position, |begun| begun.records),
            changed: removal.changed,
        };
        if removal.complete {
            self.begun = Some(begun);
            self.losses.retain(|loss| !loss.reported || loss.lost.to.get() > begun.to);
        } else {
            self.removing = Some(begun);
        }
    }

    fn took_effect(&mut self, position: Position) {
        self.last_effective = self.last_effective.max(Some(position));
        self.effective.add(position);
    }

    /// Adds a part of the file that is gone, unless it is known. An intent in it has no outcome
    /// that a start could tell. Returns whether it is new.
    pub(super) fn lose(&mut self, lost: Lost) -> bool {
        let new = self.losses.iter().all(|loss| loss.lost != lost);
        if new {
            self.losses.push(Loss { lost, reported: false });
            self.open.retain(|_, position| !lost.contains(position.0));
            self.effective.positions.retain(|position| !lost.contains(position.0));
        }
        new
    }

    /// The losses that no record reports yet.
    pub(super) fn unreported(&self) -> impl Iterator<Item = Lost> {
        self.losses.iter().filter(|loss| !loss.reported).map(|loss| loss.lost)
    }

    /// Takes over what an older state of the same log knows of records that are gone.
    pub(super) fn add_lost(&mut self, older: Self, until: u64) {
        for (tenant, next) in older.numbers.next {
            let now = self.numbers.next.entry(tenant).or_default();
            *now = next.max(*now);
        }
        self.numbers.first = self.numbers.first.max(older.numbers.first);
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

    #[test]
    fn the_positions_of_changes_are_bounded_and_never_called_complete_when_some_are_missing() {
        let mut effective = EffectivePositions::default();
        let last = MAX_EFFECTIVE as u64 + 1;
        for position in 1..=last {
            effective.add(Position(position));
        }
        assert!(effective.positions.len() <= MAX_EFFECTIVE);
        assert!(effective.after(None).is_none());
        assert!(effective.after(Some(Position(effective.since.0 - 1))).is_none());
        let after = effective.after(Some(effective.since)).map(Iterator::count);
        assert_eq!(after, Some((last - effective.since.0) as usize));
        effective.forget_until(Position(last - 1));
        assert_eq!(effective.positions, [Position(last)]);
        // An older store is compared with more than is known.
        assert!(effective.after(Some(Position(1))).is_none());
    }
}
