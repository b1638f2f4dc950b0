//! What a part of the log contains that is to be removed, and the numbers with which the rest begins.

use std::collections::HashSet;
use std::io;

use claviger_provider::TenantId;

use super::beginning;
use super::fields::Window;
use super::frame::{Frames, Step};
use super::numbers::Numbers;
use super::origin::Position;
use super::role::RecordSummary;
use super::scan::{NO_FRAME, OpenError, parse};
use super::segments::Segments;
use super::state::Begun;
use super::survey::Survey;

/// What the oldest part of the log contains.
pub(super) struct Content {
    /// The next number of each tenant behind it.
    pub(super) numbers: Numbers,
    /// The times of its first and last record.
    pub(super) window: Option<Window>,
    /// Where reading it ended.
    pub(super) end: u64,
}

impl Content {
    /// Reads from the log's beginning to that position, and the rest of the log if parts were lost before it.
    pub(super) fn read(file: &Segments, survey: &Survey, from: u64, to: u64) -> Result<Self, OpenError> {
        let mut numbers = match survey.begun {
            Some(begun) => beginning::numbers(file, begun).map_err(OpenError::io("read"))?,
            None => Numbers::default(),
        };
        // The tenants with a record behind the last lost part; `None` without one.
        let mut since_loss: Option<HashSet<_>> = None;
        let mut window: Option<Window> = None;
        let mut frames = Frames::from(file, from);
        while frames.offset() < to {
            let at = Position(frames.offset());
            match frames.step().map_err(OpenError::io("read"))? {
                Step::Header => {}
                Step::Skip(_) => since_loss = Some(HashSet::new()),
                Step::Frame { position, json } => {
                    let record: RecordSummary = parse(position, json)?;
                    numbers.next.insert(record.tenant, record.sequence.get() + 1);
                    if let Some(tenants) = &mut since_loss {
                        tenants.insert(record.tenant);
                    }
                    let from = window.map_or(record.time, |window| window.from);
                    window = Some(Window { from, to: record.time });
                }
                Step::End | Step::Damaged { .. } => return Err(OpenError::damaged(at, NO_FRAME)),
            }
        }
        let end = frames.offset();
        if let Some(known) = since_loss {
            numbers = after_loss(file, survey, end, numbers, &known)?;
        }
        Ok(Self { numbers, window, end })
    }
}

/// The last removal and the numbers at the log's beginning, if records of the removal are lost: as the rest of the log
/// shows them.
pub(super) fn lost_beginning(file: &Segments, survey: &Survey) -> Result<Option<(Begun, Numbers)>, OpenError> {
    let Some(begun) = survey.begun else { return Ok(None) };
    let Position(records) = begun.records;
    let losses = survey.history.losses.iter().map(|loss| loss.lost);
    let mut behind = losses.filter(|lost| lost.to.get() > records).peekable();
    if behind.peek().is_none() {
        return Ok(None);
    }
    if !behind.any(|lost| lost.contains(records)) {
        match beginning::numbers(file, begun) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(|_| None).map_err(OpenError::io("read")),
        }
    }
    let numbers = after_loss(file, survey, begun.to, Numbers::default(), &HashSet::new())?;
    Ok(Some((begun, numbers)))
}

/// The numbers at that position, before which records are lost: those of the other tenants than `known` may have
/// jumped since. Where the skip is removed nothing tells it any more, so each of them is told.
fn after_loss(file: &Segments, survey: &Survey, at: u64, before: Numbers, known: &HashSet<TenantId>) -> Result<Numbers, OpenError> {
    let now = survey.numbers.as_ref();
    // The log's thread knows of each lost part whose skip it wrote or read.
    let now = now.ok_or_else(|| OpenError::damaged(Position(at), "a lost part is not known"))?;
    let mut numbers = before;
    // Those with a record behind the position had its number there, and the others have theirs still.
    let mut unseen: HashSet<_> = now
        .next
        .iter()
        .filter(|(tenant, next)| !known.contains(*tenant) && numbers.next.get(*tenant) != Some(*next))
        .map(|(tenant, _)| *tenant)
        .collect();
    let mut frames = Frames::from(file, at);
    while frames.offset() < survey.end && !unseen.is_empty() {
        let at = Position(frames.offset());
        match frames.step().map_err(OpenError::io("read"))? {
            Step::Header | Step::Skip(_) => {}
            Step::Frame { position, json } => {
                let record: RecordSummary = parse(position, json)?;
                if unseen.remove(&record.tenant) {
                    numbers.next.insert(record.tenant, record.sequence.get());
                }
            }
            Step::End | Step::Damaged { .. } => return Err(OpenError::damaged(at, NO_FRAME)),
        }
    }
    numbers.next.extend(unseen.into_iter().map(|tenant| (tenant, now.next(tenant))));
    numbers.first = now.first;
    Ok(numbers)
}
