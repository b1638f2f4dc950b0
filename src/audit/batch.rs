//! The frames that one commit writes.

use std::ops::Range;

use claviger_provider::TenantId;

use super::class::{Class, Refusal};
use super::frame::{self, PREFIX};
use super::origin::Position;
use super::stamp::{About, Unnumbered};
use super::state::State;

/// A record that was encoded into the batch.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    pub(super) about: About,
    pub(super) class: Class,
    /// The record's number in the tenant's log. It counts only once the frame is written.
    pub(super) number: u64,
    /// The range of its JSON within the batch's bytes.
    json: Range<usize>,
    /// Where its number is within the batch's bytes.
    digits: Range<usize>,
    /// The CRC-32C of the JSON before the number.
    check: u32,
}

impl Encoded {
    /// The length of the frame, in bytes.
    pub(super) fn len(&self) -> usize {
        PREFIX + self.json.len()
    }
}

/// The frames of one commit.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Encoded>,
    /// The offset in the file of the first byte, once it is known.
    base: u64,
    /// Whether any record must be synced before its response in each [`super::Durability`].
    changes: bool,
    /// How many records the log keeps if it refuses them ([`Refusal::Deferred`]).
    deferred: usize,
}

/// The most memory that an empty batch keeps, in bytes.
const MAX_SPARE: usize = 1 << 20;

impl Batch {
    /// Empties the batch. It keeps its memory, unless that is much.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(MAX_SPARE);
        self.frames.clear();
        self.frames.shrink_to(MAX_SPARE / size_of::<Encoded>());
        self.changes = false;
        self.deferred = 0;
    }

    /// Adds a record's frame.
    pub(super) fn push(&mut self, record: Unnumbered<'_>, class: Class, number: u64) {
        let begin = self.bytes.len();
        let number_at = frame::put(&mut self.bytes, record, number);
        let end = self.bytes.len();
        self.changes |= record.about.changes;
        self.deferred += usize::from(class.refusal == Refusal::Deferred);
        self.frames.push(Encoded {
            about: record.about,
            class,
            number,
            json: begin + PREFIX..end,
            digits: number_at..end - record.after.len(),
            check: record.check,
        });
    }

    /// Adds the frames of a batch that is behind this one in the file.
    pub(super) fn append(&mut self, later: &Self) {
        let behind = |range: &Range<usize>| range.start + self.bytes.len()..range.end + self.bytes.len();
        self.frames.extend(later.frames.iter().map(|frame| Encoded {
            json: behind(&frame.json),
            digits: behind(&frame.digits),
            ..frame.clone()
        }));
        self.bytes.extend_from_slice(&later.bytes);
        self.changes |= later.changes;
        self.deferred += later.deferred;
    }

    /// A frame's record without its number.
    pub(super) fn unnumbered(&self, frame: &Encoded) -> Unnumbered<'_> {
        Unnumbered {
            before: &self.bytes[frame.json.start..frame.digits.start],
            after: &self.bytes[frame.digits.end..frame.json.end],
            check: frame.check,
            about: frame.about,
        }
    }

    /// Places the batch at that offset of the file, and returns its bytes as they are written.
    /// `first` marks the first frame: everything before it was synced.
    pub(super) fn place(&mut self, base: u64, first: bool) -> &[u8] {
        self.base = base;
        if first {
            frame::mark(&mut self.bytes);
        }
        &self.bytes
    }

    /// Adds the batch, which is durable, to the state.
    pub(super) fn apply(&self, state: &mut State) {
        for frame in &self.frames {
            let About { tenant, time, role, .. } = frame.about;
            state.add(tenant, frame.number, role, self.position(frame), time);
        }
    }

    /// The offset in the file of the first byte, once the batch is placed.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Whether any record must be synced before its response in each [`super::Durability`].
    pub(super) fn changes(&self) -> bool {
        self.changes
    }

    /// How many records the log keeps if it refuses them.
    pub(super) fn deferred(&self) -> usize {
        self.deferred
    }

    /// Whether there is no frame.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The length of the frames, in bytes.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The frames, in the order of the file.
    pub(super) fn frames(&self) -> &[Encoded] {
        &self.frames
    }

    /// The tenants of the frames.
    pub(super) fn tenants(&self) -> impl Iterator<Item = TenantId> {
        self.frames.iter().map(|frame| frame.about.tenant)
    }

    /// The offset in the file of one of the frames, once the batch is placed.
    pub(super) fn position(&self, frame: &Encoded) -> Position {
        Position(self.base + (frame.json.start - PREFIX) as u64)
    }

    /// The JSON of one of the frames.
    pub(super) fn json(&self, frame: &Encoded) -> &[u8] {
        &self.bytes[frame.json.clone()]
    }

    /// The CRC-32C of that JSON, which stands before it once the batch is placed.
    pub(super) fn crc(&self, frame: &Encoded) -> u32 {
        let crc = frame.json.start - size_of::<u32>()..frame.json.start;
        self.bytes[crc].iter().fold(0, |crc, byte| crc << 8 | u32::from(*byte))
    }
}
