//! The log's file as the group commit uses it: appends that are durable or did not happen.
//!
//! **After a failed write or sync** the page cache no longer shows what is on the disk. The kernel
//! may have marked the pages clean, so a second `fdatasync` of the same data would succeed without
//! writing it. The same data is therefore never synced again. The append fails as a whole. Before
//! the next one the file is truncated to the last durable length and its last page is written again
//! from memory; only when that sync succeeds does the log continue. So a refused record can still
//! be in the file after a crash, but an acknowledged one is never missing.

use std::io;
use std::time::{Duration, Instant};

use super::file::LogFile;

/// How much of the file's end is kept in memory, to write it again: one page.
const PAGE: u64 = 4096;

/// The smallest step in which the reserve is given up, in bytes.
const RESERVE_STEP: u64 = 1 << 20;

/// Why an append failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppendError {
    /// The disk is full. The file is as it was before.
    NoSpace,
    /// A write or sync failed. The file must be repaired first.
    Failed,
}

/// The log's file and its disk reserve.
pub(super) struct DurableFile {
    file: Box<dyn LogFile>,
    /// All bytes before this offset are on the disk.
    length: u64,
    /// The bytes from the beginning of the last page to `length`.
    tail: Vec<u8>,
    /// When a write or sync last failed, until the file is repaired.
    failed: Option<Instant>,
    /// The pause before a repair is tried.
    retry_after: Duration,
    /// The wanted size of the reserve, in bytes.
    reserve: u64,
    /// The size that the reserve has, in bytes.
    held: u64,
    /// Looked up in the registry once: every request waits for a sync.
    sync_seconds: metrics::Histogram,
}

impl DurableFile {
    /// Takes over a file that is durable and has whole frames only.
    ///
    /// # Errors
    /// The error of reading the last page.
    pub(super) fn new(mut file: Box<dyn LogFile>, reserve: u64, retry_after: Duration) -> io::Result<Self> {
        let length = file.len()?;
        let page = length - length % PAGE;
        let mut tail = vec![0; usize::try_from(length - page).unwrap_or(0)];
        let read = file.read_at(page, &mut tail)?;
        if read != tail.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let held = match file.hold_reserve(reserve) {
            Ok(()) => reserve,
            Err(error) => {
                tracing::error!(%error, "the audit log's disk reserve could not be allocated");
                0
            }
        };
        Ok(Self {
            file,
            length,
            tail,
            failed: None,
            retry_after,
            reserve,
            held,
            sync_seconds: metrics::histogram!("claviger_audit_sync_seconds"),
        })
    }

    /// The durable length, in bytes: where the next append begins.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Writes the bytes at the end and syncs them.
    ///
    /// # Errors
    /// [`AppendError`]: none of the bytes count as written.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        if let Err(error) = self.file.write_at(self.length, bytes) {
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if full && self.file.truncate(self.length).is_ok() {
                return Err(AppendError::NoSpace);
            }
            return Err(self.fail("write", &error));
        }
        let begun = Instant::now();
        if let Err(error) = self.file.sync() {
            return Err(self.fail("sync", &error));
        }
        self.sync_seconds.record(begun.elapsed());
        self.length += bytes.len() as u64;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(PAGE as usize)..]);
        let keep = (self.length % PAGE) as usize;
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        Ok(())
    }

    /// Repairs the file if an append failed; see the module's documentation.
    ///
    /// # Errors
    /// [`AppendError::Failed`] while the pause lasts, and if the repair fails.
    pub(super) fn repair(&mut self) -> Result<(), AppendError> {
        let Some(failed) = self.failed else { return Ok(()) };
        if failed.elapsed() < self.retry_after {
            return Err(AppendError::Failed);
        }
        let page = self.length - self.tail.len() as u64;
        let repaired = self
            .file
            .truncate(self.length)
            .and_then(|()| self.file.write_at(page, &self.tail))
            .and_then(|()| self.file.sync());
        repaired.map_err(|error| self.fail("repair", &error))?;
        self.failed = None;
        Ok(())
    }

    fn fail(&mut self, what: &'static str, error: &io::Error) -> AppendError {
        tracing::error!(%error, what, "the audit log's file failed");
        metrics::counter!("claviger_audit_file_failures_total", "what" => what).increment(1);
        self.failed = Some(Instant::now());
        AppendError::Failed
    }

    /// Whether `need` bytes can be written with the whole reserve left. Fills the reserve up
    /// again if it was used.
    pub(super) fn has_room(&mut self, need: u64) -> bool {
        let missing = self.reserve.saturating_sub(self.held);
        if self.available() < need + missing {
            return false;
        }
        if missing > 0 {
            if self.file.hold_reserve(self.reserve).is_err() {
                return false;
            }
            self.held = self.reserve;
        }
        true
    }

    /// Gives up a part of the reserve, enough for `need` bytes. Returns whether any was left.
    pub(super) fn give_up_reserve(&mut self, need: u64) -> bool {
        let left = self.held.saturating_sub(RESERVE_STEP.max(2 * need));
        match self.file.hold_reserve(left) {
            Ok(()) => std::mem::replace(&mut self.held, left) > left,
            Err(error) => {
                tracing::error!(%error, "the audit log's disk reserve could not be given up");
                false
            }
        }
    }

    fn available(&self) -> u64 {
        self.file.available_space().unwrap_or_else(|error| {
            tracing::warn!(%error, "the audit log cannot read the free disk space and treats the disk as full");
            0
        })
    }
}
