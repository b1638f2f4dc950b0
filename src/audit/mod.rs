//! The audit log: no audit, no answer.
//!
//! Each node has one durable write-ahead log. [`open`] opens it, [`Log`] writes to it. A
//! protocol can build a response only from a [`Recorded`] value, whose record is durable, or
//! from the log's own refusal, [`Unavailable`]. An effect at a provider or in the store is
//! announced by an [`Intent`] before it is caused. `docs/audit-format.md` defines the bytes.
//!
//! | files | what they do |
//! |---|---|
//! | `record`, `fields`, `scalar`, `action`, `state_change`, `origin` | a record and the types of its members |
//! | `encode`, `stamp`, `role` | a record as canonical JSON; what it means for the state of the log |
//! | `frame`, `segments`, `file`, `held_folder` | the bytes of the log, the files that have them, and the disk |
//! | `maker`, `reserve`, `start_space` | files of zeros, made ahead of need; what a start on a full disk takes of them |
//! | `keep`, `archive`, `removed`, `removed_part`, `beginning`, `survey` | the oldest files: removing or archiving them, and what proves it |
//! | `log`, `durability`, `class`, `queue`, `intent`, `recorded`, `counters`, `background` | the callers' side |
//! | `group_commit`, `batch`, `completion`, `written_log`, `durable_file`, `state`, `numbers`, `health`, `forecast` | the log's thread |
//! | `observer`, `last_record`, `daily_bytes` | what is built from committed frames |
//! | `recovery`, `resume`, `scan`, `history`, `index`, `lost_numbers` | opening an existing log |
//! | `copy` | the files of a log, and a copy of them |
//! | `kill_file`, `kill_file_writer` | revocations when the disk is full |
//!
//! `broker` records intents and outcomes, `access` and the limiter count, `protocols` build
//! responses, `boot` opens the log. This module uses only `providers/core`.

mod action;
mod archive;
mod background;
mod batch;
mod beginning;
mod class;
mod completion;
mod copy;
mod counters;
mod daily_bytes;
mod durability;
mod durable_file;
mod encode;
mod fields;
mod file;
mod forecast;
mod frame;
mod group_commit;
mod health;
mod held_folder;
mod history;
mod index;
mod intent;
mod keep;
mod kill_file;
mod kill_file_writer;
mod last_record;
mod log;
mod lost_numbers;
mod maker;
mod numbers;
mod observer;
mod options;
mod origin;
mod queue;
mod record;
mod recorded;
mod recovery;
mod removed;
mod removed_part;
mod reserve;
mod resume;
mod resync;
mod role;
mod scalar;
mod scan;
mod segments;
mod stamp;
mod start_space;
mod state;
mod state_change;
mod string_enum;
mod survey;
mod written_log;

#[cfg(test)]
mod tests;

pub use action::{Action, Internal, Operation};
pub use archive::ArchiveError;
pub use background::{BackgroundLog, BackgroundOperation, REPEAT_EVERY};
pub use copy::{LogCopy, copy_log, end_of_log, left_in, log_files, read_copy};
pub use counters::{Counters, MAX_SEPARATE};
pub use daily_bytes::{DailyBytes, UnkeptBytes};
pub use durability::Durability;
pub use fields::{
    Authn, Cause, ContextHash, Decision, Ending, Kind, Lost, NetworkChange, Outcome, Policy, ProviderCall, Rewrap, RewrapEnd, Source,
    VisibleContext, Window,
};
pub use health::{Health, Reason, Unavailable};
pub use history::{ChangeHistory, EffectiveChange};
pub use intent::{Intent, OpenIntent};
pub use keep::{HeldFiles, Keep, KeepError, Keeper, Part, hold_files};
pub use kill_file::{KillEntry, KillFile, KillFileError, KillFileStanding, NAME as KILL_FILE, SLOTS};
pub use kill_file_writer::KillFileWriter;
pub use last_record::{LastRecord, LastRecordWatch};
pub use log::Log;
pub use observer::{Commit, CommitMetrics, CommitObserver, CommittedFrame};
pub use options::Options;
pub use origin::{Origin, Position, Receipt};
pub use record::Record;
pub use recorded::{CountedRight, Item, Recorded};
pub use recovery::{Recovered, open};
pub use scalar::{Digest, Number, Text, Timestamp};
pub use scan::OpenError;
pub use segments::SegmentSizes;
pub use stamp::MAX_JSON;
pub use start_space::free_space_for_start;
pub use state_change::{EmergencyRevocation, JournaledRevocation, Object, ObjectId, StateChange, Verb};
pub use string_enum::UnknownWord;
pub use survey::Survey;
