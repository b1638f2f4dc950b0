//! What a record means for the state of the log: which intent it opens or closes, and whether
//! a change took effect.

use serde::Deserialize;

use claviger_provider::{InstallationId, Node, TenantId};

use super::fields::{Ending, Kind, Lost};
use super::removed::{Removal, Removed};
use super::scalar::{Number, Timestamp};
use super::state_change::StateChange;

/// What a record means for the open intents and for the last effective change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It concerns neither.
    Plain,
    /// It opens an intent.
    Opens,
    /// It closes the intent with that sequence of the same tenant.
    Closes { intent: u64, effect: Effect },
    /// It records a change that had no intent: a revocation while the log was not healthy.
    Effective,
    /// It reports a part of the file that is gone.
    ReportsLoss(Lost),
    /// It announces that the oldest files are removed.
    Removes(Removal),
}

/// What the outcome of an intent says of its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing was changed.
    None,
    /// The result is unknown: the store may never have the intent's position.
    Possible,
    /// The change was made: the store has the intent's position.
    Certain,
}

impl Effect {
    const fn of(result: Option<Ending>) -> Self {
        match result {
            Some(Ending::Success) => Self::Certain,
            Some(Ending::Interrupted) => Self::Possible,
            Some(Ending::Denied | Ending::Failed | Ending::Superseded) | None => Self::None,
        }
    }
}

impl Role {
    /// The role of a record with these members.
    pub(super) fn of(
        kind: Kind,
        intent: Option<Number>,
        result: Option<Ending>,
        change: Option<StateChange>,
        lost: Option<Lost>,
        removed: Option<&Removed>,
    ) -> Self {
        if let Some(removed) = removed {
            return Self::Removes(removed.summary());
        }
        match (kind, intent) {
            (Kind::Restarted, _) => lost.map_or(Self::Plain, Self::ReportsLoss),
            (Kind::Intent, _) => Self::Opens,
            (Kind::Outcome, Some(intent)) => Self::Closes {
                intent: intent.get(),
                effect: Effect::of(result),
            },
            (Kind::Outcome, None) if took_effect(result) && change.is_some() => Self::Effective,
            (Kind::Outcome | Kind::Withheld | Kind::Aggregate, _) => Self::Plain,
        }
    }
}

/// Whether a request with that result had its effect, or may have had: an interrupted one
/// counts as one that had.
pub(super) fn took_effect(result: Option<Ending>) -> bool {
    Effect::of(result) != Effect::None
}

/// The few members that recovery reads of every record, without building the whole
/// [`super::Record`].
#[derive(Debug, Deserialize)]
pub(super) struct RecordSummary {
    pub(super) installation: InstallationId,
    pub(super) node: Node,
    pub(super) tenant: TenantId,
    pub(super) time: Timestamp,
    pub(super) sequence: Number,
    kind: Kind,
    #[serde(default)]
    intent: Option<Number>,
    #[serde(default)]
    result: Option<Ending>,
    #[serde(default)]
    pub(super) change: Option<StateChange>,
    #[serde(default)]
    lost: Option<Lost>,
    #[serde(default)]
    pub(super) removed: Option<Box<Removed>>,
}

impl RecordSummary {
    pub(super) fn role(&self) -> Role {
        Role::of(self.kind, self.intent, self.result, self.change, self.lost, self.removed.as_deref())
    }
}
