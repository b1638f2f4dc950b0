//! Reading what an earlier run left of a log: what it has, where it goes on, and what is lost of it.

use super::beginning::{ReadLog, check_head, read_on, read_whole};
use super::fields::Lost;
use super::frame;
use super::index::{Found, Known, Standing, Tip};
use super::options::Options;
use super::origin::{Origin, Position};
use super::scan::{CUT, OpenError, end_of_frames, find_losses, reaches, read_record};
use super::segments::{Segments, Unusable};
use super::state::State;

/// What was read of a log.
pub(super) struct Resumed {
    pub(super) state: State,
    /// Where the log goes on.
    pub(super) tip: Tip,
    /// Whether the log is new, or was closed with every record written.
    pub(super) was_clean: bool,
    /// Whether another copy of the log went on in its place: the store's positions are those of another log.
    pub(super) is_forked: bool,
}

/// Reads a log from its sidecar's offset on.
///
/// # Errors
/// [`OpenError`].
pub(super) fn resume(file: &Segments, origin: &Origin, found: Found, options: &Options) -> Result<Resumed, OpenError> {
    if let Some((lost, name)) = file.missing().map_err(OpenError::io("measured"))?.into_iter().next() {
        return Err(OpenError::Missing {
            from: lost.from.get(),
            to: lost.to.get(),
            file: name,
        });
    }
    // After the lengths: a file that was cut within its first line is one that was cut.
    if let Some((start, why)) = file.first_unusable().map_err(OpenError::io("read"))? {
        return Err(match why {
            Unusable::Foreign => OpenError::Foreign { file: file.name_of(start) },
            Unusable::FirstLine | Unusable::NotAFile => not_a_log(file, start, why),
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
            let whole = known.is_broken() || reaches(file, known.tip).map_err(OpenError::io("read"))?;
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
    if let Some(known) = known.as_ref().filter(|known| known.is_broken()) {
        let losses = find_losses(file, file.start(), known.tip.end).map_err(OpenError::io("read"))?;
        if let Some(lost) = losses.first() {
            return Err(OpenError::damaged(Position(lost.from.get()), CUT));
        }
    }
    // Where the last run closed the log.
    let mut closed_at = None;
    let mut broken = None;
    let read = match known {
        Some(known) if known.is_broken() => {
            // An earlier start may have marked a lost part that no record reports yet.
            let known = broken.insert(known);
            read_whole(file, origin, known.knows_numbers_until(after_stored(options)))
        }
        Some(known) => {
            closed_at = (known.standing == Standing::Clean).then_some(known.tip.end);
            read_on(file, origin, known.state, known.tip, 0)
        }
        None => read_whole(file, origin, 0),
    };
    let ReadLog { mut state, tip, lost } = read.map_err(|error| with_file(file, error))?;
    if let Some(known) = &broken {
        add_known(&mut state, known, options);
    }
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
///
/// # Errors
/// [`OpenError::Io`].
pub(super) fn lacks_known(file: &Segments, state: &State, tip: Tip, options: &Options) -> Result<Option<Position>, OpenError> {
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
///
/// # Errors
/// [`OpenError`].
pub(super) fn resume_lost(file: &mut Segments, origin: &Origin, found: Found, options: &Options) -> Result<Resumed, OpenError> {
    let known = match found {
        Found::Known(known) => Some(known),
        Found::Unusable | Found::Missing => None,
    };
    let after_stored = after_stored(options);
    let expected = known.as_ref().map_or(0, |known| known.tip.end).max(after_stored);
    let mut losses = find_losses(file, file.start(), expected).map_err(OpenError::io("read"))?;
    losses.iter().try_for_each(|lost| mark_lost(file, *lost))?;
    let known_until = known.as_ref().map_or(0, |known| known.knows_numbers_until(after_stored));
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
            add_known(&mut state, &known, options);
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

/// Adds what the sidecar knows of lost parts to what was read of the whole log.
fn add_known(state: &mut State, known: &Known, options: &Options) {
    // A shorter copy that went on looks like a log that lost its end, from before the last change that was compared. If it
    // is one, none of the sidecar's intents had its outcome in the lost part.
    let may_be_forked = state.uncompared(options.compared).is_some();
    state.add_lost(&known.state, if may_be_forked { 0 } else { known.tip.end });
}

/// The least length of a log that has what the store knows of.
fn after_stored(options: &Options) -> u64 {
    options.last_stored().map_or(0, |stored| stored.0 + frame::SKIP_LENGTH)
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

/// The refusal of the file that begins there.
pub(super) fn not_a_log(file: &Segments, at: u64, why: Unusable) -> OpenError {
    OpenError::NotALog {
        at,
        file: file.name_of(at),
        why: why.as_str(),
    }
}
