//! The one thread that owns the file.
//!
//! It takes whatever queued while the last sync ran, writes it once, syncs once and
//! answers all: group commit without a timer. Numbers are given here, and kept only once
//! the sync succeeded, so a refused record leaves no hole.
//!
//! **After a failed write or sync** the page cache says nothing about the disk any more:
//! the kernel may have marked the pages clean, so that a second `fdatasync` on the same
//! data would succeed without having written it. The same data is therefore never synced
//! again. The commit is refused as a whole; before the next one the file is cut back to
//! the last durable length, its last page is written anew from memory, and only when the
//! sync of that succeeds does the log go on. A record that was refused may so stand in the
//! file after a crash; one that was acknowledged is never missing.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use claviger_provider::TenantId;

use super::fields::{Number, Origin, Position, Timestamp, Window};
use super::file::LogFile;
use super::frame;
use super::health::{Condition, Reason, Shared};
use super::index::{self, Index, State};
use super::log::Options;
use super::record::{Record, Role, Stamped};

/// What becomes of a record that the log refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is lost; the next `restarted` record counts it.
    Lost,
    /// Nothing is lost: nothing has happened yet, or the caller keeps it.
    Harmless,
    /// It is kept, and written when the log is able to.
    Deferred,
}

/// How a record is treated when the log is not sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class {
    /// It may be written into the room of the disk reserve.
    pub(super) reserve: bool,
    pub(super) refusal: Refusal,
}

/// Number and place of a durable record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub(super) sequence: u64,
    pub(super) position: Position,
}

/// What the writer answers a job with.
pub(super) type Answer = Result<Written, Reason>;

/// Durable records and their places, in the same order. The records go back to the thread that
/// made them: memory that the writer freed would be contended for with everybody who records.
pub(super) struct Written {
    pub(super) records: Vec<Stamped>,
    pub(super) spots: Vec<LogPosition>,
}

/// Records that are written together, all or none.
pub(super) struct Job {
    pub(super) records: Vec<Stamped>,
    /// Room for their places, made by the caller as the records are.
    pub(super) spots: Vec<LogPosition>,
    pub(super) class: Class,
    pub(super) answer: Option<oneshot::Sender<Answer>>,
    /// Room in the queue, given back when the job is done.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// What the writer is told.
pub(super) enum Message {
    Append(Job),
    /// Look whether what was wrong still is.
    Check,
    /// Write what has queued, then the sidecar, and end.
    Close(oneshot::Sender<()>),
}

/// Counts an append that was answered without a receipt.
pub(super) fn count_refusal(reason: Reason) {
    metrics::counter!("claviger_audit_refused_total", "reason" => reason.as_str()).increment(1);
}

/// At most this many messages are taken at once.
const MOST_MESSAGES: usize = 4096;

/// Unit in which the file's last bytes are kept in memory, to write them anew: a page.
const PAGE: u64 = 4096;

/// The reserve is given up in steps of at least this many bytes.
const RESERVE_STEP: u64 = 1 << 20;

/// Why a commit did not come to be.
enum Broken {
    /// There was no room; the file is as before.
    Space,
    /// The file's state is unknown.
    File,
}

/// A record that was encoded into the commit under way.
struct Encoded {
    tenant: TenantId,
    role: Role,
    time: Timestamp,
    spot: LogPosition,
}

pub(super) struct Writer {
    file: Box<dyn LogFile>,
    origin: Origin,
    options: Options,
    shared: Arc<Shared>,
    index: Index,
    state: State,
    /// Everything before this place is on the disk.
    durable: u64,
    /// The bytes from the last page's begin to `durable`.
    tail: Vec<u8>,
    /// Records whose callers were refused and that are still to be written, with whether
    /// they may use the reserve.
    waiting: VecDeque<(Stamped, bool)>,
    /// How much of the reserve is held.
    held: u64,
    failed_at: Instant,
    summed_up: u64,
    summing_up: Option<JoinHandle<()>>,
    // Kept between commits for their memory alone.
    buffer: Vec<u8>,
    encoded: Vec<Encoded>,
    ahead: HashMap<TenantId, u64>,
}

impl Writer {
    /// Takes the file over; all of it is durable and holds whole frames only.
    ///
    /// # Errors
    /// What reading the last page failed with.
    pub(super) fn new(
        mut file: Box<dyn LogFile>,
        origin: Origin,
        options: Options,
        shared: Arc<Shared>,
        index: Index,
        state: State,
        restarted: Option<Stamped>,
    ) -> io::Result<Self> {
        let durable = file.len()?;
        let page = durable - durable % PAGE;
        let mut tail = vec![0; usize::try_from(durable - page).unwrap_or(0)];
        let read = file.read_at(page, &mut tail)?;
        if read != tail.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let held = match file.hold_reserve(options.reserve_bytes) {
            Ok(()) => options.reserve_bytes,
            Err(error) => {
                tracing::error!(%error, "the audit log's disk reserve cannot be held");
                0
            }
        };
        shared.following.fetch_add(usize::from(restarted.is_some()), Ordering::AcqRel);
        Ok(Self {
            file,
            origin,
            shared,
            index,
            state,
            durable,
            tail,
            waiting: restarted.map(|record| (record, true)).into_iter().collect(),
            held,
            failed_at: Instant::now(),
            summed_up: durable,
            summing_up: None,
            buffer: Vec::new(),
            encoded: Vec::new(),
            ahead: HashMap::new(),
            options,
        })
    }

    /// The thread's work, until the log is closed or nobody holds it any more.
    pub(super) fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        let mut taken = Vec::new();
        let mut closing = Vec::new();
        self.work(&mut taken, &mut closing);
        while messages.blocking_recv_many(&mut taken, MOST_MESSAGES) > 0 {
            self.work(&mut taken, &mut closing);
            if !closing.is_empty() {
                messages.close();
                while messages.blocking_recv_many(&mut taken, MOST_MESSAGES) > 0 {
                    self.work(&mut taken, &mut closing);
                }
                self.close();
                // The file, and with it the lock, goes before anybody hears of the end.
                drop(self);
                for answer in closing {
                    let _ = answer.send(());
                }
                return;
            }
        }
    }

    fn work(&mut self, taken: &mut Vec<Message>, closing: &mut Vec<oneshot::Sender<()>>) {
        let mut jobs = Vec::with_capacity(taken.len());
        for message in taken.drain(..) {
            match message {
                Message::Append(job) => jobs.push(job),
                Message::Check => self.shared.check_asked.store(false, Ordering::Release),
                Message::Close(answer) => closing.push(answer),
            }
        }
        self.shared.set_busy(true);
        self.commit(jobs);
        self.shared.set_busy(false);
        self.sum_up();
    }

    fn commit(&mut self, mut jobs: Vec<Job>) {
        if self.shared.condition() == Condition::WriteFailed && !self.repair() {
            return self.refuse(jobs, Reason::WriteFailed);
        }
        if self.has_room(&jobs) {
            match self.write(&mut jobs, false) {
                Ok(()) => return self.turn(Condition::Sound),
                Err(Broken::File) => return self.refuse(jobs, Reason::WriteFailed),
                Err(Broken::Space) => {}
            }
        }
        self.turn(Condition::DiskFull);
        let (mut urgent, rest): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.class.reserve);
        self.refuse(rest, Reason::DiskFull);
        let reason = loop {
            match self.write(&mut urgent, true) {
                Ok(()) => return,
                Err(Broken::Space) if self.give_up_reserve(&urgent) => {}
                Err(Broken::Space) => break Reason::DiskFull,
                Err(Broken::File) => break Reason::WriteFailed,
            }
        };
        self.refuse(urgent, reason);
    }

    /// Whether everything can be written with the reserve whole afterwards.
    fn has_room(&mut self, jobs: &[Job]) -> bool {
        // Once it was full, it is so until there is clearly more, lest it turn to and fro.
        let floors = if self.shared.condition() == Condition::DiskFull { 2 } else { 1 };
        let need = self.bytes(jobs, false) + floors * self.options.floor_bytes;
        let available = self.available();
        let missing = self.options.reserve_bytes.saturating_sub(self.held);
        if available < need + missing {
            return false;
        }
        if missing > 0 {
            if self.file.hold_reserve(self.options.reserve_bytes).is_err() {
                return false;
            }
            self.held = self.options.reserve_bytes;
        }
        true
    }

    /// Makes room for urgent records out of the reserve; whether there was any left.
    fn give_up_reserve(&mut self, urgent: &[Job]) -> bool {
        let left = self.held.saturating_sub(RESERVE_STEP.max(2 * self.bytes(urgent, true)));
        match self.file.hold_reserve(left) {
            Ok(()) => std::mem::replace(&mut self.held, left) > left,
            Err(error) => {
                tracing::error!(%error, "the audit log's disk reserve cannot be given up");
                false
            }
        }
    }

    fn available(&self) -> u64 {
        self.file.available_space().unwrap_or_else(|error| {
            tracing::warn!(%error, "the audit log cannot see how full the disk is, and takes it for full");
            0
        })
    }

    fn bytes(&self, jobs: &[Job], reserve_only: bool) -> u64 {
        let waiting = self
            .waiting
            .iter()
            .filter(|(_, reserve)| *reserve || !reserve_only)
            .map(|(record, _)| record);
        let all = jobs.iter().flat_map(|job| &job.records).chain(waiting);
        all.map(|record| (frame::PREFIX + record.len()) as u64).sum()
    }

    /// Writes and syncs the jobs and what waits, and answers the jobs; on an error they are
    /// all still there. `reserve_only`: of what waits, only what may use the reserve.
    fn write(&mut self, jobs: &mut Vec<Job>, reserve_only: bool) -> Result<(), Broken> {
        self.buffer.clear();
        self.encoded.clear();
        self.ahead.clear();
        // What was lost is told once the log is sound again, and before anything else.
        let gap = if reserve_only { None } else { self.shared.take_gap() };
        let told = gap.and_then(|gap| {
            let window = Window {
                from: gap.since,
                to: Timestamp::now(),
            };
            let mut record = Record::restarted(&self.origin, gap.cause, window);
            record.unrecorded = Some(Number::saturating(gap.records));
            record.stamp().ok()
        });
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(record) = &told {
            self.encode(record);
        }
        for (record, reserve) in &waiting {
            if *reserve || !reserve_only {
                self.encode(record);
            }
        }
        let before_jobs = self.encoded.len();
        for record in jobs.iter().flat_map(|job| &job.records) {
            self.encode(record);
        }
        let written = if self.buffer.is_empty() { Ok(()) } else { self.make_durable() };
        if let Err(broken) = written {
            self.waiting = waiting;
            if let Some(gap) = gap {
                self.shared.return_gap(gap);
            }
            return Err(broken);
        }
        let all = waiting.len();
        self.waiting = waiting.into_iter().filter(|(_, reserve)| reserve_only && !reserve).collect();
        self.shared.following.fetch_sub(all - self.waiting.len(), Ordering::AcqRel);
        for done in &self.encoded {
            self.state
                .add(done.tenant, done.spot.sequence, done.role, done.spot.position, done.time);
        }
        let mut spots = self.encoded[before_jobs..].iter().map(|done| done.spot);
        for mut job in jobs.drain(..) {
            if job.class.refusal == Refusal::Deferred {
                self.shared.following.fetch_sub(job.records.len(), Ordering::AcqRel);
            }
            job.spots.extend(spots.by_ref().take(job.records.len()));
            let written = Written {
                records: job.records,
                spots: job.spots,
            };
            // A caller that no longer waits has its record all the same.
            let _ = job.answer.map(|answer| answer.send(Ok(written)));
            drop(job.permit);
        }
        Ok(())
    }

    fn encode(&mut self, record: &Stamped) {
        let next = self.ahead.entry(record.tenant).or_insert_with(|| self.state.next(record.tenant));
        let spot = LogPosition {
            sequence: *next,
            position: Position(self.durable + self.buffer.len() as u64),
        };
        *next += 1;
        frame::put(&mut self.buffer, self.encoded.is_empty(), record, spot.sequence);
        self.encoded.push(Encoded {
            tenant: record.tenant,
            role: record.role,
            time: record.time,
            spot,
        });
    }

    fn make_durable(&mut self) -> Result<(), Broken> {
        if let Err(error) = self.file.write_at(self.durable, &self.buffer) {
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if full && self.file.truncate(self.durable).is_ok() {
                return Err(Broken::Space);
            }
            return Err(self.fail("write", &error));
        }
        let begun = Instant::now();
        if let Err(error) = self.file.sync() {
            return Err(self.fail("sync", &error));
        }
        metrics::histogram!("claviger_audit_sync_seconds").record(begun.elapsed());
        metrics::histogram!("claviger_audit_commit_records").record(self.encoded.len() as f64);
        metrics::counter!("claviger_audit_records_total").increment(self.encoded.len() as u64);
        metrics::counter!("claviger_audit_bytes_total").increment(self.buffer.len() as u64);
        self.durable += self.buffer.len() as u64;
        self.tail
            .extend_from_slice(&self.buffer[self.buffer.len().saturating_sub(PAGE as usize)..]);
        let keep = (self.durable % PAGE) as usize;
        self.tail.drain(..self.tail.len().saturating_sub(keep));
        Ok(())
    }

    fn fail(&mut self, what: &'static str, error: &io::Error) -> Broken {
        tracing::error!(%error, what, "the audit log's file failed");
        metrics::counter!("claviger_audit_file_failures_total", "what" => what).increment(1);
        self.failed_at = Instant::now();
        self.turn(Condition::WriteFailed);
        Broken::File
    }

    /// Secures what was durable before a failure; see the module's page.
    fn repair(&mut self) -> bool {
        if self.failed_at.elapsed() < self.options.retry_after {
            return false;
        }
        let page = self.durable - self.tail.len() as u64;
        let secured = self
            .file
            .truncate(self.durable)
            .and_then(|()| self.file.write_at(page, &self.tail))
            .and_then(|()| self.file.sync());
        match secured {
            Ok(()) => true,
            Err(error) => {
                self.fail("repair", &error);
                false
            }
        }
    }

    fn refuse(&mut self, jobs: Vec<Job>, reason: Reason) {
        for job in jobs {
            match job.class.refusal {
                Refusal::Lost => self.shared.add_gap(job.records.len() as u64, reason),
                Refusal::Harmless => {}
                Refusal::Deferred => self
                    .waiting
                    .extend(job.records.into_iter().map(|record| (record, job.class.reserve))),
            }
            count_refusal(reason);
            let _ = job.answer.map(|answer| answer.send(Err(reason)));
        }
    }

    fn turn(&self, condition: Condition) {
        let before = self.shared.set_condition(condition);
        if before != condition {
            tracing::warn!(?before, now = ?condition, "the audit log's condition changed");
        }
    }

    /// Writes the sidecar beside the thread's work, once enough was written since the last.
    fn sum_up(&mut self) {
        if self.durable - self.summed_up < self.options.snapshot_bytes
            || self.summing_up.as_ref().is_some_and(|thread| !thread.is_finished())
        {
            return;
        }
        self.summed_up = self.durable;
        let bytes = index::encode(&self.origin, &self.state, self.durable, false);
        let index = self.index.clone();
        self.summing_up = Some(std::thread::spawn(move || {
            if let Err(error) = index.write(&bytes) {
                tracing::warn!(%error, "the audit log's sidecar cannot be written; the next start reads more");
            }
        }));
    }

    /// The end in good order: only where everything is written does the sidecar say so.
    fn close(&mut self) {
        if let Some(thread) = self.summing_up.take() {
            let _ = thread.join();
        }
        let told = self.waiting.is_empty() && self.shared.take_gap().is_none();
        let clean = told && self.shared.condition() != Condition::WriteFailed;
        let bytes = index::encode(&self.origin, &self.state, self.durable, clean);
        if let Err(error) = self.index.write(&bytes) {
            tracing::warn!(%error, "the audit log's sidecar cannot be written; the next start reads more");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.set_condition(Condition::Closed);
    }
}
