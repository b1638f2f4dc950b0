//! Opening a log: reads what an earlier run left, truncates a last commit that a crash interrupted,
//! refuses other damage, and returns what the start must compare with the store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::background::BackgroundLog;
use super::counters::Counters;
use super::durability::Durability;
use super::durable_file::DurableFile;
use super::fields::{Cause, Window};
use super::file::{DiskFile, LOG_NAME, LogFile};
use super::frame;
use super::group_commit::{GroupCommit, Parts};
use super::health::Shared;
use super::history::ChangeHistory;
use super::index::{self, Found, Index, IndexWriter, Known, Standing};
use super::intent::OpenIntent;
use super::log::Log;
use super::observer::CommitObserver;
use super::options::Options;
use super::origin::{Origin, Position};
use super::queue::Queue;
use super::record::{Placed, Record};
use super::recorded::CountedRight;
use super::resync;
use super::scalar::{Number, Timestamp};
use super::scan::{CUT, OpenError, find_losses, read_record, replay};
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
    /// The latest time of a record; `None` in a new log.
    pub last_time: Option<Timestamp>,
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
        check_never_existed(&Index::of(folder), origin, &options)?;
    }
    let file = DiskFile::open(folder, &frame::header(origin)).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::io("opened")(source),
    })?;
    open_on(Box::new(file), folder, origin, options, observers)
}

/// Refuses to create a log where a sidecar or the store shows that there was one.
fn check_never_existed(index: &Index, origin: &Origin, options: &Options) -> Result<(), OpenError> {
    if options.accept_lost_log {
        return Ok(());
    }
    match index.read(origin).map_err(OpenError::io("looked for"))? {
        Found::Missing => match options.last_record {
            Some(last) if !options.accept_rollback => Err(OpenError::PutBack { at: last.position.0 }),
            Some(_) | None => Ok(()),
        },
        Found::Unusable => Err(OpenError::Damaged {
            at: 0,
            why: "the log is missing, and its sidecar cannot be read",
        }),
        Found::Known(_) if options.accept_rollback => Ok(()),
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
    if options.accept_lost_log {
        rewrite_header(&mut *file, origin).map_err(OpenError::io("given its first line"))?;
    }
    let (owner, start) = frame::read_header(&*file)
        .map_err(OpenError::io("read"))?
        .ok_or(OpenError::NotALog)?;
    if owner != *origin {
        return Err(OpenError::Foreign);
    }
    let length = file.len().map_err(OpenError::io("measured"))?;
    let found = index.read(origin).map_err(OpenError::io("read"))?;
    let synced = match &found {
        Found::Known(known) if known.offset <= length => known.offset,
        Found::Known(_) | Found::Missing | Found::Unusable => start,
    };
    let Resumed { mut state, end, was_clean } = if options.accept_lost_log {
        resume_lost(&mut *file, origin, start, found, options.last_stored())?
    } else {
        let resumed = resume(&*file, origin, start, found, options.accept_rollback)?;
        check_last_record(&*file, &resumed, &options)?;
        resumed
    };
    if let Some(compared) = options.compared {
        state.effective.forget_until(compared);
    }
    let torn = length.saturating_sub(end);
    if torn > 0 {
        tracing::warn!(
            bytes = torn,
            "the audit log ended in a commit that was never acknowledged; the commit is removed"
        );
    }
    if end != length {
        file.truncate(end).map_err(OpenError::io("given its length"))?;
    }
    // What the last process wrote can be read here, but may not be on the disk yet.
    let from = if was_clean { end } else { synced };
    resync::rewrite(&mut *file, from, end).map_err(OpenError::io("synced"))?;
    let open_intents = open_intents(&*file, &state)?;

    if options.accept_clock {
        state.last_time = state.last_time.min(Some(Timestamp::now()));
    }
    let last_time = state.last_time;
    // Mark the log as in use from now on, so that a crash before the first record is detected, too.
    if let Err(source) = index.write(&index::encode(origin, &state, end, Standing::InUse)) {
        tracing::warn!(error = %source, "the audit log's sidecar could not be written; without it the next start reads the whole log");
        index.remove().map_err(OpenError::io("marked as in use"))?;
    }

    let history = ChangeHistory {
        folder: folder.to_owned(),
        start,
        end,
        last_effective: state.last_effective,
        effective: state.effective.clone(),
        losses: state.losses.iter().map(|loss| loss.lost).collect(),
    };
    let first = first_records(origin, options.durability, &state, was_clean, torn);
    let shared = Arc::new(Shared::new());
    let queue = Arc::new(Queue::new(options.queue_bytes, state.next.clone()));
    let group_commit = GroupCommit::new(Parts {
        file: DurableFile::new(file, options.reserve_bytes, options.retry_after).map_err(OpenError::io("read"))?,
        origin: origin.clone(),
        options: options.clone(),
        shared: shared.clone(),
        queue: queue.clone(),
        state,
        index: IndexWriter::new(index, options.snapshot_bytes, end),
        observers,
        first,
    });
    std::thread::Builder::new()
        .name("audit-log".into())
        .spawn(move || group_commit.run())
        .map_err(OpenError::io("given a thread"))?;
    Ok(Recovered {
        log: Log::new(origin.clone(), options, shared, queue),
        open_intents,
        history,
        last_time,
        was_clean,
        counted: CountedRight::new(),
        counters: Arc::new(Counters::new()),
        background: Arc::default(),
    })
}

/// What was read of a log.
struct Resumed {
    state: State,
    /// Where the log goes on.
    end: u64,
    /// Whether the log is new, or was closed with every record written.
    was_clean: bool,
}

/// Reads a log from its sidecar's offset on.
fn resume(file: &dyn LogFile, origin: &Origin, start: u64, found: Found, accept_rollback: bool) -> Result<Resumed, OpenError> {
    let length = file.len().map_err(OpenError::io("measured"))?;
    let from_start = || Known {
        state: State::default(),
        offset: start,
        standing: Standing::InUse,
    };
    let (known, is_new) = match found {
        Found::Known(known) if known.offset <= length => (known, false),
        // The sidecar covers records that are missing in the file, so do not use it and read all
        // records that are left.
        Found::Known(_) if accept_rollback => (from_start(), false),
        Found::Known(known) => {
            return Err(OpenError::Lost {
                expected: known.offset,
                found: length,
            });
        }
        Found::Unusable => {
            tracing::warn!("the audit log's sidecar is damaged; the whole log is read");
            (from_start(), false)
        }
        Found::Missing => (from_start(), length == start),
    };
    if known.standing == Standing::Broken {
        let losses = find_losses(file, start, known.offset).map_err(OpenError::io("read"))?;
        if let Some(lost) = losses.first() {
            return Err(OpenError::damaged(Position(lost.from.get()), CUT));
        }
    }
    let was_clean = is_new || (known.standing == Standing::Clean && known.offset == length);
    let mut state = known.state;
    let end = replay(file, origin, known.offset, &mut state)?;
    Ok(Resumed { state, end, was_clean })
}

/// Refuses a log without the last record that the store knows of, unless it was in a part whose loss
/// the log reports.
fn check_last_record(file: &dyn LogFile, resumed: &Resumed, options: &Options) -> Result<(), OpenError> {
    let Some(last) = options.last_record.filter(|_| !options.accept_rollback) else {
        return Ok(());
    };
    let at = last.position.0;
    let is_lost = resumed.state.losses.iter().any(|loss| loss.lost.contains(at));
    if is_lost || (at < resumed.end && last.is_in(file).map_err(OpenError::io("read"))?) {
        return Ok(());
    }
    Err(OpenError::PutBack { at })
}

/// Reads the whole of a log of which parts may be missing, and writes a skip in the place of each:
/// also for an end that the sidecar, or the store by its last position, shows to have existed.
fn resume_lost(file: &mut dyn LogFile, origin: &Origin, start: u64, found: Found, stored: Option<Position>) -> Result<Resumed, OpenError> {
    let known = match found {
        Found::Known(known) => Some(known),
        Found::Unusable | Found::Missing => None,
    };
    let after_stored = stored.map_or(0, |stored| stored.0 + frame::SKIP_LENGTH);
    let expected = known.as_ref().map_or(start, |known| known.offset).max(after_stored);
    let losses = find_losses(file, start, expected).map_err(OpenError::io("read"))?;
    for lost in &losses {
        tracing::warn!(from = lost.from.get(), to = lost.to.get(), "a part of the audit log is lost");
        file.write_at(lost.from.get(), &frame::skip(*lost))
            .map_err(OpenError::io("marked as lost"))?;
    }
    let mut state = State::default();
    let end = replay(file, origin, start, &mut state)?;
    let mut was_clean = false;
    if let Some(known) = known {
        was_clean = losses.is_empty() && known.standing == Standing::Clean && known.offset == end;
        state.add_lost(known.state, known.offset);
    }
    Ok(Resumed { state, end, was_clean })
}

/// Writes the first line of a file that was cut within it.
fn rewrite_header(file: &mut dyn LogFile, origin: &Origin) -> io::Result<()> {
    let header = frame::header(origin).into_bytes();
    let mut found = vec![0; header.len()];
    file.read_at(0, &mut found)?;
    let left = found.iter().zip(&header).take_while(|(found, own)| found == own).count();
    if left < header.len() && found[left..].iter().all(|byte| *byte == 0) {
        file.write_at(0, &header)?;
    }
    Ok(())
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

/// The records of this start: of an unclean stop, whose last commit had `torn` bytes that were
/// removed, and of lost parts that no record reports yet.
fn first_records(origin: &Origin, durability: Durability, state: &State, was_clean: bool, torn: u64) -> Vec<Stamped> {
    let now = Timestamp::now();
    let window = Window {
        from: state.last_time.map_or(now, |last| last.min(now)),
        to: now,
    };
    let unclean = (!was_clean).then(|| {
        let mut record = Record::restarted(origin, durability, Cause::UncleanStop, window);
        record.truncated_bytes = (torn > 0).then(|| Number::saturating(torn));
        record
    });
    let lost = state.unreported().map(|lost| Record::log_lost(origin, durability, lost, window));
    unclean.into_iter().chain(lost).filter_map(|record| record.stamp().ok()).collect()
}
