//! The log's file as the group commit uses it: appends that are durable or did not happen.
//!
//! **After a failed write or sync** the page cache no longer shows what is on the disk. The kernel
//! may have marked the pages clean, so a second `fdatasync` of the same data would succeed without
//! writing it. The same data is therefore never synced again. The append fails as a whole. Before
//! the next one the file is truncated to what was acknowledged, and its last durable page and all
//! after it are written again from memory; only when that sync succeeds does the log continue. So a
//! refused record can still be in the file after a crash, but an acknowledged one is never missing.
//!
//! **A file that something else removed, replaced or cut** is found by [`DurableFile::look`], and
//! a cut one by the next append, too, before it counts as written. [`DurableFile::bring_back`]
//! puts all that the open file still has in its place again.

use std::io;
use std::time::{Duration, Instant};

use super::fields::Lost;
use super::file::LogFile;
use super::frame;
use super::scan::find_losses;

/// How much of the file's end is kept in memory, to write it again: one page.
const PAGE: u64 = 4096;

/// How long the free space of the disk is taken for known. What is written meanwhile is deducted.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// The smallest step in which the reserve is given up, in bytes.
const RESERVE_STEP: u64 = 1 << 20;

/// Why an append failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppendError {
    /// The disk is full. The file is as it was before.
    NoSpace,
    /// A write or sync failed. The file must be repaired first.
    Failed,
    /// The file was cut. It must be brought back first.
    Cut,
}

/// What something else did to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tampering {
    /// It has no name any more.
    Removed,
    /// Its path leads to another file, or nowhere.
    Moved,
    /// It is shorter than what was written, or has zeros in place of it.
    Cut,
}

impl Tampering {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Moved => "moved",
            Self::Cut => "cut",
        }
    }
}

/// How many bytes before this offset are kept in memory.
const fn kept(length: u64) -> u64 {
    match length % PAGE {
        0 if length > 0 => PAGE,
        rest => rest,
    }
}

/// The log's file and its disk reserve.
pub(super) struct DurableFile {
    file: Box<dyn LogFile>,
    /// All bytes before this offset are on the disk.
    length: u64,
    /// Number of bytes after `length` that were written and not synced yet.
    unsynced: u64,
    /// The bytes from the beginning of the last page before `length` to the end of what was
    /// written: at least one.
    tail: Vec<u8>,
    /// When a write or sync last failed, until the file is repaired.
    failed: Option<Instant>,
    /// What was found wrong with the file, until it is brought back.
    tampered: Option<Tampering>,
    /// The pause before a repair is tried.
    retry_after: Duration,
    /// The wanted size of the reserve, in bytes.
    reserve: u64,
    /// The size that the reserve has, in bytes.
    held: u64,
    /// The free space of the disk as last looked at; `None` if it is to be looked at again.
    room: Option<Room>,
    /// Looked up in the registry once: every request waits for a sync.
    sync_seconds: metrics::Histogram,
}

/// The free space of the disk, in bytes, less what was written since.
struct Room {
    left: u64,
    looked: Instant,
}

impl DurableFile {
    /// Takes over a file that is durable and has whole frames only.
    ///
    /// # Errors
    /// The error of reading the last page.
    pub(super) fn new(mut file: Box<dyn LogFile>, reserve: u64, retry_after: Duration) -> io::Result<Self> {
        let length = file.len()?;
        let page = length - kept(length);
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
            unsynced: 0,
            tail,
            failed: None,
            tampered: None,
            retry_after,
            reserve,
            held,
            room: None,
            sync_seconds: metrics::histogram!("claviger_audit_sync_seconds"),
        })
    }

    /// The durable length, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The length with what is not synced yet, in bytes: where the next append begins.
    pub(super) fn written(&self) -> u64 {
        self.length + self.unsynced
    }

    /// Writes the bytes at the end and syncs them, with all that was written before.
    ///
    /// # Errors
    /// [`AppendError`]: none of the bytes count as written.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        self.put(bytes)?;
        self.sync_file()?;
        self.unsynced += bytes.len() as u64;
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(PAGE as usize)..]);
        self.is_synced();
        Ok(())
    }

    /// Writes the bytes at the end without a sync. They are kept in memory until one, so that they
    /// can be written anew after a failed one.
    ///
    /// # Errors
    /// [`AppendError`]: none of the bytes count as written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        self.put(bytes)?;
        self.unsynced += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
        Ok(())
    }

    /// Syncs what was written.
    ///
    /// # Errors
    /// [`AppendError::Failed`]; [`DurableFile::repair`] writes it anew.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        self.sync_file()?;
        self.is_synced();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let end = self.written();
        if let Err(error) = self.file.write_at(end, bytes) {
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            self.room = None;
            if full && self.file.truncate(end).is_ok() {
                return Err(AppendError::NoSpace);
            }
            return Err(self.fail("write", &error));
        }
        if self.was_cut() {
            self.found(Tampering::Cut);
            return Err(AppendError::Cut);
        }
        if let Some(room) = &mut self.room {
            room.left = room.left.saturating_sub(bytes.len() as u64);
        }
        Ok(())
    }

    fn sync_file(&mut self) -> Result<(), AppendError> {
        let begun = Instant::now();
        self.file.sync().map_err(|error| self.fail("sync", &error))?;
        self.sync_seconds.record(begun.elapsed());
        Ok(())
    }

    /// All that was written is on the disk now.
    fn is_synced(&mut self) {
        self.length = self.written();
        self.unsynced = 0;
        let keep = kept(self.length) as usize;
        self.tail.drain(..self.tail.len().saturating_sub(keep));
    }

    /// Whether the file was cut before the last write, which then left zeros where the byte before
    /// it was. This cannot miss a cut between a look and the write.
    fn was_cut(&self) -> bool {
        let Some(before) = self.tail.last() else { return false };
        let mut found = [0];
        // An error of reading is not a cut; the sync will report it.
        self.file.read_at(self.written() - 1, &mut found).is_ok() && found[0] != *before
    }

    /// Compares the file with what was written: its path, its links, its length. Returns what is
    /// wrong, until it is brought back.
    pub(super) fn look(&mut self) -> Option<Tampering> {
        if self.tampered.is_none() {
            match self.file.look() {
                Ok(look) if !look.linked => self.found(Tampering::Removed),
                Ok(look) if !look.in_place => self.found(Tampering::Moved),
                Ok(look) if look.length < self.written() => self.found(Tampering::Cut),
                Ok(_) => {}
                Err(error) => drop(self.fail("look", &error)),
            }
        }
        self.tampered
    }

    fn found(&mut self, tampering: Tampering) {
        let what = tampering.as_str();
        tracing::error!(
            what,
            "the audit log's file was changed by something else than the gateway; the gateway brings it back and must not be stopped until then"
        );
        metrics::counter!("claviger_audit_file_failures_total", "what" => what).increment(1);
        self.tampered = Some(tampering);
    }

    /// Whether the file waits to be repaired or brought back.
    pub(super) fn is_suspect(&self) -> bool {
        self.tampered.is_some() || self.failed.is_some()
    }

    /// Whether the pause after the last failure is over.
    pub(super) fn may_retry(&self) -> bool {
        self.failed.is_none_or(|failed| failed.elapsed() >= self.retry_after)
    }

    /// Ends the pauses after failures, because the file is about to be closed.
    pub(super) fn stop_pausing(&mut self) {
        self.retry_after = Duration::ZERO;
    }

    /// Puts all that the open file still has of the log in the log's place, and returns the parts
    /// that are gone. Their skips are not written yet. Reads the whole file if it was cut.
    ///
    /// # Errors
    /// [`AppendError::Failed`]: it must be tried again.
    pub(super) fn bring_back(&mut self, header: &[u8]) -> Result<Vec<Lost>, AppendError> {
        let brought = self.try_bring_back(header);
        let lost = brought.map_err(|error| self.fail("bring back", &error))?;
        self.failed = None;
        self.tampered = None;
        Ok(lost)
    }

    fn try_bring_back(&mut self, header: &[u8]) -> io::Result<Vec<Lost>> {
        let look = self.file.look()?;
        if look.length < self.written() {
            // Known from here on, although the file gets its length back.
            self.tampered = Some(Tampering::Cut);
        }
        if !look.in_place {
            self.file.put_back(self.length)?;
        }
        let was_cut = self.tampered == Some(Tampering::Cut);
        if was_cut {
            self.file.write_at(0, header)?;
        }
        self.rewrite_tail()?;
        if !was_cut {
            return Ok(Vec::new());
        }
        find_losses(&*self.file, header.len() as u64, self.length)
    }

    /// Writes the skips of lost parts.
    ///
    /// # Errors
    /// [`AppendError::Failed`]; what is left of the log is durable.
    pub(super) fn mark_lost(&mut self, lost: &[Lost]) -> Result<(), AppendError> {
        let marked = lost
            .iter()
            .try_for_each(|lost| self.file.write_at(lost.from.get(), &frame::skip(*lost)))
            .and_then(|()| self.file.sync());
        marked.map_err(|error| {
            self.tampered = Some(Tampering::Cut);
            self.fail("mark lost", &error)
        })
    }

    /// Repairs the file if an append failed; see the module's documentation.
    ///
    /// # Errors
    /// [`AppendError::Failed`] while the pause lasts, and if the repair fails.
    pub(super) fn repair(&mut self) -> Result<(), AppendError> {
        if self.failed.is_none() {
            return Ok(());
        }
        if !self.may_retry() {
            return Err(AppendError::Failed);
        }
        self.rewrite_tail().map_err(|error| self.fail("repair", &error))?;
        self.failed = None;
        Ok(())
    }

    /// Gives the file its length, its last durable page and what was not synced yet, and syncs them.
    fn rewrite_tail(&mut self) -> io::Result<()> {
        let page = self.written() - self.tail.len() as u64;
        self.file.truncate(self.written())?;
        self.file.write_at(page, &self.tail)?;
        self.file.sync()?;
        self.is_synced();
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
        let is_enough = |room: &Room| room.looked.elapsed() < ROOM_EVERY && room.left >= need + missing;
        if !self.room.as_ref().is_some_and(is_enough) {
            let left = self.available();
            let looked = Instant::now();
            self.room = Some(Room { left, looked });
            if left < need + missing {
                return false;
            }
        }
        if missing > 0 {
            if self.file.hold_reserve(self.reserve).is_err() {
                return false;
            }
            self.held = self.reserve;
            self.room = None;
        }
        true
    }

    /// Makes the next [`DurableFile::has_room`] look at the disk.
    pub(super) fn forget_room(&mut self) {
        self.room = None;
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
