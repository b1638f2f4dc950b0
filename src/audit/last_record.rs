//! The last durable record, which the store keeps: so a start notices a log that was put back to an
//! older state, although no change of state is missing in it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::file::LogFile;
use super::frame::{Frames, Step};
use super::observer::{Commit, CommitObserver};
use super::origin::Position;

/// A record by its place and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// The frame's position.
    pub position: Position,
    /// The CRC-32C in the frame: of the record's JSON.
    pub crc: u32,
}

impl LastRecord {
    /// Whether the log has this record at this place.
    ///
    /// # Errors
    /// The error of reading the file.
    pub(super) fn is_in(&self, file: &dyn LogFile) -> io::Result<bool> {
        Ok(match Frames::from(file, self.position.0).step()? {
            Step::Frame { json, .. } => crc32c::crc32c(json) == self.crc,
            Step::Skip(_) | Step::Header | Step::End | Step::Damaged { .. } => false,
        })
    }
}

/// Knows the last record that this process made durable. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct LastRecordWatch(Arc<Mutex<Option<LastRecord>>>);

impl LastRecordWatch {
    /// The last record; `None` before the first one.
    pub fn get(&self) -> Option<LastRecord> {
        *self.0.lock()
    }
}

impl CommitObserver for LastRecordWatch {
    fn committed(&mut self, commit: &Commit<'_>) {
        if let Some(last) = commit.last_frame() {
            *self.0.lock() = Some(LastRecord {
                position: last.position,
                crc: last.crc,
            });
        }
    }
}
