//! The frames of one commit while it is being built.

use std::collections::HashMap;
use std::ops::Range;

use claviger_provider::TenantId;

use super::frame::{self, PREFIX};
use super::origin::Position;
use super::queue::LogPosition;
use super::role::Role;
use super::scalar::Timestamp;
use super::stamp::Stamped;
use super::state::State;

/// A record that was encoded into the batch.
pub(super) struct Encoded {
    pub(super) tenant: TenantId,
    pub(super) role: Role,
    pub(super) time: Timestamp,
    pub(super) at: LogPosition,
    /// The range of its JSON within the batch's bytes.
    pub(super) json: Range<usize>,
}

/// The frames of one commit. The value is reused, to keep its memory.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    frames: Vec<Encoded>,
    /// The next sequence number of each tenant in the batch.
    next: HashMap<TenantId, u64>,
    /// The offset in the file of the first byte.
    base: u64,
}

impl Batch {
    /// Empties the batch. Its first frame will be at the offset `base`.
    pub(super) fn begin(&mut self, base: u64) {
        self.bytes.clear();
        self.frames.clear();
        self.next.clear();
        self.base = base;
    }

    /// Adds a record's frame, with the tenant's next sequence number. The number counts only
    /// once the batch is durable ([`Batch::apply`]), so a refused record leaves no gap.
    pub(super) fn push(&mut self, record: &Stamped, state: &State) {
        let next = self.next.entry(record.tenant).or_insert_with(|| state.next(record.tenant));
        let begin = self.bytes.len();
        let at = LogPosition {
            sequence: *next,
            position: Position(self.base + begin as u64),
        };
        *next += 1;
        frame::put(&mut self.bytes, self.frames.is_empty(), record, at.sequence);
        self.frames.push(Encoded {
            tenant: record.tenant,
            role: record.role,
            time: record.time,
            at,
            json: begin + PREFIX..self.bytes.len(),
        });
    }

    /// Adds the batch, which is durable, to the state.
    pub(super) fn apply(&self, state: &mut State) {
        for frame in &self.frames {
            state.add(frame.tenant, frame.at.sequence, frame.role, frame.at.position, frame.time);
        }
    }

    /// The frames' bytes, as they are written to the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The frames, in the order of the file.
    pub(super) fn frames(&self) -> &[Encoded] {
        &self.frames
    }

    /// The JSON of one of the frames.
    pub(super) fn json(&self, frame: &Encoded) -> &[u8] {
        &self.bytes[frame.json.clone()]
    }
}
