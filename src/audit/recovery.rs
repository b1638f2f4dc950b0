//! Opening a log: reads what an earlier run left, truncates a last commit that a crash interrupted,
//! refuses other damage, and returns what the start must compare with the store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::background::BackgroundLog;
use super::beginning::{self, ReadLog, check_head, read_on, read_whole};
use super::counters::Counters;
use super::durability::Durability;
use super::durable_file::DurableFile;
use super::fields::{Cause, Lost, Window};
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
use super::resync;
use super::scalar::{Number, Timestamp};
use super::scan::{CUT, FORKED, GONE, OpenError, end_of_frames, find_losses, reaches, read_record};
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
    if options.accept_lost_log {
        let head = beginning::head(&file, file.start()).map_err(OpenError::io("read"))?;
        file.fill_gaps(head).map_err(OpenError::io("given its length and first line"))?;
    }
    check_headers(&file, origin)?;
    if let Some(at) = file.forked().map_err(OpenError::io("measured"))? {
        return Err(OpenError::damaged(Position(at), FORKED));
    }
    let found = index.read(origin).map_err(OpenError::io("read"))?;
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
        let resumed = resume(&file, origin, found)?;
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

/// What was read of a log.
struct Resumed {
    state: State,
    /// Where the log goes on.
    tip: Tip,
    /// Whether the log is new, or was closed with every record written.
    was_clean: bool,
    /// Whether another copy of the log went on in its place: the store's positions are those of another log.
    is_forked: bool,
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

/// Reads a log from its sidecar's offset on.
fn resume(file: &Segments, origin: &Origin, found: Found) -> Result<Resumed, OpenError> {
    if let Some((lost, name)) = file.missing().map_err(OpenError::io("measured"))?.into_iter().next() {
        return Err(OpenError::Missing {
            from: lost.from.get(),
            to: lost.to.get(),
            file: name,
        });
    }
    let mut is_new = false;
    let known = match found {
        // Of an older copy of the log.
        Found::Known(known) if known.tip.end.min(known.tip.commit.unwrap_or(u64::MAX)) < file.start() => {
            tracing::warn!("the audit log's sidecar is older than the log's first file; the whole log is read");
            None
        }
        Found::Known(known) => {
            // Of a broken one all parts are looked for below.
            let whole = known.standing == Standing::Broken || reaches(file, known.tip).map_err(OpenError::io("read"))?;
            let whole = whole && known.tip.end <= file.size_end();
            if !whole {
                return Err(OpenError::Lost {
                    expected: known.tip.end,
                    found: end_of_frames(file, file.last_start()).map_err(OpenError::io("read"))?,
                });
            }
            Some(*known)
        }
        Found::Unusable => {
            tracing::warn!("the audit log's sidecar is damaged; the whole log is read");
            None
        }
        Found::Missing => {
            is_new = true;
            None
        }
    };
    if let Some(known) = known.as_ref().filter(|known| known.standing == Standing::Broken) {
        let losses = find_losses(file, file.start(), known.tip.end).map_err(OpenError::io("read"))?;
        if let Some(lost) = losses.first() {
            return Err(OpenError::damaged(Position(lost.from.get()), CUT));
        }
    }
    // Where the last run closed the log.
    let mut closed_at = None;
    let read = match known {
        Some(known) => {
            closed_at = (known.standing == Standing::Clean).then_some(known.tip.end);
            read_on(file, origin, known.state, known.tip, 0)
        }
        None => read_whole(file, origin, 0),
    };
    let ReadLog { mut state, tip, lost } = read.map_err(|error| with_file(file, error))?;
    lost.add_to(&mut state);
    check_head(file, &state)?;
    if file.lacks_next(tip.end).map_err(OpenError::io("read"))? {
        return Err(OpenError::LacksNext { at: tip.end });
    }
    let is_new = is_new && state.last_time.is_none();
    let was_clean = is_new || closed_at == Some(tip.end);
    Ok(Resumed {
        state,
        tip,
        was_clean,
        is_forked: false,
    })
}

/// The last record or change that the store knows of, if the log has another one at its place, or none, and does not
/// report this part as lost.
fn lacks_known(file: &Segments, state: &State, tip: Tip, options: &Options) -> Result<Option<Position>, OpenError> {
    // Of a removed record the store's changes show whether the store is older. A crash may have left its file.
    let begin = state.begun.map_or(0, |begun| begun.to).max(file.start());
    let is_explained = |at: u64| at < begin || state.losses.iter().any(|loss| loss.lost.contains(at));
    if let Some(last) = options.last_record.filter(|last| !is_explained(last.position.0)) {
        let at = last.position;
        if at.0 >= tip.end || !last.is_in(file).map_err(OpenError::io("read"))? {
            return Ok(Some(at));
        }
    }
    let is_change = |at: Position| at.0 < tip.end && read_record(file, at).is_ok_and(|record| record.change().is_some());
    // The copy that went on may be shorter than what the store knows of.
    let compared = options.compared.filter(|_| options.accept_lost_log);
    let known = options.stored.into_iter().chain(compared);
    Ok(known.filter(|at| !is_explained(at.0) && !is_change(*at)).max())
}

/// Reads the whole of a log of which parts may be missing, and writes a skip in the place of each:
/// also for an end that the sidecar, or the store by its last position, shows to have existed.
fn resume_lost(file: &mut Segments, origin: &Origin, found: Found, options: &Options) -> Result<Resumed, OpenError> {
    let known = match found {
        Found::Known(known) => Some(known),
        Found::Unusable | Found::Missing => None,
    };
    let after_stored = options.last_stored().map_or(0, |stored| stored.0 + frame::SKIP_LENGTH);
    let expected = known.as_ref().map_or(0, |known| known.tip.end).max(after_stored);
    let mut losses = find_losses(file, file.start(), expected).map_err(OpenError::io("read"))?;
    losses.iter().try_for_each(|lost| mark_lost(file, *lost))?;
    // In use, the log went on after its sidecar was written.
    let known_until = known.as_ref().map_or(0, |known| {
        let is_last = known.standing != Standing::InUse && known.tip.end >= after_stored;
        known.tip.end.saturating_sub(u64::from(!is_last))
    });
    let end = end_of_frames(file, file.last_start()).map_err(OpenError::io("read"))?;
    let is_marked = losses.last().is_some_and(|lost| lost.to.get() == end);
    if !is_marked && end > known_until && file.lacks_next(end).map_err(OpenError::io("read"))? {
        // Something was there, and nothing tells how much.
        let lost = Lost::new(end, end + frame::SKIP_LENGTH);
        mark_lost(file, lost)?;
        losses.push(lost);
    }
    let ReadLog {
        mut state,
        mut tip,
        lost: mut numbers,
    } = read_whole(file, origin, known_until)?;
    let is_forked = lacks_known(file, &state, tip, options)?.is_some();
    if is_forked {
        // Another copy of the log went on in its place. What the records of this one were, nothing tells.
        let lost = Lost::new(tip.end, tip.end + frame::SKIP_LENGTH);
        mark_lost(file, lost)?;
        state.lose(lost);
        numbers.lose_branch(options.last_stored());
        losses.push(lost);
        tip = Tip {
            end: lost.to.get(),
            commit: Some(lost.from.get()),
        };
    }
    let mut was_clean = false;
    if let Some(known) = known {
        was_clean = losses.is_empty() && known.standing == Standing::Clean && known.tip.end == tip.end;
        if is_forked {
            // Its changes and intents may be those of the other copy.
            state.add_numbers(&known.state);
        } else {
            // A shorter copy that went on looks like a log that lost its end, from before the last change that was
            // compared. If it is one, none of the sidecar's intents had its outcome in the lost part.
            let may_be_forked = state.uncompared(options.compared).is_some();
            let until = if may_be_forked { 0 } else { known.tip.end };
            state.add_lost(&known.state, until);
        }
    }
    numbers.add_to(&mut state);
    Ok(Resumed {
        state,
        tip,
        was_clean,
        is_forked,
    })
}

/// Writes the skip of a lost part, in a file that already has the part's length: after a crash in between, one that is
/// too short would count as cut once more.
fn mark_lost(file: &mut Segments, lost: Lost) -> Result<(), OpenError> {
    tracing::warn!(from = lost.from.get(), to = lost.to.get(), "a part of the audit log is lost");
    file.extend_to(lost.to.get()).map_err(OpenError::io("given its length"))?;
    file.write_at(lost.from.get(), &frame::skip(lost))
        .map_err(OpenError::io("marked as lost"))
}

/// Names the file where damage is its first line.
fn with_file(file: &Segments, error: OpenError) -> OpenError {
    match error {
        OpenError::Damaged { at, .. } if file.starts().contains(&at) => not_a_log(file, at, Unusable::FirstLine),
        error => error,
    }
}

fn not_a_log(file: &Segments, at: u64, why: Unusable) -> OpenError {
    OpenError::NotALog {
        at,
        file: file.name_of(at),
        why: why.as_str(),
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
