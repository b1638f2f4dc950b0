//! What the log must know to continue: the next sequence numbers, the open intents, the last
//! effective change.

use std::collections::HashMap;

use claviger_provider::TenantId;

use super::fields::Lost;
use super::numbers::Numbers;
use super::origin::Position;
use super::removed::Removal;
use super::role::{Effect, Role};
use super::scalar::Timestamp;

/// The state after all records up to one offset of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct State {
    /// The next sequence number of each tenant.
    pub(super) numbers: Numbers,
    /// Intents without an outcome, by tenant and sequence number, and their offsets.
    pub(super) open: HashMap<(TenantId, u64), Position>,
    /// The position of the last change whose position the store has: that of its intent. Changes of unknown result and
    /// those without an intent do not count: the store may never get their positions.
    pub(super) last_effective: Option<Position>,
    /// The positions of all changes that took effect, or may have.
    pub(super) effective: EffectivePositions,
    /// The largest position that the store had at the start.
    pub(super) stored: Option<Position>,
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
    /// Those among them that the store may never get.
    pub(super) uncertain: Vec<Position>,
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
        self.uncertain.retain(|kept| *kept > self.since);
    }

    /// Forgets the positions in a lost part.
    fn lose(&mut self, lost: Lost) {
        self.positions.retain(|position| !lost.contains(position.0));
        self.uncertain.retain(|position| !lost.contains(position.0));
    }

    /// The last position in that part that the store has.
    fn last_in(&self, lost: Lost) -> Option<Position> {
        let inside = self.positions.iter().filter(|position| lost.contains(position.0));
        inside.filter(|position| !self.uncertain.contains(position)).max().copied()
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
    /// A position in it that the store has, as far as is known the last one: a store that had none so far is older.
    pub(super) changed: Option<Position>,
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
            Role::Closes { intent, effect } => {
                let opened = self.open.remove(&(tenant, intent));
                if let Some(opened) = opened {
                    self.took_effect(opened, effect);
                }
            }
            Role::Effective => self.took_effect(position, Effect::Possible),
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

    fn took_effect(&mut self, position: Position, effect: Effect) {
        match effect {
            Effect::None => return,
            Effect::Possible => self.effective.uncertain.push(position),
            Effect::Certain => self.last_effective = self.last_effective.max(Some(position)),
        }
        self.effective.add(position);
    }

    /// Adds a part of the file that is gone, unless it is known. An intent in it has no outcome
    /// that a start could tell. Returns whether it is new.
    pub(super) fn lose(&mut self, lost: Lost) -> bool {
        let new = self.losses.iter().all(|loss| loss.lost != lost);
        if new {
            let changed = self.changed_in(lost);
            self.losses.push(Loss {
                lost,
                changed,
                reported: false,
            });
            self.open.retain(|_, position| !lost.contains(position.0));
            self.effective.lose(lost);
        }
        new
    }

    /// The last position in that part that the store has, as far as is known.
    fn changed_in(&self, lost: Lost) -> Option<Position> {
        let inside = self.losses.iter().filter(|loss| lost.contains(loss.lost.from.get()));
        let last = self.last_effective.filter(|last| lost.contains(last.0));
        let known = inside.filter_map(|loss| loss.changed).chain(last).max();
        known.max(self.effective.last_in(lost)).max(self.stored_in(lost))
    }

    /// As far as the store at the start had positions. Not all of them are known.
    fn stored_in(&self, lost: Lost) -> Option<Position> {
        let stored = self.stored.filter(|stored| stored.0 >= lost.from.get());
        stored.map(|stored| stored.min(Position(lost.to.get() - 1)))
    }

    /// Notes the largest position that the store has. One that has less from now on is older.
    pub(super) fn has_stored(&mut self, stored: Option<Position>) {
        self.stored = stored;
        let in_each: Vec<_> = self.losses.iter().map(|loss| self.stored_in(loss.lost)).collect();
        for (loss, stored) in self.losses.iter_mut().zip(in_each) {
            loss.changed = loss.changed.max(stored);
        }
    }

    /// The position that a store gets once it is compared with all before the lost part that has `compared`, the position
    /// up to which it was compared. `None` if no part has it, or it is that position. No record is there.
    pub(super) fn uncompared(&self, compared: Option<Position>) -> Option<Position> {
        let compared = compared?;
        let losses = self.losses.iter().filter(|loss| loss.lost.contains(compared.0));
        let last = losses.map(|loss| Position(loss.lost.to.get() - 1)).max();
        last.filter(|last| compared < *last)
    }

    /// The losses that no record reports yet.
    pub(super) fn unreported(&self) -> impl Iterator<Item = Lost> {
        self.losses.iter().filter(|loss| !loss.reported).map(|loss| loss.lost)
    }

    /// Takes over what an older state of the same log knows of records that are gone.
    pub(super) fn add_lost(&mut self, older: &Self, until: u64) {
        for loss in &mut self.losses {
            loss.changed = loss.changed.max(older.changed_in(loss.lost));
        }
        // An intent before `until` that was not open any more had its outcome in a lost part.
        self.open
            .retain(|intent, position| position.0 >= until || older.open.contains_key(intent));
        self.last_effective = self.last_effective.max(older.last_effective);
        self.add_numbers(older);
    }

    /// Takes over the numbers and the time of a state of this log, or of another copy of it, so that no number is given
    /// twice.
    pub(super) fn add_numbers(&mut self, other: &Self) {
        for (tenant, next) in &other.numbers.next {
            let now = self.numbers.next.entry(*tenant).or_default();
            *now = (*next).max(*now);
        }
        self.numbers.first = self.numbers.first.max(other.numbers.first);
        self.last_time = self.last_time.max(other.last_time);
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
            effect: Effect::Certain,
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
