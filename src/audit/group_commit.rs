//! Group commit: one thread owns the file and makes all records durable.
//!
//! The thread takes the commit that the callers filled during the last sync, writes it at once,
//! syncs once and answers all callers. There is no timer. With [`super::Durability::ProcessCrash`] the
//! callers are answered after the write, and a sync follows ([`WrittenLog`]).

mod keeping;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use claviger_provider::TenantId;

use super::batch::{Batch, Encoded};
use super::class::{Class, Refusal};
use super::completion::{Completion, Done, LogPosition};
use super::durable_file::{AppendError, DurableFile};
use super::fields::Window;
use super::frame;
use super::health::{Condition, Gap, Reason, Shared, count_refusal};
use super::index::{IndexWriter, Standing};
use super::observer::CommitObserver;
use super::options::Options;
use super::origin::Origin;
use super::queue::{EndQueue, Queue, Taken};
use super::record::Record;
use super::scalar::{Number, Timestamp};
use super::stamp::{Stamped, Unnumbered};
use super::state::State;
use super::written_log::WrittenLog;

/// How often the file is compared with what was written to it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the waiters of a commit wait for the one of them that was woken, before the log's
/// thread, if it has nothing to do, wakes them itself.
const WAKE_AFTER: Duration = Duration::from_millis(1);

/// A record whose caller was refused, and that is still to be written.
pub(super) struct Deferred {
    pub(super) record: Stamped,
    /// Whether the disk reserve may be used for it.
    pub(super) reserve: bool,
}

impl Deferred {
    const fn class(&self) -> Class {
        Class {
            reserve: self.reserve,
            refusal: Refusal::Deferred,
        }
    }
}

/// The record that reports refused ones, and what it reports.
struct Report {
    gap: Gap,
    record: Stamped,
}

/// The state of the log's thread.
pub(super) struct GroupCommit {
    log: WrittenLog,
    origin: Origin,
    options: Options,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    index: IndexWriter,
    deferred: VecDeque<Deferred>,
    /// When the file was last compared with what was written; `None` if it is due.
    looked: Option<Instant>,
    /// When it was last found sound.
    sound: Timestamp,
    /// The last commit, while one of its waiters has to wake the others.
    waking: Option<Arc<Completion>>,
    /// An empty batch, which keeps its memory.
    spare: Batch,
}

/// The arguments of [`GroupCommit::new`].
pub(super) struct Parts {
    pub(super) file: DurableFile,
    pub(super) origin: Origin,
    pub(super) options: Options,
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue>,
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
            options,
            shared,
            queue,
            state,
            index,
            observers,
            first,
        } = parts;
        let deferred: VecDeque<_> = first.into_iter().map(|record| Deferred { record, reserve: true }).collect();
        shared.deferred.fetch_add(deferred.len(), Ordering::AcqRel);
        Self {
            log: WrittenLog::new(file, &options, state, observers),
            origin,
            options,
            shared,
            queue,
            index,
            deferred,
            looked: None,
            sound: Timestamp::now(),
            waking: None,
            spare: Batch::default(),
        }
    }

    /// Runs until the log is closed or its last handle is dropped.
    pub(super) fn run(self) {
        // Dropped after `this`: the file is closed, and its lock released, before the queue ends.
        let _end = EndQueue(self.queue.clone());
        let mut this = self;
        // Write the deferred record of a restart, even if no other record comes.
        this.process(false);
        loop {
            let Some(work) = this.queue.wait(this.wake_at()) else {
                this.wake_rest();
                this.sync_if_due();
                continue;
            };
            this.process(work.check);
            work.tasks.into_iter().for_each(|task| this.answer(task));
            if !work.closing.is_empty() {
                this.close();
                // Close the file, and release its lock, before the callers of `close` return.
                drop(this);
                for closed in work.closing {
                    let _ = closed.send(());
                }
                return;
            }
            if work.abandoned {
                this.wake_rest();
                let _ = this.sync();
                return;
            }
        }
    }

    /// When there is something to do although nothing was queued.
    fn wake_at(&self) -> Option<Instant> {
        let wake = self.waking.as_ref().map(|_| Instant::now() + WAKE_AFTER);
        [self.log.sync_at(), wake].into_iter().flatten().min()
    }

    /// Wakes the waiters of the last commit whom none of them has woken.
    fn wake_rest(&mut self) {
        if let Some(waking) = self.waking.take() {
            waking.wake_all();
        }
    }

    fn process(&mut self, check: bool) {
        if check {
            self.looked = None;
            self.log.file.forget_room();
        }
        self.shared.set_busy(true);
        self.commit();
        self.shared.set_busy(false);
        self.sync_if_due();
        if check {
            self.shared.set_disk_lasts(self.log.file.lasts(self.options.floor_bytes));
        }
        self.log.promote();
        self.index.update(&self.origin, &self.log.state, self.log.file.tip());
    }

    /// Takes the open commit, writes it or refuses what cannot be written, and answers its callers.
    fn commit(&mut self) {
        let ready = self.make_ready();
        // Once the log is sound again, its first record reports the lost ones.
        let gap = if ready.is_ok() { self.shared.take_gap() } else { None };
        let mut report = gap.and_then(|gap| self.restarted(gap));
        let before: Vec<TenantId> = match ready {
            Ok(()) => self.before(report.as_ref(), false).map(|(record, _)| record.about.tenant).collect(),
            Err(_) => Vec::new(),
        };
        let spare = std::mem::take(&mut self.spare);
        let mut taken = self.queue.take(spare, &before, |tenant| self.log.next(tenant));
        let done = ready.and_then(|()| self.write_or_refuse(&mut taken, &mut report));
        let done = done.unwrap_or_else(Done::Refused);
        if let Some(Report { gap, .. }) = report {
            self.shared.return_gap(gap);
        }
        self.keep_refused(&taken.batch, &done);
        if !taken.numbers_used {
            let tenants = before.into_iter().chain(taken.batch.tenants());
            self.queue.give_back(tenants, |tenant| self.log.next(tenant));
        }
        self.queue.give_back_room(&mut taken);
        // The last commit's waiters had all the time of this one.
        self.wake_rest();
        self.waking = taken.promise.complete(done);
        self.spare = taken.batch;
        self.spare.clear();
        self.log.promote();
    }

    /// Repairs the file if it needs it. Compares it with what was written, once a second, and
    /// brings back what something else removed.
    ///
    /// # Errors
    /// Why nothing can be written now.
    fn make_ready(&mut self) -> Result<(), Reason> {
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY);
        // Before a repair, which would give a file that was cut its length back.
        if due || self.log.file.is_suspect() {
            self.looked = Some(Instant::now());
            if self.log.file.look().is_some() {
                self.bring_back()?;
            }
            if !self.log.file.is_suspect() {
                self.sound = Timestamp::now();
            }
        }
        self.log.file.repair().map_err(|_| Reason::WriteFailed)?;
        // What was not synced before a failure was written anew.
        self.log.promote();
        Ok(())
    }

    /// Brings back what the open file still has, and reports what it has not.
    fn bring_back(&mut self) -> Result<(), Reason> {
        self.set_condition(Condition::LogLost);
        if !self.log.file.may_retry() {
            return Err(Reason::LogLost);
        }
        // A crash from here on must not make a lost part look like a torn end, or like a whole one. A file that is as
        // something else left it shows what is missing.
        if !self.write_index(Standing::Broken { behind: false }) {
            self.log.file.put_off();
            return Err(Reason::LogLost);
        }
        let found = self.log.file.bring_back().map_err(|_| Reason::LogLost)?;
        self.log.promote();
        let window = Window {
            from: self.sound,
            to: Timestamp::now(),
        };
        for lost in found.into_iter().rev() {
            let report = Record::log_lost(&self.origin, self.options.durability, lost, window).stamp().ok();
            if let (true, Some(record)) = (self.log.state.lose(lost), report) {
                self.deferred.push_front(Deferred { record, reserve: true });
                self.shared.deferred.fetch_add(1, Ordering::AcqRel);
            }
        }
        // Those of an earlier try, too: it may have failed before they were on the disk.
        let lost: Vec<_> = self.log.state.unreported().collect();
        if !lost.is_empty() {
            tracing::error!(?lost, "parts of the audit log are lost");
            self.write_index(Standing::Broken { behind: false });
            self.shared.add_lost(&lost);
            self.log.file.mark_lost(&lost).map_err(|_| Reason::LogLost)?;
        }
        self.write_index(Standing::InUse);
        tracing::warn!("the audit log's file is in its place again");
        Ok(())
    }

    fn write_index(&mut self, standing: Standing) -> bool {
        self.log.promote();
        self.index.write(&self.origin, &self.log.state, self.log.file.tip(), standing)
    }

    /// The records that are written before the open commit, and how they are treated.
    /// `reserve_only`: those alone that may use the disk reserve.
    fn before<'a>(&'a self, report: Option<&'a Report>, reserve_only: bool) -> impl Iterator<Item = (Unnumbered<'a>, Class)> {
        let report = report.filter(|_| !reserve_only).map(|report| {
            let class = Class {
                reserve: false,
                refusal: Refusal::Harmless,
            };
            (report.record.unnumbered(), class)
        });
        let deferred = self.deferred.iter().filter(move |deferred| deferred.reserve || !reserve_only);
        report
            .into_iter()
            .chain(deferred.map(|deferred| (deferred.record.unnumbered(), deferred.class())))
    }

    /// Writes all records of the commit, or those alone that may use the disk reserve if the disk
    /// is full.
    ///
    /// # Errors
    /// Why none could be written.
    fn write_or_refuse(&mut self, taken: &mut Taken, report: &mut Option<Report>) -> Result<Done, Reason> {
        // After the disk was full, wait for twice the floor. Otherwise the condition would change
        // back and forth.
        let floors = if self.shared.condition() == Condition::DiskFull { 2 } else { 1 };
        let need = self.bytes(&taken.batch, report.as_ref(), false) + floors * self.options.floor_bytes;
        if self.log.file.has_room(need) {
            let mut written = self.write(taken, report);
            if matches!(written, Err(AppendError::Cut)) {
                self.make_ready()?;
                written = self.write(taken, report);
            }
            match written {
                Ok(done) => {
                    self.set_condition(Condition::Sound);
                    return Ok(done);
                }
                Err(AppendError::Failed | AppendError::Cut) => return Err(self.fail()),
                Err(AppendError::NoSpace) => {}
            }
        }
        self.set_condition(Condition::DiskFull);
        loop {
            match self.write_anew(taken, report, true) {
                Ok(done) => return Ok(done),
                Err(AppendError::NoSpace) => {
                    if !self.log.file.give_up_reserve() {
                        return Err(Reason::DiskFull);
                    }
                }
                Err(AppendError::Failed | AppendError::Cut) => return Err(self.fail()),
            }
        }
    }

    /// A write or sync failed.
    fn fail(&self) -> Reason {
        self.set_condition(Condition::WriteFailed);
        Reason::WriteFailed
    }

    /// The greatest length of what is to be written, in bytes.
    fn bytes(&self, batch: &Batch, report: Option<&Report>, reserve_only: bool) -> u64 {
        let before: usize = self.before(report, reserve_only).map(|(record, _)| frame::max_len(record)).sum();
        let frames = batch.frames().iter().filter(|frame| frame.class.reserve || !reserve_only);
        let frames: usize = frames.map(Encoded::len).sum();
        (before + frames) as u64
    }

    /// Writes the commit as the callers filled it; with other records before it, and after a
    /// failure, anew. After an error all is as it was.
    fn write(&mut self, taken: &mut Taken, report: &mut Option<Report>) -> Result<Done, AppendError> {
        if !taken.numbered || report.is_some() || !self.deferred.is_empty() {
            return self.write_anew(taken, report, false);
        }
        if !taken.batch.is_empty() {
            let changes = taken.batch.changes();
            self.log.append(&mut taken.batch, changes)?;
            self.forget_deferred(taken.batch.deferred());
        }
        taken.numbers_used = true;
        let base = taken.batch.base();
        self.log.add(&mut taken.batch);
        Ok(Done::AsGiven { base })
    }

    /// Writes the records that come before, and the commit's, in a batch of their own with the
    /// numbers that follow on what was written. After an error all is as it was. `reserve_only`:
    /// only those that may use the disk reserve; the commit's others are refused.
    fn write_anew(&mut self, taken: &mut Taken, report: &mut Option<Report>, reserve_only: bool) -> Result<Done, AppendError> {
        let mut batch = Batch::default();
        let mut numbers: HashMap<TenantId, u64> = HashMap::new();
        let mut put = |record: Unnumbered<'_>, class| {
            let tenant = record.about.tenant;
            let next = numbers.entry(tenant).or_insert_with(|| self.log.next(tenant));
            batch.push(record, class, *next);
            *next += 1;
        };
        let mut before = 0;
        for (record, class) in self.before(report.as_ref(), reserve_only) {
            put(record, class);
            before += 1;
        }
        let frames = taken.batch.frames();
        let is_kept = |frame: &Encoded| frame.class.reserve || !reserve_only;
        for frame in frames.iter().filter(|frame| is_kept(frame)) {
            put(taken.batch.unnumbered(frame), frame.class);
        }
        if !batch.is_empty() {
            self.log.append(&mut batch, true)?;
        }
        let mut written = batch.frames()[before..].iter().map(|frame| LogPosition {
            sequence: frame.number,
            position: batch.position(frame),
        });
        let results = frames.iter().map(|frame| {
            let position = if is_kept(frame) { written.next() } else { None };
            position.ok_or(Reason::DiskFull)
        });
        let results: Vec<_> = results.collect();
        taken.numbers_used = before == taken.before && batch.frames().len() == before + frames.len();
        if !reserve_only {
            *report = None;
        }
        self.forget_deferred(batch.deferred());
        self.deferred.retain(|deferred| reserve_only && !deferred.reserve);
        self.log.add(&mut batch);
        Ok(Done::Each(results))
    }

    /// Syncs what was written without a sync, if it is time to.
    fn sync_if_due(&mut self) {
        if self.log.is_sync_due() {
            // A failure shows in the condition.
            let _ = self.sync();
        }
    }

    /// Syncs what was written without a sync.
    fn sync(&mut self) -> Result<(), Reason> {
        self.shared.set_busy(true);
        let synced = self.log.sync();
        self.shared.set_busy(false);
        synced.map_err(|_| self.fail())
    }

    /// That many deferred records are written.
    fn forget_deferred(&self, count: usize) {
        self.shared.deferred.fetch_sub(count, Ordering::AcqRel);
    }

    /// Keeps or counts the records of a commit that were refused.
    fn keep_refused(&mut self, batch: &Batch, done: &Done) {
        let mut lost = None;
        for (index, frame) in batch.frames().iter().enumerate() {
            let Some(reason) = done.refusal(index) else { continue };
            match frame.class.refusal {
                Refusal::Lost => lost = Some((lost.map_or(0, |(count, _)| count) + 1, reason)),
                Refusal::Harmless => {}
                Refusal::Deferred => self.deferred.push_back(Deferred {
                    record: batch.unnumbered(frame).into(),
                    reserve: frame.class.reserve,
                }),
            }
            count_refusal(reason);
        }
        if let Some((count, reason)) = lost {
            self.shared.add_gap(count, reason);
        }
    }

    /// The record that reports lost records.
    fn restarted(&self, gap: Gap) -> Option<Report> {
        let window = Window {
            from: gap.since,
            to: Timestamp::now(),
        };
        let mut record = Record::restarted(&self.origin, self.options.durability, gap.cause, window);
        record.unrecorded = Some(Number::saturating(gap.records));
        let record = record.stamp().ok()?;
        Some(Report { gap, record })
    }

    fn set_condition(&self, condition: Condition) {
        let before = self.shared.set_condition(condition);
        if before != condition {
            tracing::warn!(?before, now = ?condition, "the audit log's condition changed");
        }
    }

    /// Writes the last sidecar. It says `clean` only if every record was written.
    fn close(&mut self) {
        self.wake_rest();
        let all_written = self.deferred.is_empty() && self.shared.take_gap().is_none();
        // The last chance: what only the open file has is gone once it is closed.
        self.looked = None;
        self.log.file.stop_pausing();
        let mut sound = self.make_ready();
        if sound.is_ok() && self.sync().is_err() {
            sound = self.make_ready();
        }
        let all_written = all_written && self.deferred.is_empty();
        self.write_index(match sound {
            Ok(()) if all_written => Standing::Clean,
            Ok(()) | Err(Reason::WriteFailed) => Standing::InUse,
            Err(_) => Standing::Broken { behind: false },
        });
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.shared.set_condition(Condition::Closed);
    }
}
