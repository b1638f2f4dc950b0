//! The changes of state in a log, which a start compares with the store.

use std::path::PathBuf;
use std::sync::Arc;

use super::fields::Kind;
use super::file::RealDisk;
use super::frame::{Frames, Step};
use super::origin::{Origin, Position};
use super::record::{Placed, Record};
use super::role::RecordSummary;
use super::scan::{NO_FRAME, OpenError, parse, read_record};
use super::segments::Segments;
use super::state::{EffectivePositions, Loss};

/// A change of state that took effect, or may have.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectiveChange {
    /// What the store's `applied` is compared with: the position of the intent, or of the
    /// outcome if a revocation took effect without an intent.
    pub position: Position,
    /// The intent; the same as `outcome` if there was none.
    pub intent: Record,
    /// The outcome: `success`, or `interrupted` if the result is unknown.
    pub outcome: Record,
}

impl EffectiveChange {
    fn is_revocation(&self) -> bool {
        self.intent.change().is_some_and(|change| change.revocation().is_some())
    }
}

/// The changes in a log up to the moment when it was opened.
#[derive(Debug)]
pub struct ChangeHistory {
    pub(super) folder: PathBuf,
    pub(super) origin: Origin,
    /// The position of the first byte.
    pub(super) start: u64,
    /// The length of the log when it was opened.
    pub(super) end: u64,
    pub(super) last_effective: Option<Position>,
    pub(super) effective: EffectivePositions,
    /// The lost parts of the file.
    pub(super) losses: Vec<Loss>,
    /// The last change before the first byte that took effect. A start, or what removed the files, has
    /// found all of them in the store.
    pub(super) removed: Option<Position>,
    /// Whether the store's positions are those of another copy of the log, or may be: then they show nothing of this
    /// one's revocations.
    pub(super) may_be_forked: bool,
    /// What [`ChangeHistory::until_compared`] returns.
    pub(super) until_compared: Option<Position>,
}

impl ChangeHistory {
    /// The position of the last change whose position the store should have.
    pub fn last_effective(&self) -> Option<Position> {
        self.last_effective.max(self.changed_in_losses(u64::MAX))
    }

    /// The last known position that the store should have in lost parts that begin before this place.
    pub(super) fn changed_in_losses(&self, before: u64) -> Option<Position> {
        let losses = self.losses.iter().filter(|loss| loss.lost.from.get() < before);
        losses.filter_map(|loss| loss.changed).max()
    }

    /// The position of the last change whose record is removed, if there is one that a store with `last` as
    /// the largest position that it ever had lacks.
    pub fn lacks_removed(&self, last: Option<Position>) -> Option<Position> {
        self.removed.filter(|removed| last < Some(*removed))
    }

    /// The position of the last change in a lost part, if a store with `last` as the largest position that it ever had
    /// lacks it.
    pub fn lacks_lost(&self, last: Option<Position>) -> Option<Position> {
        // Sidecars of earlier builds have no positions of lost parts.
        let lost = self.last_effective.filter(|at| self.lost(*at).is_some());
        lost.max(self.changed_in_losses(u64::MAX)).filter(|at| last < Some(*at))
    }

    /// The position that the store must get once all that [`ChangeHistory::missing_in`] returns is applied. Until then each
    /// start returns every revocation again.
    pub const fn until_compared(&self) -> Option<Position> {
        self.until_compared
    }

    /// Whether a lost part may have the outcome of an intent at that position.
    pub fn may_lack_outcome(&self, intent: Position) -> bool {
        self.losses.iter().any(|loss| loss.lost.from.get() > intent.0)
    }

    /// The lost part that had this position.
    fn lost(&self, at: Position) -> Option<&Loss> {
        self.losses.iter().find(|loss| loss.lost.contains(at.0))
    }

    /// Returns the changes that the store lacks, in the order of their positions, without open
    /// intents. `applied` are the positions that the store has, in rising order: an earlier start has
    /// compared all changes up to the first one. Changes whose records are removed are not looked for.
    /// `last` is the largest position that it ever had. Where another copy of the log went on, or may have, every
    /// revocation is returned: one that the store has is applied again, or was lifted since.
    /// Reads the log from the first missing change on.
    ///
    /// # Errors
    /// [`OpenError::StoreAhead`] if there is no change at `last`; [`OpenError::Damaged`],
    /// [`OpenError::Io`].
    pub fn missing_in(&self, applied: &[Position], last: Option<Position>) -> Result<Vec<EffectiveChange>, OpenError> {
        let opened = Segments::open_beside(&self.folder, &self.origin, Arc::new(RealDisk));
        let file = opened.map_err(OpenError::io("opened"))?;
        // Where a change of the store was lost with its part of the file, the log goes on after it.
        if let Some(last) = last
            && last.0 >= self.start
            && self.lost(last).is_none()
        {
            let known = last.0 < self.end && read_record(&file, last).is_ok_and(|record| record.change().is_some());
            if !known {
                return Err(OpenError::StoreAhead { applied: last.0 });
            }
        }
        let compared = applied.first().copied().or(last);
        // What was before the beginning is in the store (`lacks_removed`). No record is at the beginning.
        let compared = compared.max((self.start > 0).then_some(Position(self.start)));
        let is_missing = |at: Position| Some(at) > compared && applied.binary_search(&at).is_err();
        let mut from = match compared {
            Some(compared) => self.lost(compared).map_or(compared.0, |loss| loss.lost.to.get()),
            None => self.start,
        };
        if self.may_be_forked {
            from = self.start;
        } else if let Some(known) = self.effective.after(compared) {
            match known.filter(|at| is_missing(*at)).min() {
                Some(first) => from = from.max(first.0),
                None => return Ok(Vec::new()),
            }
        }
        let mut changes = Changes::default();
        let mut frames = Frames::from(&file, from);
        while frames.offset() < self.end {
            let at = Position(frames.offset());
            let (position, json) = match frames.step().map_err(OpenError::io("read"))? {
                Step::Frame { position, json } => (position, json),
                Step::Skip(_) | Step::Header => continue,
                Step::End | Step::Damaged { .. } => return Err(OpenError::damaged(at, NO_FRAME)),
            };
            let summary: RecordSummary = parse(position, json)?;
            if summary.change.is_some() {
                changes.add(position, parse(position, json)?);
            }
        }
        let mut missing = changes.effective;
        missing.retain(|change| is_missing(change.position) || self.may_be_forked && change.is_revocation());
        missing.sort_by_key(|change| change.position);
        Ok(missing)
    }
}

/// Pairs intents with their outcomes.
#[derive(Default)]
struct Changes {
    open: Vec<Placed>,
    effective: Vec<EffectiveChange>,
}

impl Changes {
    /// Adds the next record that has a change.
    fn add(&mut self, position: Position, record: Record) {
        match (record.kind(), record.intent()) {
            (Kind::Intent, _) => self.open.push(Placed { position, record }),
            (Kind::Outcome, Some(number)) => {
                let intent = self
                    .open
                    .iter()
                    .position(|open| open.record.tenant == record.tenant && open.record.sequence() == number);
                // An intent before the first record that was read is not among the open ones: the
                // store has its change.
                if let Some(Placed { position, record: intent }) = intent.map(|at| self.open.swap_remove(at))
                    && record.took_effect()
                {
                    self.effective.push(EffectiveChange {
                        position,
                        intent,
                        outcome: record,
                    });
                }
            }
            (Kind::Outcome, None) if record.took_effect() => self.effective.push(EffectiveChange {
                position,
                intent: record.clone(),
                outcome: record,
            }),
            (Kind::Outcome | Kind::Withheld | Kind::Aggregate | Kind::Restarted, _) => {}
        }
    }
}
