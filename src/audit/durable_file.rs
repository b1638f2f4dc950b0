//! The log's files as the group commit uses them: appends that are durable or did not happen.
//!
//! An append overwrites the zeros of the last file and never extends it, so its sync needs no commit
//! of the file system's journal. [`DurableFile::prepare`] goes on in the next file before a commit
//! that does not fit.
//!
//! **After a failed write or sync** the page cache no longer shows what is on the disk. The kernel
//! may have marked the pages clean, so a second `fdatasync` of the same data would succeed without
//! writing it. The same data is therefore never synced again. The append fails as a whole. Before
//! the next one its place is written with zeros, and the last durable page and all that was
//! acknowledged after it again from memory; only when that sync succeeds does the log continue. So a
//! refused record can still be in the file after a crash, but an acknowledged one is never missing.
//!
//! **A file that something else removed, replaced or cut** is found by [`DurableFile::look`], and
//! a cut one by the next append, too, before it counts as written. [`DurableFile::bring_back`]
//! puts all that the open files still have in its place again.

use std::io;
use std::time::{Duration, Instant};

use super::fields::Lost;
use super::file::{LogFile, is_full};
use super::forecast::Growth;
use super::frame;
use super::index::Tip;
use super::maker::Maker;
use super::reserve::Reserve;
use super::scan::find_losses;
use super::segments::{Segments, Tampering};

/// How much of the file's end is kept in memory, to write it again: one page.
const PAGE: u64 = 4096;

/// How long the free space of the disk is taken for known.
const ROOM_EVERY: Duration = Duration::from_secs(1);

/// Number of bytes of one write of zeros.
const STEP: u64 = 1 << 20;

/// Why an append failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppendError {
    /// The disk is full. The log is as it was before.
    NoSpace,
    /// A write or sync failed. The file must be repaired first.
    Failed,
    /// The file was cut. It must be brought back first.
    Cut,
}

/// The log's files and its disk reserve.
pub(super) struct DurableFile {
    segments: Segments,
    /// All bytes before this position are on the disk.
    length: u64,
    /// Number of bytes after `length` that were written to the last file and not synced yet.
    unsynced: u64,
    /// The position of the last commit before `length`, or of what else leads there.
    commit: u64,
    /// Where the bytes end that a failed append may have left behind what was written.
    dirty: u64,
    /// The bytes from the beginning of the last page before `length` to the end of what was
    /// written.
    tail: Vec<u8>,
    /// When a write or sync last failed, until the file is repaired.
    failed: Option<Instant>,
    /// What was found wrong with a file, until it is brought back.
    tampered: Option<Tampering>,
    /// The pause before a repair is tried.
    retry_after: Duration,
    /// Makes the next segment.
    maker: Maker,
    /// Whether the next segment could not be made for a limit on files, which the disk's free space does not show.
    is_limited: bool,
    reserve: Reserve,
    /// The free space of the disk as last looked at; `None` if it is to be looked at again.
    room: Option<Room>,
    growth: Growth,
    /// Looked up in the registry once: every request waits for a sync.
    sync_seconds: metrics::Histogram,
}

/// The free space of the disk, in bytes.
struct Room {
    left: u64,
    looked: Instant,
}

impl DurableFile {
    /// Takes over a log that is durable and has whole frames only, up to that tip.
    ///
    /// # Errors
    /// The error of reading the last page.
    pub(super) fn new(segments: Segments, tip: Tip, maker: Maker, reserve: Reserve, retry_after: Duration) -> io::Result<Self> {
        let mut file = Self {
            segments,
            length: tip.end,
            unsynced: 0,
            commit: tip.commit.unwrap_or(tip.end),
            dirty: tip.end,
            tail: Vec::new(),
            failed: None,
            tampered: None,
            retry_after,
            maker,
            is_limited: false,
            reserve,
            room: None,
            growth: Growth::new(tip.end, Instant::now()),
            sync_seconds: metrics::histogram!("claviger_audit_sync_seconds"),
        };
        // Nothing, if the end of the file is lost.
        let end = file.length.min(file.segments.size_end());
        let page = file.page().min(end);
        file.tail = vec![0; usize::try_from(end - page).unwrap_or(0)];
        let read = file.segments.read_at(page, &mut file.tail)?;
        if read != file.tail.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if end < file.length {
            file.tail.clear();
        }
        Ok(file)
    }

    /// The files.
    pub(super) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Goes on without the closed files that end at that position or before it.
    pub(super) fn forget_before(&mut self, position: u64) {
        self.segments.forget_before(position);
    }

    /// The durable length, in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The length with what is not synced yet, in bytes: where the next append begins.
    pub(super) fn written(&self) -> u64 {
        self.length + self.unsynced
    }

    /// The durable length, and how a start finds it whole.
    pub(super) fn tip(&self) -> Tip {
        Tip {
            end: self.length,
            commit: Some(self.commit),
        }
    }

    /// The position of the last page before `length`, in the last file.
    fn page(&self) -> u64 {
        let start = self.segments.last_start();
        match (self.length - start) % PAGE {
            0 if self.length > start => self.length - PAGE,
            rest => self.length - rest,
        }
    }

    /// Goes on in the next file if a commit of that many bytes does not fit in the last one. From
    /// then on the log is longer: by the first line of the file. What was written to the last one is
    /// synced before.
    ///
    /// # Errors
    /// [`AppendError::NoSpace`] if no file could be made; [`AppendError::Failed`].
    pub(super) fn prepare(&mut self, bytes: u64) -> Result<(), AppendError> {
        if self.segments.room(self.written()) >= bytes {
            return Ok(());
        }
        self.sync()?;
        let size = self.segments.next_size(bytes);
        if !self.maker.is_ready() && self.available() < size - self.maker.made().min(size) {
            return Err(AppendError::NoSpace);
        }
        let next = self.maker.take(size).and_then(|blank| self.segments.begin_next(blank, self.length));
        self.room = None;
        match next {
            Ok(first) => {
                self.begun(first);
                Ok(())
            }
            Err(error) if is_full(&error) => {
                self.is_limited = error.kind() == io::ErrorKind::FileTooLarge;
                Err(AppendError::NoSpace)
            }
            Err(error) => Err(self.fail("next segment", &error)),
        }
    }

    /// The log goes on in a new file, whose first line is durable.
    fn begun(&mut self, first: u64) {
        self.commit = self.segments.last_start();
        (self.length, self.dirty) = (first, first);
        self.tail = self.segments.header().into_bytes();
    }

    /// Writes the bytes at the end and syncs them, with all that was written before.
    /// [`DurableFile::prepare`] has made room for them.
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
    /// can be written anew after a failed one. [`DurableFile::prepare`] has made room for them.
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
        if self.unsynced > 0 {
            self.sync_file()?;
            self.is_synced();
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), AppendError> {
        let at = self.written();
        if self.segments.room(at) < bytes.len() as u64 {
            return Err(self.fail("write", &io::Error::other("no room was made for the records")));
        }
        self.dirty = self.dirty.max(at + bytes.len() as u64);
        if let Err(error) = self.segments.write_at(at, bytes) {
            self.room = None;
            // Of a file system that writes elsewhere than over the zeros.
            if is_full(&error) && self.erase().is_ok() {
                return Err(AppendError::NoSpace);
            }
            return Err(self.fail("write", &error));
        }
        // A write behind the end of a file that was cut makes it longer, but never whole. An error
        // is not a cut; the sync will report it.
        if self.segments.is_cut().is_ok_and(|cut| cut) {
            self.found(Tampering::Cut);
            return Err(AppendError::Cut);
        }
        Ok(())
    }

    fn sync_file(&mut self) -> Result<(), AppendError> {
        let begun = Instant::now();
        self.segments.sync().map_err(|error| self.fail("sync", &error))?;
        self.sync_seconds.record(begun.elapsed());
        Ok(())
    }

    /// All that was written is on the disk now.
    fn is_synced(&mut self) {
        if self.unsynced > 0 {
            self.commit = self.length;
        }
        self.length = self.written();
        self.unsynced = 0;
        let keep = (self.length - self.page()) as usize;
        self.tail.drain(..self.tail.len().saturating_sub(keep));
    }

    /// Compares the files with what was written: their paths, links, lengths. Returns what is
    /// wrong, until it is brought back.
    pub(super) fn look(&mut self) -> Option<Tampering> {
        if self.tampered.is_none() {
            match self.segments.look() {
                Ok(None) => {}
                Ok(Some(tampering)) => self.found(tampering),
                Err(error) => drop(self.fail("look", &error)),
            }
        }
        self.tampered
    }

    fn found(&mut self, tampering: Tampering) {
        let what = tampering.as_str();
        match tampering {
            Tampering::FolderMoved => tracing::error!(
                "the data folder was moved away or replaced: the audit log takes no record until the folder is at its path again. Move it back, \
                 or stop this gateway"
            ),
            Tampering::Removed | Tampering::Moved | Tampering::Cut => tracing::error!(
                what,
                "a file of the audit log was changed by something else than the gateway; the gateway brings it back and must not be stopped until then"
            ),
        }
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

    /// Begins the pause after a failure: what is wrong cannot be mended now.
    pub(super) fn put_off(&mut self) {
        self.failed = Some(Instant::now());
    }

    /// Ends the pauses after failures, because the file is about to be closed.
    pub(super) fn stop_pausing(&mut self) {
        self.retry_after = Duration::ZERO;
    }

    /// Puts all that the open files still have of the log in its place, and returns the parts
    /// that are gone. Their skips are not written yet. Reads from the first file that was cut on.
    ///
    /// # Errors
    /// [`AppendError::Failed`]: it must be tried again.
    pub(super) fn bring_back(&mut self) -> Result<Vec<Lost>, AppendError> {
        let brought = self.try_bring_back();
        let lost = brought.map_err(|error| self.fail("bring back", &error))?;
        self.failed = None;
        self.tampered = None;
        if lost.is_empty() {
            self.segments.losses_are_marked();
        }
        Ok(lost)
    }

    fn try_bring_back(&mut self) -> io::Result<Vec<Lost>> {
        let cut = self.segments.bring_back(self.written())?;
        self.rewrite_tail()?;
        match cut {
            Some(cut) => find_losses(&self.segments, cut.start, cut.end),
            None => Ok(Vec::new()),
        }
    }

    /// Writes the skips of lost parts.
    ///
    /// # Errors
    /// [`AppendError::Failed`]; what is left of the log is durable.
    pub(super) fn mark_lost(&mut self, lost: &[Lost]) -> Result<(), AppendError> {
        let marked = lost
            .iter()
            .try_for_each(|lost| self.segments.write_at(lost.from.get(), &frame::skip(*lost)))
            .and_then(|()| self.segments.sync());
        marked.map_err(|error| {
            self.tampered = Some(Tampering::Cut);
            self.fail("mark lost", &error)
        })?;
        if let Some(lost) = lost.iter().find(|lost| lost.contains(self.commit)) {
            self.commit = lost.from.get();
        }
        self.segments.losses_are_marked();
        Ok(())
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

    /// Writes the last durable page again, what was not synced yet, and zeros behind that, and syncs
    /// them.
    fn rewrite_tail(&mut self) -> io::Result<()> {
        let page = self.written() - self.tail.len() as u64;
        self.segments.write_at(page, &self.tail)?;
        self.erase()
    }

    /// Writes zeros where an append failed, and syncs all that was written.
    fn erase(&mut self) -> io::Result<()> {
        let end = self.written();
        let zeros = vec![0; self.dirty.saturating_sub(end).min(STEP) as usize];
        let mut at = end;
        while at < self.dirty {
            let step = (self.dirty - at).min(STEP);
            self.segments.write_at(at, &zeros[..step as usize])?;
            at += step;
        }
        self.segments.sync()?;
        self.dirty = end;
        self.is_synced();
        Ok(())
    }

    fn fail(&mut self, what: &'static str, error: &io::Error) -> AppendError {
        tracing::error!(%error, what, "the audit log's file failed");
        metrics::counter!("claviger_audit_file_failures_total", "what" => what).increment(1);
        self.failed = Some(Instant::now());
        AppendError::Failed
    }

    /// Whether the disk has `need` free bytes beside the whole reserve, and beside the next file if
    /// it is needed soon. Begins to make both ahead of need.
    pub(super) fn has_room(&mut self, need: u64) -> bool {
        if self.is_limited {
            // Until one can be made.
            self.maker.begin(self.segments.next_size(0));
            self.is_limited = !self.maker.is_ready();
            if self.is_limited {
                return false;
            }
        }
        let missing = self.reserve.missing();
        let next = match self.maker.is_ready() {
            true => 0,
            false => self.segments.next_size(0).saturating_sub(self.maker.made()),
        };
        let soon = if self.segments.room(self.written()) < need { next } else { 0 };
        let is_enough = |room: &Room| room.looked.elapsed() < ROOM_EVERY && room.left >= need + missing + soon;
        if !self.room.as_ref().is_some_and(is_enough) {
            let left = self.available();
            let looked = Instant::now();
            self.room = Some(Room { left, looked });
            if left < need + missing + soon {
                return false;
            }
        }
        let left = self.room.as_ref().map_or(0, |room| room.left);
        self.reserve.begin(left.saturating_sub(need + next));
        if next > 0 && self.segments.is_half_full(self.written()) && left >= need + missing + next {
            self.maker.begin(self.segments.next_size(0));
        }
        // Once it was used, revocations must be able to use it again before others go on.
        !self.reserve.is_used()
    }

    /// How long the disk takes ordinary records at the log's recent growth, if `floor` bytes and the whole
    /// reserve are kept free. `None` if that is not known, or the log did not grow. To be called every second or so.
    pub(super) fn lasts(&mut self, floor: u64) -> Option<Duration> {
        self.growth.add(self.written(), Instant::now());
        let kept = floor + self.reserve.missing();
        let left = self.room.as_ref()?.left;
        if left <= kept || self.reserve.is_used() {
            // No ordinary record is taken, although the file's own room is left for revocations.
            return self.growth.lasts(0);
        }
        self.growth
            .lasts(left - kept + self.segments.room(self.written()) + self.maker.made())
    }

    /// Makes the next [`DurableFile::has_room`] look at the disk.
    pub(super) fn forget_room(&mut self) {
        self.room = None;
    }

    /// Makes the reserve the next file, if there is one, after what was written to the last one is
    /// synced. Returns whether the log goes on in it.
    pub(super) fn give_up_reserve(&mut self) -> bool {
        if self.sync().is_err() {
            return false;
        }
        let begun = match self.reserve.give_up() {
            Ok(Some(blank)) => self.segments.begin_next(blank, self.length),
            Ok(None) => return false,
            Err(error) => Err(error),
        };
        if let Err(error) = &begun {
            self.fail("disk reserve", error);
        }
        begun.map(|first| self.begun(first)).is_ok()
    }

    fn available(&self) -> u64 {
        self.segments.available_space().unwrap_or_else(|error| {
            tracing::warn!(%error, "the audit log cannot read the free disk space and treats the disk as full");
            0
        })
    }
}
