//! Whether the store has every change of a part of the audit log, so that the part can be removed.

use std::sync::Arc;

use super::recover::{Fate, fate, warn_of_loss};
use super::{Broker, RecoverError};
use crate::audit::{Position, Survey};

/// A part of the log whose changes the store has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The position of the last of them.
    pub changed: Option<Position>,
}

impl Broker {
    /// Compares the changes before that position of the log with the store, as a start would. `None` if
    /// the store lacks one, or does not know of a record behind that position yet: then the part must stay.
    ///
    /// # Errors
    /// [`RecoverError::Store`], [`RecoverError::Log`].
    pub async fn settle_log(&self, survey: &Arc<Survey>, before: Position) -> Result<Option<Settled>, RecoverError> {
        // After the survey, so that the store has each change that the survey calls done.
        let applied: Vec<Position> = self.store.applied().await?.into_iter().map(Position).collect();
        let knows_later = self.store.last_record().await?.is_some_and(|last| last.position >= before.0);
        let last = applied.iter().copied().filter(|position| *position < before).max();
        let survey = Arc::clone(survey);
        let compare = move || survey.history.missing_in(&applied, None);
        let Ok(missing) = tokio::task::spawn_blocking(compare).await else {
            return Ok(None);
        };
        let missing = missing.map_err(RecoverError::Log)?;
        let mut settled = knows_later;
        let mut changed = last;
        for change in missing.iter().filter(|change| change.position < before) {
            let tenant = change.intent.tenant();
            let is_settled = match fate(change) {
                // The store has it, or this process has lifted it since.
                Fate::Revocation(revocation) => !self.unstored.contains(tenant, revocation.revocation),
                Fate::Unknown => true,
                Fate::Lost => {
                    warn_of_loss(change);
                    false
                }
            };
            if is_settled {
                self.mark(change).await?;
                changed = changed.max(Some(change.position));
            }
            settled &= is_settled;
        }
        Ok(settled.then_some(Settled { changed }))
    }
}
