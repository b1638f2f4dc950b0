//! The audit log: no audit, no answer.
//!
//! One durable write-ahead file per node ([`open`]), one handle to write to it ([`Log`]),
//! and one gate ([`Recorded`]): a face can build an answer only from what was recorded, or
//! from the log's own refusal ([`Unavailable`]). An effect at a provider or in the store is
//! announced before it happens ([`Intent`]). `docs/audit-format.md` fixes the bytes.
//!
//! Who may call it: `broker` records intents and outcomes, `access` and the limiter count
//! ([`Counters`]), `http` answers what is [`Recorded`], `boot` opens and reconciles
//! ([`Recovered`]). It uses nothing but `providers/core`.

mod action;
mod counters;
mod fields;
mod file;
mod frame;
mod health;
mod index;
mod intent;
mod kill_file;
mod log;
mod record;
mod recorded;
mod recovery;
mod state_change;
mod string_enum;
mod writer;

#[cfg(test)]
mod tests;

pub use action::{Action, Internal, Operation};
pub use counters::{Counters, MOST_APART};
pub use fields::{
    Authn, Cause, ContextHash, Decision, Digest, Ending, Kind, Node, NodeError, Number, Origin, Outcome, Policy, Position, Receipt, Rewrap,
    RewrapEnd, Shown, Source, Text, Timestamp, Window,
};
pub use frame::MAX_JSON;
pub use health::{Health, Reason, Unavailable};
pub use intent::{Intent, OpenIntent};
pub use kill_file::{KillEntry, KillFile, KillFileError, SLOTS};
pub use log::{Log, Options};
pub use record::Record;
pub use recorded::{CountedRight, Item, Recorded};
pub use recovery::{ChangeHistory, OpenError, Recovered, StateChange, open};
pub use state_change::{Change, EmergencyRevocation, Object, ObjectId, Verb};
pub use string_enum::UnknownWord;
