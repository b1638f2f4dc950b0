//! From a record to its bytes: canonical JSON that lacks only the sequence number, which the
//! group commit alone knows.

use claviger_provider::TenantId;

use super::record::Record;
use super::role::Role;
use super::scalar::{Number, Timestamp};

/// The greatest length of a record's JSON, in bytes.
pub const MAX_JSON: usize = 60_000;

/// The record is longer than [`MAX_JSON`], or could not be written as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record is longer than {MAX_JSON} bytes, or cannot be written as JSON")]
pub(super) struct Unwritable;

/// A record as bytes, complete but for its sequence number.
#[derive(Debug)]
pub(super) struct Stamped {
    json: Vec<u8>,
    /// The offset in `json` of the single byte `0` that the number replaces.
    number_at: usize,
    pub(super) tenant: TenantId,
    pub(super) time: Timestamp,
    pub(super) role: Role,
}

impl Stamped {
    /// The greatest length of the JSON with its number in it.
    pub(super) fn len(&self) -> usize {
        self.json.len() + DIGITS - 1
    }

    /// The JSON before and after the number.
    pub(super) fn around_number(&self) -> (&[u8], &[u8]) {
        (&self.json[..self.number_at], &self.json[self.number_at + 1..])
    }
}

/// The most digits of a [`Number`].
const DIGITS: usize = 16;

/// The bytes before the number; see [`Record::stamp`].
const BEFORE_NUMBER: &[u8] = b",\"sequence\":";
/// The offset of the letter `q` in it.
const Q_IN_BEFORE: usize = 4;

impl Record {
    /// Writes the record as canonical JSON with the number 0, on the caller's task. The group
    /// commit replaces that one byte.
    ///
    /// The place is unambiguous: within a JSON string a quotation mark is always preceded by a
    /// backslash, so `,"sequence":` can only be a member's name. The one other object that
    /// could have such a member, `context_shown`, has strings as values, so a quotation mark
    /// follows there and never `0`. It also precedes the record's own `sequence`, and the
    /// search runs from the end.
    ///
    /// # Errors
    /// [`Unwritable`].
    pub(super) fn stamp(mut self) -> Result<Stamped, Unwritable> {
        self.sequence = Number::default();
        self.time = Timestamp::now();
        let mut json = Vec::with_capacity(1024);
        serde_json::to_writer(&mut json, &self).map_err(|_| Unwritable)?;
        // Search for the rarest letter of the name: this is faster than a substring search.
        let begins = |q: usize| q.checked_sub(Q_IN_BEFORE).filter(|at| json[*at..].starts_with(BEFORE_NUMBER));
        let before = memchr::memrchr_iter(b'q', &json).find_map(begins).ok_or(Unwritable)?;
        let stamped = Stamped {
            number_at: before + BEFORE_NUMBER.len(),
            tenant: self.tenant,
            time: self.time,
            role: Role::of(self.kind, self.intent, self.result, self.change, self.lost),
            json,
        };
        if stamped.len() > MAX_JSON || stamped.json.get(stamped.number_at) != Some(&b'0') {
            return Err(Unwritable);
        }
        Ok(stamped)
    }
}
