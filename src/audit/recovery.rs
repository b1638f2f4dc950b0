//! Opening a log: reads what an earlier run left, truncates a last commit that a crash interrupted,
//! refuses other damage, and returns what the start must compare with the store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::background::BackgroundLog;
use super::beginning;
use super::counters::Counters;
use super::durability::Durability;
use super::durable_file::DurableFile;
use super::fields::{Cause, Window};
use super::file::{Disk, LogFile, is_full, remove_durably};
use super::frame;
use super::group_commit::{GroupCommit, Parts};
use super::health::Shared;
use super::held_folder::HeldDisk;
use super::history::ChangeHistory;
use super::index::{self, Found, Index, IndexWriter, Standing, Tip};
use super::intent::OpenIntent;
use super::log::Log;
use super::maker::Maker;
use super::observer::CommitObserver;
use super::options::Options;
use super::origin::{Origin, Position};
use super::queue::Queue;
use super::record::{Placed, Record};
use super::recorded::CountedRight;
use super::reserve::Reserve;
use super::resume::{Resumed, lacks_known, not_a_log, resume, resume_lost};
use super::resync;
use super::scalar::{Number, Timestamp};
use super::scan::{FORKED, GONE, OpenError, read_record};
use super::segments::{self, NEXT_NAME, Segments, Unusable};
use super::stamp::Stamped;
use super::state::{Begun, State};

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
    let disk = HeldDisk::open(folder).map_err(OpenError::io("opened"))?;
    open_on(Arc::new(disk), folder, origin, options, observers)
}

/// Refuses to create a log where a sidecar or the store shows that there was one.
fn check_never_existed(index: &Index, origin: &Origin, options: &Options) -> Result<(), OpenError> {
    if options.accept_lost_log {
        return Ok(());
    }
    match index.read(origin).map_err(OpenError::io("looked for"))? {
        Found::Missing => match options.last_stored() {
            Some(last) => Err(OpenError::PutBack { at: last.0 }),
            None => Ok(()),
        },
        Found::Unusable => Err(OpenError::Damaged { at: 0, why: GONE }),
        Found::Known(known) => Err(OpenError::Lost {
            expected: known.tip.end,
            found: 0,
        }),
    }
}

/// As [`open`], on that disk.
pub(super) fn open_on(
    disk: Arc<dyn Disk>,
    folder: &Path,
    origin: &Origin,
    options: Options,
    observers: Vec<Box<dyn CommitObserver>>,
) -> Result<Recovered, OpenError> {
    let index = Index::of(folder, disk.clone());
    let lines = match options.accept_lost_log {
        true => segments::set_aside(&*disk, folder, origin).map_err(OpenError::io("set aside"))?,
        false => Vec::new(),
    };
    if let Some((file, at)) = segments::first_non_file(folder).map_err(OpenError::io("looked for"))? {
        let why = Unusable::NotAFile.as_str();
        return Err(OpenError::NotALog { at, file, why });
    }
    if !segments::exist(folder).map_err(OpenError::io("looked for"))? {
        check_never_existed(&index, origin, &options)?;
    }
    let opened = Segments::open(folder, origin, disk.clone(), options.segments);
    let mut file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::io("opened")(source),
    })?;
    let found = index.read(origin).map_err(OpenError::io("read"))?;
    if options.accept_lost_log {
        index.mark_broken(origin, &found).map_err(OpenError::io("marked as incomplete"))?;
        let head = beginning::head(&file, file.start()).map_err(OpenError::io("read"))?;
        file.fill_gaps(head).map_err(OpenError::io("given its length and first line"))?;
    }
    check_headers(&file, origin)?;
    if let Some(at) = file.forked().map_err(OpenError::io("measured"))? {
        return Err(OpenError::damaged(Position(at), FORKED));
    }
    let synced = match &found {
        Found::Known(known) if known.tip.end <= file.size_end() => known.tip.end,
        Found::Known(_) | Found::Missing | Found::Unusable => file.start(),
    };
    let Resumed {
        mut state,
        tip,
        was_clean,
        is_forked,
    } = if options.accept_lost_log {
        resume_lost(&mut file, origin, found, &options)?
    } else {
        let resumed = resume(&file, origin, found, &options)?;
        match lacks_known(&file, &resumed.state, resumed.tip, &options)? {
            Some(Position(at)) => return Err(OpenError::PutBack { at }),
            None => resumed,
        }
    };
    state.has_stored(options.stored.filter(|_| !is_forked));
    for line in lines {
        state.lose(line);
    }
    // Also of a start that did not lose the part itself: the one that did may have been killed before it compared.
    let until_compared = state.uncompared(options.compared.filter(|_| !is_forked));
    if let Some(compared) = options.compared {
        state.effective.forget_until(compared);
    }
    let torn = file.erase_after(tip.end).map_err(OpenError::io("rid of its torn end"))?;
    if torn > 0 {
        tracing::warn!(
            bytes = torn,
            "the audit log ended in a commit that was never acknowledged; the commit is removed"
        );
    }
    let was_clean = was_clean && torn == 0;
    // What the last process wrote can be read here, but may not be on the disk yet.
    let from = if was_clean { tip.end } else { synced };
    resync::rewrite(&file, from, tip.end).map_err(OpenError::io("synced"))?;
    // From here on the records of a removal are durable.
    remove_leftovers(&mut file, &*disk, &state);
    let open_intents = open_intents(&file, &state)?;
    let mut maker = Maker::new(disk.clone(), folder.join(NEXT_NAME));
    let tip = match file.is_old() {
        true => continue_old(&mut file, &mut maker, tip)?,
        false => tip,
    };

    if options.accept_clock {
        state.last_time = state.last_time.min(Some(Timestamp::now()));
    }
    let last_time = state.last_time;
    // Mark the log as in use from now on, so that a crash before the first record is detected, too.
    if let Err(source) = index.write(&index::encode(origin, &state, tip, Standing::InUse)) {
        tracing::warn!(error = %source, "the audit log's sidecar could not be written; without it the next start reads the whole log");
        index.remove().map_err(OpenError::io("marked as in use"))?;
    }

    let history = ChangeHistory {
        folder: folder.to_owned(),
        origin: origin.clone(),
        start: file.start(),
        end: tip.end,
        last_effective: state.last_effective,
        effective: state.effective.clone(),
        losses: state.losses.clone(),
        removed: state.begun.and_then(Begun::changed),
        may_be_forked: is_forked || until_compared.is_some(),
        until_compared,
    };
    let first = first_records(origin, options.durability, &state, was_clean, torn);
    let shared = Arc::new(Shared::new());
    let reserve = Reserve::open(disk, folder, options.reserve_bytes);
    let queue = Arc::new(Queue::new(options.queue_bytes, state.numbers.clone()));
    let group_commit = GroupCommit::new(Parts {
        file: DurableFile::new(file, tip, maker, reserve, options.retry_after).map_err(OpenError::io("read"))?,
        origin: origin.clone(),
        options: options.clone(),
        shared: shared.clone(),
        queue: queue.clone(),
        state,
        index: IndexWriter::new(index, options.snapshot_bytes, tip.end),
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

/// Goes on in a new file after that of an earlier release. The sidecar then names a position that
/// the old file does not have, so that an earlier release refuses the log. On a full disk the next
/// commit does it.
fn continue_old(file: &mut Segments, maker: &mut Maker, tip: Tip) -> Result<Tip, OpenError> {
    let size = file.next_size(0);
    if file.available_space().map_err(OpenError::io("measured"))? < size {
        return Ok(tip);
    }
    match maker.take(size).and_then(|blank| file.begin_next(blank, tip.end)) {
        Ok(end) => Ok(Tip {
            end,
            commit: Some(tip.end),
        }),
        Err(error) if is_full(&error) => Ok(tip),
        Err(error) => Err(OpenError::io("continued in a new file")(error)),
    }
}

/// Checks the first lines of the first file and of the last one.
fn check_headers(file: &Segments, origin: &Origin) -> Result<(), OpenError> {
    for start in [file.start(), file.last_start()] {
        let header = frame::read_header(file, start).map_err(OpenError::io("read"))?;
        let (owner, _) = header.ok_or_else(|| not_a_log(file, start, Unusable::FirstLine))?;
        if owner != *origin {
            return Err(OpenError::Foreign { file: file.name_of(start) });
        }
    }
    Ok(())
}

/// Finishes a removal whose records are durable. What cannot be removed is left to the next start.
fn remove_leftovers(file: &mut Segments, disk: &dyn Disk, state: &State) {
    let Some(begun) = state.begun else { return };
    for path in file.forget_before(begun.to) {
        // The oldest first, so that what is left is a log whose beginning is recorded.
        if let Err(error) = remove_durably(disk, &path) {
            tracing::warn!(%error, file = %path.display(), "a file of the audit log could not be removed, although its removal is recorded");
            return;
        }
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
