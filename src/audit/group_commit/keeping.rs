//! What the log's thread does when the oldest files are removed.

use super::GroupCommit;
use crate::audit::history::ChangeHistory;
use crate::audit::index::Standing;
use crate::audit::origin::Position;
use crate::audit::state::Begun;
use crate::audit::survey::{Survey, Task};

impl GroupCommit {
    /// Does what was asked. That nobody waits for the answer any more changes nothing.
    pub(super) fn answer(&mut self, task: Task) {
        match task {
            Task::Survey(answer) => drop(answer.send(self.survey())),
            Task::Forget(position, answer) => drop(answer.send(self.forget(position))),
        }
    }

    fn survey(&mut self) -> Survey {
        self.log.promote();
        let state = &self.log.state;
        let end = self.log.file.length();
        let segments = self.log.file.segments();
        // The losses of a part whose removal is recorded are forgotten, also where the part is still there.
        let is_recorded = state.begun.is_some_and(|begun| begun.to > segments.start());
        let may_jump = is_recorded || !state.losses.is_empty();
        Survey {
            starts: segments.starts(),
            end,
            first_open: state.open.values().min().copied(),
            unreported: state.unreported().next().is_some(),
            begun: state.begun,
            numbers: may_jump.then(|| state.numbers.clone()),
            history: ChangeHistory {
                folder: segments.folder().to_owned(),
                origin: self.origin.clone(),
                start: segments.start(),
                end,
                last_effective: state.last_effective,
                effective: state.effective.clone(),
                losses: state.losses.clone(),
                removed: state.begun.and_then(Begun::changed),
                may_be_forked: false,
                until_compared: None,
            },
        }
    }

    /// Goes on without the files before that position, and has the sidecar know it. Returns whether their
    /// removal is durable; otherwise nothing is changed.
    fn forget(&mut self, position: u64) -> bool {
        self.log.promote();
        let is_recorded = self.log.state.begun.is_some_and(|begun| begun.to >= position);
        if is_recorded {
            self.log.file.forget_before(position);
            // The store has those before it.
            self.log.state.effective.forget_until(Position(position));
            self.write_index(Standing::InUse);
        }
        is_recorded
    }
}
