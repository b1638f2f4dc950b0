//! Opening a log: what an earlier run left is read, a torn end is cut off, damage is
//! refused, and what boot has to compare with the store is handed out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::counters::Counters;
use super::fields::{Cause, Kind, Number, Origin, Position, Timestamp, Window};
use super::file::{DiskFile, LogFile};
use super::frame::{self, Frames, Step};
use super::health::Shared;
use super::index::{self, Found, Index, Known, State};
use super::intent::OpenIntent;
use super::log::{Log, Options};
use super::record::{Peek, Placed, Record};
use super::recorded::CountedRight;
use super::writer::Writer;

/// Why a log cannot be opened. None of these is ever repaired silently.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file system refused something.
    #[error("the audit log cannot be {what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another process has the log open.
    #[error("the audit log is in use by another process")]
    InUse,
    /// The file is no log of this version.
    #[error("the audit log's file does not begin as a log of this version does")]
    NotALog,
    /// The file is the log of another installation or node.
    #[error("the audit log belongs to another installation or node")]
    Foreign,
    /// Acknowledged records are gone from the end.
    #[error(
        "the audit log has lost its end: {expected} bytes were durable, {found} are there. It was restored from an older copy, or cut. \
         Restore the newer copy, or start once with --accept-rollback to go on without its records"
    )]
    Lost {
        /// Bytes that were durable.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// An acknowledged record is damaged.
    #[error("the audit log is damaged at byte {at}: {why}")]
    Damaged {
        /// Where.
        at: u64,
        /// How it shows.
        why: &'static str,
    },
    /// The store knows of a change that the log does not: the log is older than the store.
    #[error("the store has applied a change at byte {applied} of the audit log, where no change stands")]
    StoreAhead {
        /// What the store says.
        applied: u64,
    },
}

impl OpenError {
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// What opening a log gives to boot.
#[derive(Debug)]
pub struct Recovered {
    /// The log, ready for records.
    pub log: Log,
    /// Intents without an outcome, in the order of the file. Each is to be resolved from
    /// what store and provider say, before anything is served.
    pub open_intents: Vec<OpenIntent>,
    /// The changes, to compare the store with.
    pub history: ChangeHistory,
    /// Whether the last run closed the log in good order. Where not, a `restarted` record
    /// has been queued before all others.
    pub was_clean: bool,
    /// For the service endpoints.
    pub counted: CountedRight,
    /// For authentication and the limiter.
    pub counters: Arc<Counters>,
}

/// Opens the log in the folder, or makes a new one. Blocks for as long as it reads: after
/// a close in good order not at all, else up to [`Options::snapshot_bytes`] and the rest
/// of a commit; all of the file only where the sidecar is missing or damaged.
///
/// # Errors
/// [`OpenError`].
pub fn open(folder: &Path, origin: &Origin, options: Options) -> Result<Recovered, OpenError> {
    let index = Index::of(folder);
    let log_missing = !folder
        .join(super::file::LOG_NAME)
        .try_exists()
        .map_err(OpenError::io("looked for"))?;
    if log_missing {
        match index.read(origin).map_err(OpenError::io("looked for"))? {
            Found::Missing => {}
            Found::Unusable => {
                return Err(OpenError::Damaged {
                    at: 0,
                    why: "the log is gone, and its sidecar, which is there, cannot be read",
                });
            }
            Found::Known(_) if options.accept_rollback => {}
            Found::Known(known) => {
                return Err(OpenError::Lost {
                    expected: known.offset,
                    found: 0,
                });
            }
        }
    }
    let file = DiskFile::open(folder, &frame::header(origin)).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::io("opened")(source),
    })?;
    open_on(Box::new(file), folder, origin, options)
}

/// As [`open`], on a file that is open already.
pub(super) fn open_on(mut file: Box<dyn LogFile>, folder: &Path, origin: &Origin, options: Options) -> Result<Recovered, OpenError> {
    let index = Index::of(folder);
    let (owner, start) = frame::read_header(&*file)
        .map_err(OpenError::io("read"))?
        .ok_or(OpenError::NotALog)?;
    if owner != *origin {
        return Err(OpenError::Foreign);
    }
    let length = file.len().map_err(OpenError::io("measured"))?;
    let from_begin = || Known {
        state: State::default(),
        offset: start,
        clean: false,
    };
    let (known, is_new) = match index.read(origin).map_err(OpenError::io("read"))? {
        Found::Known(known) => (known, false),
        Found::Unusable => {
            tracing::warn!("the audit log's sidecar is damaged; the whole log is read");
            (from_begin(), false)
        }
        Found::Missing => (from_begin(), length == start),
    };
    let known = match known {
        known if known.offset <= length => known,
        // The sidecar speaks of records that are gone: what is there is read.
        _ if options.accept_rollback => from_begin(),
        known => {
            return Err(OpenError::Lost {
                expected: known.offset,
                found: length,
            });
        }
    };
    let was_clean = is_new || (known.clean && known.offset == length);
    let mut state = known.state;
    let end = read_on(&*file, origin, known.offset, &mut state)?;
    if end < length {
        tracing::warn!(
            bytes = length - end,
            "the audit log ended in a commit that was never acknowledged; it is cut off"
        );
        file.truncate(end).map_err(OpenError::io("cut"))?;
    }
    // What an ended process left may never have reached the disk, although it is read here.
    file.sync().map_err(OpenError::io("synced"))?;

    let mut open_intents = Vec::with_capacity(state.open.len());
    for position in state.open.values() {
        open_intents.push(OpenIntent(Placed {
            position: *position,
            record: read_record(&*file, *position)?,
        }));
    }
    open_intents.sort_by_key(OpenIntent::position);

    // From now on the log is in use, and a crash before the first record must show.
    if let Err(source) = index.write(&index::encode(origin, &state, end, false)) {
        tracing::warn!(error = %source, "the audit log's sidecar cannot be written; without it the next start reads everything");
        index.remove().map_err(OpenError::io("marked as in use"))?;
    }

    let history = ChangeHistory {
        folder: folder.to_owned(),
        start,
        end,
        last_effective: state.last_effective,
    };
    let restarted = if was_clean {
        None
    } else {
        let now = Timestamp::now();
        let window = Window {
            from: state.last_time.unwrap_or(now),
            to: now,
        };
        let mut record = Record::restarted(origin, Cause::UncleanStop, window);
        record.truncated_bytes = (end < length).then(|| Number::saturating(length - end));
        record.stamp().ok()
    };
    let shared = Arc::new(Shared::new());
    let (messages, queue) = mpsc::unbounded_channel();
    let writer =
        Writer::new(file, origin.clone(), options.clone(), shared.clone(), index, state, restarted).map_err(OpenError::io("read"))?;
    std::thread::Builder::new()
        .name("audit-log".into())
        .spawn(move || writer.run(queue))
        .map_err(OpenError::io("given a thread"))?;
    Ok(Recovered {
        log: Log::new(origin.clone(), options, shared, messages),
        open_intents,
        history,
        was_clean,
        counted: CountedRight::new(),
        counters: Arc::new(Counters::new()),
    })
}

/// Adds everything from `offset` on to the state, and says where the last whole commit's
/// frames end.
fn read_on(file: &dyn LogFile, origin: &Origin, offset: u64, state: &mut State) -> Result<u64, OpenError> {
    let mut frames = Frames::from(file, offset);
    loop {
        match frames.step().map_err(OpenError::io("read"))? {
            Step::End => return Ok(frames.offset()),
            Step::Frame { position, json } => {
                let damaged = |why| OpenError::Damaged { at: position.0, why };
                let peek: Peek = serde_json::from_slice(json).map_err(|_| damaged("the record is not one of this version"))?;
                if peek.installation != origin.installation || peek.node != origin.node {
                    return Err(damaged("the record is another log's"));
                }
                if peek.sequence.get() != state.next(peek.tenant) {
                    return Err(damaged("the tenant's numbers do not follow each other"));
                }
                state.add(peek.tenant, peek.sequence.get(), peek.role(), position, peek.time);
            }
            Step::Damaged { position } => {
                if frames.commit_follows().map_err(OpenError::io("read"))? {
                    return Err(OpenError::Damaged {
                        at: position.0,
                        why: "no whole record stands here, and acknowledged ones follow",
                    });
                }
                return Ok(position.0);
            }
        }
    }
}

fn read_record(file: &dyn LogFile, position: Position) -> Result<Record, OpenError> {
    let damaged = |why| OpenError::Damaged { at: position.0, why };
    match Frames::from(file, position.0).step().map_err(OpenError::io("read"))? {
        Step::Frame { json, .. } => serde_json::from_slice(json).map_err(|_| damaged("the record is not one of this version")),
        Step::End | Step::Damaged { .. } => Err(damaged("no whole record stands here")),
    }
}

/// A change of state that took effect, or may have.
#[derive(Debug, Clone, PartialEq)]
pub struct StateChange {
    /// What the store's `applied` is compared with: the intent's place, or the outcome's
    /// own where a cut took effect without one.
    pub position: Position,
    /// The intent; the same as `outcome` where there was none.
    pub intent: Record,
    /// The outcome: `success`, or `interrupted` where the end is unknown.
    pub outcome: Record,
}

/// The changes in a log up to the moment it was opened.
#[derive(Debug)]
pub struct ChangeHistory {
    folder: PathBuf,
    start: u64,
    end: u64,
    last_effective: Option<Position>,
}

impl ChangeHistory {
    /// The place of the last change that took effect, or may have.
    pub fn last_effective(&self) -> Option<Position> {
        self.last_effective
    }

    /// The changes after the last one that the store has applied, in the order of their
    /// positions. Open intents are not among them. Costs nothing where the store is up to
    /// date; else the log is read from `applied` on.
    ///
    /// # Errors
    /// [`OpenError::StoreAhead`] where no change stands at `applied`, and what reading meets.
    pub fn after(&self, applied: Option<Position>) -> Result<Vec<StateChange>, OpenError> {
        let file = DiskFile::open_beside(&self.folder).map_err(OpenError::io("opened"))?;
        if let Some(applied) = applied {
            let known = applied.0 < self.end && read_record(&file, applied).is_ok_and(|record| record.change().is_some());
            if !known {
                return Err(OpenError::StoreAhead { applied: applied.0 });
            }
        }
        if self.last_effective <= applied {
            return Ok(Vec::new());
        }
        let mut begun: Vec<Placed> = Vec::new();
        let mut changes = Vec::new();
        let mut frames = Frames::from(&file, applied.map_or(self.start, |position| position.0));
        while frames.offset() < self.end {
            let Step::Frame { position, json } = frames.step().map_err(OpenError::io("read"))? else {
                let at = frames.offset();
                return Err(OpenError::Damaged {
                    at,
                    why: "no whole record stands here",
                });
            };
            let peek: Peek = serde_json::from_slice(json).map_err(|_| OpenError::Damaged {
                at: position.0,
                why: "the record is not one of this version",
            })?;
            if peek.change.is_none() || Some(position) == applied {
                continue;
            }
            let record: Record = serde_json::from_slice(json).map_err(|_| OpenError::Damaged {
                at: position.0,
                why: "the record is not one of this version",
            })?;
            match (record.kind(), record.intent()) {
                (Kind::Intent, _) => begun.push(Placed { position, record }),
                (Kind::Outcome, Some(number)) => {
                    let intent = begun
                        .iter()
                        .position(|open| open.record.tenant == record.tenant && open.record.sequence() == number);
                    // One that began before `applied` is in the store already.
                    if let Some(Placed { position, record: intent }) = intent.map(|at| begun.swap_remove(at))
                        && record.took_effect()
                    {
                        changes.push(StateChange {
                            position,
                            intent,
                            outcome: record,
                        });
                    }
                }
                (Kind::Outcome, None) if record.took_effect() => changes.push(StateChange {
                    position,
                    intent: record.clone(),
                    outcome: record,
                }),
                (Kind::Outcome | Kind::Withheld | Kind::Aggregate | Kind::Restarted, _) => {}
            }
        }
        changes.sort_by_key(|change| change.position);
        Ok(changes)
    }
}
