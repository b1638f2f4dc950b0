//! Group commit: one thread owns the file and makes all records durable.
//!
//! The thread takes whatever was queued during the last sync, writes it once, syncs once and
//! answers all callers. There is no timer. Sequence numbers are assigned here, and count only
//! once the sync succeeded, so a refused record leaves no gap.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::batch::Batch;
use super::durable_file::{AppendError, DurableFile};
use super::fields::Window;
use super::frame;
use super::health::{Condition, Gap, Reason, Shared, count_refusal};
use super::index::{IndexWriter, Standing};
use super::observer::{Commit, CommitObserver};
use super::origin::Origin;
use super::queue::{Job, Message, Refusal, Written};
use super::record::Record;
use super::scalar::{Number, Timestamp};
use super::stamp::Stamped;
use super::state::State;

/// The most messages of one commit.
const MAX_MESSAGES: usize = 4096;

/// How often the file is compared with what was written to it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The greatest length of the frame of a `restarted` record that reports a gap, in bytes.
const MAX_RESTARTED: u64 = 1024;

/// A record whose caller was refused, and that is still to be written.
pub(super) struct Deferred {
    pub(super) record: Stamped,
    /// Whether the disk reserve may be used for it.
    pub(super) reserve: bool,
}

/// The state of the log's thread.
pub(super) struct GroupCommit {
    file: DurableFile,
    origin: Origin,
    /// The least free space of the file system, beside the reserve, in bytes
    /// ([`super::Options::floor_bytes`]).
    floor_bytes: u64,
    shared: Arc<Shared>,
    state: State,
    index: IndexWriter,
    observers: Vec<Box<dyn CommitObserver>>,
    deferred: VecDeque<Deferred>,
    /// When the file was last compared with what was written; `None` if it is due.
    looked: Option<Instant>,
    /// When it was last found sound.
    sound: Timestamp,
    /// Empty between commits; it and the batch keep their memory.
    jobs: Vec<Job>,
    batch: Batch,
}

/// The arguments of [`GroupCommit::new`].
pub(super) struct Parts {
    pub(super) file: DurableFile,
    pub(super) origin: Origin,
    pub(super) floor_bytes: u64,
    pub(super) shared: Arc<Shared>,
    /// The state at the end of the file.
    pub(super) state: State,
    pub(super) index: IndexWriter,
    pub(super) observers: Vec<Box<dyn CommitObserver>>,
    /// The records of an unclean stop and of lost parts: the first ones to be written.
    pub(super) first: Vec<Stamped>,
}

impl GroupCommit {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            file,
            origin,
            floor_bytes,
            shared,
            state,
            index,
            observers,
            first,
        } = parts;
        let deferred: VecDeque<_> = first.into_iter().map(|record| Deferred { record, reserve: true }).collect();
        shared.deferred.fetch_add(deferred.len(), Ordering::AcqRel);
        Self {
            file,
            origin,
            floor_bytes,
            shared,
            state,
            index,
            observers,
            deferred,
            looked: None,
            sound: Timestamp::now(),
            jobs: Vec::new(),
            batch: Batch::default(),
        }
    }

    /// Runs until the log is closed or its last handle is dropped.
    pub(super) fn run(mut self, mut messages: mpsc::UnboundedReceiver<Message>) {
        let mut taken = Vec::new();
        let mut closing = Vec::new();
        // Write the deferred record of a restart, even if no message comes.
        self.process(&mut taken, &mut closing);
        while messages.blocking_recv_many(&mut taken, MAX_MESSAGES) > 0 {
            self.process(&mut taken, &mut closing);
            if !closing.is_empty() {
                messages.close();
                while messages.blocking_recv_many(&mut taken, MAX_MESSAGES) > 0 {
                    self.process(&mut taken, &mut closing);
                }
                self.close();
                // Close the file, and release its lock, before the callers of `close` return.
                drop(self);
                for closed in closing {
                    let _ = closed.send(());
                }
                return;
            }
        }
    }

    fn process(&mut self, taken: &mut Vec<Message>, closing: &mut Vec<oneshot::Sender<()>>) {
        let mut jobs = std::mem::take(&mut self.jobs);
        for message in taken.drain(..) {
            match message {
                Message::Append(job) => jobs.push(job),
                Message::Check => {
                    self.shared.check_queued.store(false, Ordering::Release);
                    self.looked = None;
                    self.file.forget_room();
                }
                Message::Close(closed) => closing.push(closed),
            }
        }
        self.shared.set_busy(true);
        self.commit(&mut jobs);
        self.shared.set_busy(false);
        self.jobs = jobs;
        self.index.update(&self.origin, &self.state, self.file.tip());
    }

    /// Writes the jobs, or refuses those that cannot be written. None is left.
    fn commit(&mut self, jobs: &mut Vec<Job>) {
        if let Err(reason) = self.make_ready() {
            return self.refuse(jobs.drain(..), reason);
        }
        // After the disk was full, wait for twice the floor. Otherwise the condition would change
        // back and forth.
        let floors = if self.shared.condition() == Condition::DiskFull { 2 } else { 1 };
        let need = self.bytes(jobs, false) + floors * self.floor_bytes;
        if self.file.has_room(need) {
            let mut written = self.write(jobs, false);
            if written == Err(AppendError::Cut) {
                if let Err(reason) = self.make_ready() {
                    return self.refuse(jobs.drain(..), reason);
                }
                written = self.write(jobs, false);
            }
            match written {
                Ok(()) => return self.set_condition(Condition::Sound),
                Err(AppendError::Failed | AppendError::Cut) => return self.fail(jobs.drain(..)),
                Err(AppendError::NoSpace) => {}
            }
        }
        self.set_condition(Condition::DiskFull);
        let (mut urgent, rest): (Vec<_>, Vec<_>) = jobs.drain(..).partition(|job| job.class.reserve);
        self.refuse(rest, Reason::DiskFull);
        loop {
            match self.write(&mut urgent, true) {
                Ok(()) => return,
                Err(AppendError::NoSpace) => {
                    if !self.file.give_up_reserve() {
                        return self.refuse(urgent, Reason::DiskFull);
                    }
                }
                Err(AppendError::Failed | AppendError::Cut) => return self.fail(urgent),
            }
        }
    }

    /// Repairs the file if it needs it. Compares it with what was written, once a second, and
    /// brings back what something else removed.
    ///
    /// # Errors
    /// Why nothing can be written now.
    fn make_ready(&mut self) -> Result<(), Reason> {
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        // Before a repair, which would give a file that was cut its length back.
        if due || self.file.is_suspect() {
            self.looked = Some(Instant::now());
            if self.file.look().is_some() {
                self.bring_back()?;
            }
            if !self.file.is_suspect() {
                self.sound = Timestamp::now();
            }
        }
        self.file.repair().map_err(|_| Reason::WriteFailed)
    }

    /// Brings back what the open file still has, and reports what it has not.
    fn bring_back(&mut self) -> Result<(), Reason> {
        self.set_condition(Condition::LogLost);
        if !self.file.may_retry() {
            return Err(Reason::LogLost);
        }
        // A crash from here on must not make a lost part look like a torn end.
        self.write_index(Standing::Broken);
        let found = self.file.bring_back().map_err(|_| Reason::LogLost)?;
        let window = Window {
            from: self.sound,
            to: Timestamp::now(),
        };
        for lost in found.into_iter().rev() {
            let report = Record::log_lost(&self.origin, lost, window).stamp().ok();
            if let (true, Some(record)) = (self.state.lose(lost), report) {
                self.deferred.push_front(Deferred { record, reserve: true });
                self.shared.deferred.fetch_add(1, Ordering::AcqRel);
            }
        }
        // Those of an earlier try, too: it may have failed before they were on the disk.
        let lost: Vec<_> = self.state.unreported().collect();
        if !lost.is_empty() {
            tracing::error!(?lost, "parts of the audit log are lost");
            self.write_index(Standing::Broken);
            self.file.mark_lost(&lost).map_err(|_| Reason::LogLost)?;
        }
        self.write_index(Standing::InUse);
        tracing::warn!("the audit log's file is in its place again");
        Ok(())
    }

    fn write_index(&mut self, standing: Standing) {
        self.index.write(&self.origin, &self.state, self.file.tip(), standing);
    }

    /// The length of the frames of the jobs and of the deferred records, in bytes.
    /// `reserve_only`: of the deferred ones, only those that may use the reserve.
    fn bytes(&self, jobs: &[Job], reserve_only: bool) -> u64 {
        let deferred = self.deferred.iter().filter(|deferred| deferred.reserve || !reserve_only);
        let records = jobs
            .iter()
            .flat_map(|job| &job.records)
            .chain(deferred.map(|deferred| &deferred.record));
        records.map(|record| (frame::PREFIX + record.len()) as u64).sum()
    }

    /// Makes the jobs and the deferred records durable, and answers the jobs. After an error
    /// they are all unchanged. `reserve_only`: of the deferred ones, only those that may use
    /// the reserve.
    fn write(&mut self, jobs: &mut Vec<Job>, reserve_only: bool) -> Result<(), AppendError> {
        let need = self.bytes(jobs, reserve_only);
        if reserve_only && need == 0 {
            return Ok(());
        }
        // Before the positions are given: a commit never spans two files.
        self.file.prepare(need + MAX_RESTARTED)?;
        self.batch.begin(self.file.length());
        // Once the log is sound again, its first record reports the lost ones.
        let gap = if reserve_only { None } else { self.shared.take_gap() };
        if let Some(record) = gap.and_then(|gap| self.restarted(gap)) {
            self.batch.push(&record, &self.state);
        }
        for deferred in &self.deferred {
            if deferred.reserve || !reserve_only {
                self.batch.push(&deferred.record, &self.state);
            }
        }
        let before_jobs = self.batch.frames().len();
        for record in jobs.iter().flat_map(|job| &job.records) {
            self.batch.push(record, &self.state);
        }
        if self.batch.frames().is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.append(self.batch.bytes()) {
            if let Some(gap) = gap {
                self.shared.return_gap(gap);
            }
            return Err(error);
        }
        let all = self.deferred.len();
        self.deferred.retain(|deferred| reserve_only && !deferred.reserve);
        self.shared.deferred.fetch_sub(all - self.deferred.len(), Ordering::AcqRel);
        self.batch.apply(&mut self.state);
        self.answer(jobs, before_jobs);
        let commit = Commit::new(&self.batch);
        for observer in &mut self.observers {
            observer.committed(&commit);
        }
        Ok(())
    }

    /// Answers the jobs, whose records begin at that index of the batch's frames.
    fn answer(&self, jobs: &mut Vec<Job>, before_jobs: usize) {
        let mut positions = self.batch.frames()[before_jobs..].iter().map(|frame| frame.at);
        for mut job in jobs.drain(..) {
            if job.class.refusal == Refusal::Deferred {
                self.shared.deferred.fetch_sub(job.records.len(), Ordering::AcqRel);
            }
            job.positions.extend(positions.by_ref().take(job.records.len()));
            let written = Written {
                records: job.records,
                positions: job.positions,
            };
            // A caller that stopped waiting has its record all the same.
            let _ = job.result.map(|result| result.send(Ok(written)));
            drop(job.permit);
        }
    }

    /// The record that reports lost records.
    fn restarted(&self, gap: Gap) -> Option<Stamped> {
        let window = Window {
            from: gap.since,
            to: Timestamp::now(),
        };
        let mut record = Record::restarted(&self.origin, gap.cause, window);
        record.unrecorded = Some(Number::saturating(gap.records));
        record.stamp().ok()
    }

    /// A write or sync failed: refuses the jobs.
    fn fail(&mut self, jobs: impl IntoIterator<Item = Job>) {
        self.set_condition(Condition::WriteFailed);
        self.refuse(jobs, Reason::WriteFailed);
    }

    fn refuse(&mut self, jobs: impl IntoIterator<Item = Job>, reason: Reason) {
        for job in jobs {
            match job.class.refusal {
                Refusal::Lost => self.shared.add_gap(job.records.len() as u64, reason),
                Refusal::Harmless => {}
                Refusal::Deferred => {
                    let reserve = job.class.reserve;
                    self.deferred
                        .extend(job.records.into_iter().map(|record| Deferred { record, reserve }));
                }
            }
            count_refusal(reason);
            let _ = job.result.map(|result| result.send(Err(reason)));
        }
    }

    fn set_condition(&self, condition: Condition) {
        let before = self.shared.set_condition(condition);
        if before != condition {
            tracing::warn!(?before, now = ?condition, "the audit log's condition changed");
        }
    }

    /// Writes the last sidecar. It says `clean` only if every record was written.
    fn close(&mut self) {
        let all_written = self.deferred.is_empty() && self.shared.take_gap().is_none();
        // The last chance: what only the open file has is gone once it is closed.
        self.looked = None;
        self.file.stop_pausing();
        let sound = self.make_ready();
        let all_written = all_written && self.deferred.is_empty();
        self.write_index(match sound {
            Ok(()) if all_written => Standing::Clean,
            Ok(()) | Err(Reason::WriteFailed) => Standing::InUse,
            Err(_) => Standing::Broken,
        });
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.shared.set_condition(Condition::Closed);
    }
}
