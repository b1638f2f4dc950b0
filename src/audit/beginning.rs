//! The beginning of a log whose oldest files were removed: where it is, and what was before.
//!
//! The records of a removal say both. They are durable before a file goes, and are in the part that is
//! left, so a log needs no other file to prove that nothing of its beginning is lost.

use std::collections::HashMap;
use std::io;

use claviger_provider::TenantId;

use super::file::LogFile;
use super::frame::{Frames, Step};
use super::index::{Known, Standing, Tip};
use super::origin::Position;
use super::role::RecordSummary;
use super::scan::{CUT, OpenError, end_of_frames};
use super::segments::Segments;
use super::state::{Begun, State};

/// What a removal says of the log's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Beginning {
    /// The position at which the log begins.
    pub(super) at: u64,
    /// The next number of each tenant there.
    pub(super) next: HashMap<TenantId, u64>,
    /// Where its records are; `None` for a log that nothing was removed of.
    pub(super) begun: Option<Begun>,
}

impl Beginning {
    /// The state at the beginning.
    fn state(self) -> State {
        State {
            next: self.next,
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
    let mut next = HashMap::new();
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
            next.clear();
        }
        next.extend(removed.next.iter().map(|(tenant, number)| (*tenant, number.get())));
        if !removed.more {
            found.push(Beginning {
                at: removed.to.get(),
                next: std::mem::take(&mut next),
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

/// What is known of a log without its sidecar: where it begins, and the numbers there. Reads the whole
/// log if its oldest files were removed.
///
/// # Errors
/// [`OpenError::Missing`] if no record says that the files before the first one were removed, or
/// [`OpenError::Damaged`] where a damaged part is before it;
/// [`OpenError::Io`].
pub(super) fn read(file: &Segments) -> Result<Known, OpenError> {
    let start = file.start();
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
    Ok(Known {
        state: beginning.state(),
        tip,
        standing: Standing::InUse,
    })
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
pub(super) fn numbers(file: &dyn LogFile, begun: Begun) -> io::Result<HashMap<TenantId, u64>> {
    let Position(records) = begun.records;
    let mut found = removals(file, records, Some(begun.to), Damage::Ends)?;
    let same = found.pop().filter(|beginning| beginning.at == begun.to);
    same.map(|beginning| beginning.next).ok_or_else(|| io::ErrorKind::NotFound.into())
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
