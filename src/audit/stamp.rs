//! From a record to its bytes: canonical JSON that lacks only the sequence number, which the
//! queue alone knows.

use std::cell::Cell;

use claviger_provider::TenantId;

use super::record::Record;
use super::role::Role;
use super::scalar::Timestamp;

/// The greatest length of a record's JSON, in bytes.
pub const MAX_JSON: usize = 60_000;

/// The most digits of a [`super::Number`].
pub(super) const DIGITS: usize = 16;

/// What most records need, in bytes: a batch makes many at once, and only the first one finds the spare
/// buffer.
const USUAL: usize = 1 << 10;
/// The greatest buffer that a thread keeps for its next record, in bytes.
const MAX_SPARE: usize = 16 << 10;

thread_local! {
    /// The buffer of the thread's last record: a record is made and queued without an allocation.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The record is longer than [`MAX_JSON`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is longer than {MAX_JSON} bytes")]
pub(super) struct TooLong;

/// What the log needs to know of a record, beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct About {
    pub(super) tenant: TenantId,
    pub(super) time: Timestamp,
    pub(super) role: Role,
    /// Whether it is about a change of state or a removal, so that it is synced before its response in each
    /// [`super::Durability`].
    pub(super) changes: bool,
}

/// A record as bytes, complete but for its sequence number.
#[derive(Debug)]
pub(super) struct Stamped {
    json: Vec<u8>,
    /// The offset in `json` at which the number belongs.
    number_at: usize,
    /// The CRC-32C of the bytes before the number.
    check: u32,
    pub(super) about: About,
}

/// The bytes of a record before and after its sequence number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unnumbered<'a> {
    pub(super) before: &'a [u8],
    pub(super) after: &'a [u8],
    /// The CRC-32C of `before`.
    pub(super) check: u32,
    pub(super) about: About,
}

impl Stamped {
    /// The greatest length of the JSON with its number in it.
    pub(super) fn len(&self) -> usize {
        self.json.len() + DIGITS
    }

    pub(super) fn unnumbered(&self) -> Unnumbered<'_> {
        let (before, after) = self.json.split_at(self.number_at);
        Unnumbered {
            before,
            after,
            check: self.check,
            about: self.about,
        }
    }
}

impl From<Unnumbered<'_>> for Stamped {
    fn from(record: Unnumbered<'_>) -> Self {
        Self {
            json: [record.before, record.after].concat(),
            number_at: record.before.len(),
            check: record.check,
            about: record.about,
        }
    }
}

impl Drop for Stamped {
    fn drop(&mut self) {
        if self.json.capacity() <= MAX_SPARE {
            // An error means that the thread ends.
            let _ = SPARE.try_with(|spare| spare.set(std::mem::take(&mut self.json)));
        }
    }
}

impl Record {
    /// Writes the record as canonical JSON without its number, on the caller's task.
    ///
    /// # Errors
    /// [`TooLong`].
    pub(super) fn stamp(mut self) -> Result<Stamped, TooLong> {
        self.time = Timestamp::now();
        let mut json = SPARE.take();
        json.clear();
        if json.capacity() == 0 {
            json.reserve_exact(USUAL);
        }
        let number_at = self.put_unnumbered(&mut json);
        let stamped = Stamped {
            check: crc32c::crc32c(&json[..number_at]),
            json,
            number_at,
            about: About {
                tenant: self.tenant,
                time: self.time,
                role: Role::of(self.kind, self.intent, self.result, self.change, self.lost, self.removed.as_deref()),
                changes: self.change.is_some() || self.removed.is_some(),
            },
        };
        if stamped.len() > MAX_JSON { Err(TooLong) } else { Ok(stamped) }
    }
}
