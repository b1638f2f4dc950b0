//! Opening a log: reads what an earlier run left, truncates a last commit that a crash interrupted,
//! refuses other damage, and returns what the start must compare with the store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::background::BackgroundLog;
use super::counters::Counters;
use super::durable_file::DurableFile;
use super::fields::{Cause, Window};
use super::file::{DiskFile, LOG_NAME, LogFile};
use super::frame;
use super::group_commit::{GroupCommit, Parts};
use super::health::Shared;
use super::history::ChangeHistory;
use super::index::{self, Found, Index, IndexWriter, Known};
use super::intent::OpenIntent;
use super::log::Log;
use super::observer::CommitObserver;
use super::options::Options;
use super::origin::Origin;
use super::record::{Placed, Record};
use super::recorded::CountedRight;
use super::scalar::{Number, Timestamp};
use super::scan::{OpenError, read_record, replay};
use super::stamp::Stamped;
use super::state::State;

/// An open log, and what the start needs of it.
#[derive(Debug)]
pub struct Recovered {
    /// The log, ready for records.
    pub log: Log,
    /// The intents without an outcome, in the order of the file. The start must resolve each
    /// from the state of store and provider before it serves requests.
    pub open_intents: Vec<OpenIntent>,
    /// The changes to compare the store with.
    pub history: ChangeHistory,
    /// Whether the last run closed the log with every record written. If not, a `restarted`
    /// record is the first one of this run.
    pub was_clean: bool,
    /// The right to count requests to the service endpoints.
    pub counted: CountedRight,
    /// Counts events of authentication and of the limiter.
    pub counters: Arc<Counters>,
    /// For calls to providers that serve no request.
    pub background: Arc<BackgroundLog>,
}

/// Opens the log in the folder, or creates a new one. The observers see every commit from then
/// on.
///
/// Blocks while it reads: nothing after a clean close, otherwise up to
/// [`Options::snapshot_bytes`] and a commit. It reads the whole file only if the sidecar is
/// missing or damaged.
///
/// # Errors
/// [`OpenError`].
pub fn open(folder: &Path, origin: &Origin, options: Options, observers: Vec<Box<dyn CommitObserver>>) -> Result<Recovered, OpenError> {
    if !folder.join(LOG_NAME).try_exists().map_err(OpenError::io("looked for"))? {
        check_never_existed(&Index::of(folder), origin, options.accept_rollback)?;
    }
    let file = DiskFile::open(folder, &frame::header(origin)).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::io("opened")(source),
    })?;
    open_on(Box::new(file), folder, origin, options, observers)
}

/// Refuses to create a log where a sidecar shows that there was one.
fn check_never_existed(index: &Index, origin: &Origin, accept_rollback: bool) -> Result<(), OpenError> {
    match index.read(origin).map_err(OpenError::io("looked for"))? {
        Found::Missing => Ok(()),
        Found::Unusable => Err(OpenError::Damaged {
            at: 0,
            why: "the log is missing, and its sidecar cannot be read",
        }),
        Found::Known(_) if accept_rollback => Ok(()),
        Found::Known(known) => Err(OpenError::Lost {
            expected: known.offset,
            found: 0,
        }),
    }
}

/// As [`open`], with a file that is already open.
pub(super) fn open_on(
    mut file: Box<dyn LogFile>,
    folder: &Path,
    origin: &Origin,
    options: Options,
    observers: Vec<Box<dyn CommitObserver>>,
) -> Result<Recovered, OpenError> {
    let index = Index::of(folder);
    let (owner, start) = frame::read_header(&*file)
        .map_err(OpenError::io("read"))?
        .ok_or(OpenError::NotALog)?;
    if owner != *origin {
        return Err(OpenError::Foreign);
    }
    let length = file.len().map_err(OpenError::io("measured"))?;
    let (known, is_new) = last_known(&index, origin, start, length, options.accept_rollback)?;
    let was_clean = is_new || (known.clean && known.offset == length);
    let mut state = known.state;
    let end = replay(&*file, origin, known.offset, &mut state)?;
    if end < length {
        tracing::warn!(
            bytes = length - end,
            "the audit log ended in a commit that was never acknowledged; the commit is removed"
        );
        file.truncate(end).map_err(OpenError::io("truncated"))?;
    }
    // What the last process wrote can be read here, but may not be on the disk yet.
    file.sync().map_err(OpenError::io("synced"))?;
    let open_intents = open_intents(&*file, &state)?;

    // Mark the log as in use from now on, so that a crash before the first record is detected, too.
    if let Err(source) = index.write(&index::encode(origin, &state, end, false)) {
        tracing::warn!(error = %source, "the audit log's sidecar could not be written; without it the next start reads the whole log");
        index.remove().map_err(OpenError::io("marked as in use"))?;
    }

    let history = ChangeHistory {
        folder: folder.to_owned(),
        start,
        end,
        last_effective: state.last_effective,
    };
    let restarted = if was_clean { None } else { restarted(origin, &state, length - end) };
    let shared = Arc::new(Shared::new());
    let (messages, queue) = mpsc::unbounded_channel();
    let group_commit = GroupCommit::new(Parts {
        file: DurableFile::new(file, options.reserve_bytes, options.retry_after).map_err(OpenError::io("read"))?,
        origin: origin.clone(),
        floor_bytes: options.floor_bytes,
        shared: shared.clone(),
        state,
        index: IndexWriter::new(index, options.snapshot_bytes, end),
        observers,
        restarted,
    });
    std::thread::Builder::new()
        .name("audit-log".into())
        .spawn(move || group_commit.run(queue))
        .map_err(OpenError::io("given a thread"))?;
    Ok(Recovered {
        log: Log::new(origin.clone(), options, shared, messages),
        open_intents,
        history,
        was_clean,
        counted: CountedRight::new(),
        counters: Arc::new(Counters::new()),
        background: Arc::default(),
    })
}

/// Returns the state from which the log is read on, and whether the log is new.
fn last_known(index: &Index, origin: &Origin, start: u64, length: u64, accept_rollback: bool) -> Result<(Known, bool), OpenError> {
    let from_start = || Known {
        state: State::default(),
        offset: start,
        clean: false,
    };
    match index.read(origin).map_err(OpenError::io("read"))? {
        Found::Known(known) if known.offset <= length => Ok((known, false)),
        // The sidecar covers records that are missing in the file, so do not use it and read all
        // records that are left.
        Found::Known(_) if accept_rollback => Ok((from_start(), false)),
        Found::Known(known) => Err(OpenError::Lost {
            expected: known.offset,
            found: length,
        }),
        Found::Unusable => {
            tracing::warn!("the audit log's sidecar is damaged; the whole log is read");
            Ok((from_start(), false))
        }
        Found::Missing => Ok((from_start(), length == start)),
    }
}

/// Reads the intents without an outcome, in the order of the file.
fn open_intents(file: &dyn LogFile, state: &State) -> Result<Vec<OpenIntent>, OpenError> {
    let mut open = Vec::with_capacity(state.open.len());
    for position in state.open.values() {
        open.push(OpenIntent(Placed {
            position: *position,
            record: read_record(file, *position)?,
        }));
    }
    open.sort_by_key(OpenIntent::position);
    Ok(open)
}

/// The record of an unclean stop, whose last commit had `truncated` bytes that were removed.
fn restarted(origin: &Origin, state: &State, truncated: u64) -> Option<Stamped> {
    let now = Timestamp::now();
    let window = Window {
        from: state.last_time.unwrap_or(now),
        to: now,
    };
    let mut record = Record::restarted(origin, Cause::UncleanStop, window);
    record.truncated_bytes = (truncated > 0).then(|| Number::saturating(truncated));
    record.stamp().ok()
}
