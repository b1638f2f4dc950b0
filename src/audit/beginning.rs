//! The beginning of a log whose oldest files were removed: where it is, and what was before.
//!
//! The records of a removal say both. They are durable before a file goes, and are in the part that is
//! left, so a log needs no other file to prove that nothing of its beginning is lost.

use std::io;

use super::file::LogFile;
use super::frame::{Frames, Step};
use super::index::Tip;
use super::lost_numbers::LostNumbers;
use super::numbers::Numbers;
use super::origin::{Origin, Position};
use super::role::RecordSummary;
use super::scan::{CUT, OpenError, end_of_frames, replay};
use super::segments::Segments;
use super::state::{Begun, State};

/// What a removal says of the log's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The position at which the log begins.
    pub(super) at: u64,
    /// The next number of each tenant there.
    pub(super) numbers: Numbers,
    /// Where its records are; `None` for a log that nothing was removed of.
    pub(super) begun: Option<Begun>,
}

impl Beginning {
    /// The state at the beginning.
    fn state(self) -> State {
        State {
            numbers: self.numbers,
            last_effective: self.begun.and_then(Begun::changed),
            begun: self.begun,
            ..State::default()
        }
    }
}

/// Whether to go on behind a place without a whole frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// No: nothing behind it counts, as for a start.
    Ends,
    /// Yes: parts of the log are known to be missing.
    IsPassed,
}

/// The removals whose records are complete in the log from that position on, in their order; no more
/// after the one that ends at `until`.
///
/// # Errors
/// The error of reading the file.
fn removals(file: &dyn LogFile, from: u64, until: Option<u64>, damage: Damage) -> io::Result<Vec<Beginning>> {
    let mut found = Vec::new();
    let mut state = State::default();
    let mut numbers = Numbers::default();
    let mut frames = Frames::from(file, from);
    loop {
        let (position, json) = match frames.step()? {
            Step::Frame { position, json } => (position, json),
            Step::Skip(_) | Step::Header => continue,
            Step::Damaged { .. } if damage == Damage::IsPassed => {
                let at = frames.offset();
                match Frames::from(file, at).next_whole()? {
                    Some(whole) => frames = Frames::from(file, whole),
                    None => return Ok(found),
                }
                continue;
            }
            Step::End | Step::Damaged { .. } => return Ok(found),
        };
        // Most records are of requests; those are not parsed.
        if !json.windows(MARK.len()).any(|part| part == MARK) {
            continue;
        }
        // A record that is none of this release is refused where it is read for its content.
        let Ok(record) = serde_json::from_slice::<RecordSummary>(json) else {
            continue;
        };
        let Some(removed) = record.removed.as_ref() else { continue };
        let before = state.removing.map(|removing| removing.to);
        state.remove(removed.summary(), position);
        if before != Some(removed.to.get()) {
            numbers.next.clear();
        }
        numbers.first = removed.first.get();
        numbers
            .next
            .extend(removed.next.iter().map(|(tenant, number)| (*tenant, number.get())));
        if !removed.more {
            found.push(Beginning {
                at: removed.to.get(),
                numbers: std::mem::take(&mut numbers),
                begun: state.begun,
            });
            if until == Some(removed.to.get()) {
                return Ok(found);
            }
        }
    }
}

/// What the record of a removal has, and few others.
const MARK: &[u8] = b"\"removed\":{";

/// A log that was read to its end.
pub(super) struct ReadLog {
    pub(super) state: State,
    /// Where its last whole frame ends.
    pub(super) tip: Tip,
    /// What is lost of it behind the place from which it was read.
    pub(super) lost: LostNumbers,
}

/// Reads a whole log. Something else knows each tenant's next number at `known_until`.
///
/// # Errors
/// [`OpenError::Missing`] if no record says that the files before the first one were removed, or
/// [`OpenError::Damaged`] where a damaged part is before it; and those of [`replay`].
pub(super) fn read_whole(file: &Segments, origin: &Origin, known_until: u64) -> Result<ReadLog, OpenError> {
    let (state, tip) = state_at(file, file.start())?;
    read_on(file, origin, state, tip, known_until)
}

/// Reads a log from a place on at which its state is known; otherwise as [`read_whole`].
///
/// # Errors
/// As [`read_whole`].
pub(super) fn read_on(file: &Segments, origin: &Origin, state: State, tip: Tip, known_until: u64) -> Result<ReadLog, OpenError> {
    let (mut state, mut tip) = (state, tip);
    loop {
        let begin = tip.end;
        let mut lost = LostNumbers::known_until(known_until);
        tip = replay(file, origin, tip, &mut state, &mut lost)?;
        match state.begun {
            // A crash came between the records of a removal and its end. The numbers are those that they tell from then
            // on, also where a lost part before its end leaves them open here.
            Some(begun) if begun.to > begin => (state, tip) = state_at(file, begun.to)?,
            Some(_) | None => return Ok(ReadLog { state, tip, lost }),
        }
    }
}

/// The state where a log begins of which nothing before `start` counts, and this place. Reads all of it if its oldest
/// files were removed.
fn state_at(file: &Segments, start: u64) -> Result<(State, Tip), OpenError> {
    let beginning = if start == 0 {
        Beginning::default()
    } else {
        let removals = removals(file, start, None, Damage::Ends).map_err(OpenError::io("read"))?;
        let last = removals.into_iter().rfind(|beginning| beginning.at >= start);
        match last {
            Some(last) => last,
            None => return Err(unproven(file, start)),
        }
    };
    let tip = Tip {
        end: beginning.at,
        commit: None,
    };
    Ok((beginning.state(), tip))
}

/// Refuses a log that lacks files at its beginning whose removal is not recorded.
///
/// # Errors
/// [`OpenError::Missing`].
pub(super) fn check_head(file: &Segments, state: &State) -> Result<(), OpenError> {
    let begun = state.begun.map_or(0, |begun| begun.to);
    if file.start() <= begun {
        Ok(())
    } else {
        Err(missing(begun, file.start()))
    }
}

/// Why no record says that the files before the first one were removed: it is behind a damaged part, or there is none.
fn unproven(file: &Segments, start: u64) -> OpenError {
    let damaged = end_of_frames(file, start).and_then(|end| Ok(Frames::from(file, end).commit_follows()?.then_some(end)));
    match damaged {
        Ok(Some(at)) => OpenError::damaged(Position(at), CUT),
        Ok(None) => missing(0, start),
        Err(error) => OpenError::io("read")(error),
    }
}

fn missing(from: u64, to: u64) -> OpenError {
    OpenError::Missing {
        from,
        to,
        file: Segments::name_at(from),
    }
}

/// The next number of each tenant at the beginning, from the records of its removal.
///
/// # Errors
/// The error of reading the file; [`io::ErrorKind::NotFound`] if the records are not there.
pub(super) fn numbers(file: &dyn LogFile, begun: Begun) -> io::Result<Numbers> {
    let Position(records) = begun.records;
    let mut found = removals(file, records, Some(begun.to), Damage::Ends)?;
    let same = found.pop().filter(|beginning| beginning.at == begun.to);
    same.map(|beginning| beginning.numbers)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Where a log with missing parts should begin: at its first file, if a removal ends there, or at the
/// last removal before it.
///
/// # Errors
/// The error of reading the file.
pub(super) fn head(file: &dyn LogFile, start: u64) -> io::Result<u64> {
    if start == 0 {
        return Ok(0);
    }
    let removals = removals(file, start, None, Damage::IsPassed)?;
    Ok(removals
        .iter()
        .map(|beginning| beginning.at)
        .filter(|at| *at <= start)
        .max()
        .unwrap_or(0))
}
