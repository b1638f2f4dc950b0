//! The file and the state at its durable end, with what was written after that.
//!
//! With [`Durability::ProcessCrash`] callers are answered after the write, and the sync follows
//! within [`super::Options::sync_every`]. Until then their records count as written, but the state, the sidecar and
//! the observers do not have them. A failed sync loses none of them: they are in memory, and the
//! repair writes them anew.

use std::time::{Duration, Instant};

use claviger_provider::TenantId;

use super::batch::Batch;
use super::durability::Durability;
use super::durable_file::{AppendError, DurableFile};
use super::observer::{Commit, CommitObserver};
use super::options::Options;
use super::state::State;

/// The most bytes that are written without a sync, because they are in memory until one.
const MAX_UNSYNCED: u64 = 4 << 20;

/// The file, what is durable of it, and what is not yet.
pub(super) struct WrittenLog {
    pub(super) file: DurableFile,
    durability: Durability,
    sync_every: Duration,
    /// The state at the durable end of the file.
    pub(super) state: State,
    observers: Vec<Box<dyn CommitObserver>>,
    /// What was written and is not part of the state yet.
    unsynced: Batch,
    /// When the oldest of it was written without a sync.
    since: Option<Instant>,
}

impl WrittenLog {
    /// A log whose file is durable to its end, with the state there.
    pub(super) fn new(file: DurableFile, options: &Options, state: State, observers: Vec<Box<dyn CommitObserver>>) -> Self {
        Self {
            file,
            durability: options.durability,
            sync_every: options.sync_every,
            state,
            observers,
            unsynced: Batch::default(),
            since: None,
        }
    }

    /// The tenant's next number after all that was written.
    pub(super) fn next(&self, tenant: TenantId) -> u64 {
        let last = self.unsynced.frames().iter().rfind(|frame| frame.about.tenant == tenant);
        last.map_or_else(|| self.state.next(tenant), |frame| frame.number + 1)
    }

    /// Writes a batch at the end of the file, and syncs it if it must be: `sync` is whether its
    /// callers wait for that in each durability. [`WrittenLog::add`] must follow.
    ///
    /// # Errors
    /// [`AppendError`]: the batch does not count as written.
    pub(super) fn append(&mut self, batch: &mut Batch, sync: bool) -> Result<(), AppendError> {
        // Before the positions are given: a commit never spans two files.
        self.file.prepare(batch.len() as u64)?;
        // What was synced for that is not in one batch with what follows in the next file.
        self.promote();
        let (synced, base) = (self.file.length(), self.file.written());
        let bytes = batch.place(base, base == synced);
        let fits = base - synced + bytes.len() as u64 <= MAX_UNSYNCED;
        if sync || self.durability == Durability::PowerLoss || !fits {
            return self.file.append(bytes);
        }
        self.file.write(bytes)?;
        self.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Takes the frames of the batch that was written last, and leaves it empty.
    pub(super) fn add(&mut self, batch: &mut Batch) {
        if self.unsynced.is_empty() {
            std::mem::swap(&mut self.unsynced, batch);
        } else {
            self.unsynced.append(batch);
            batch.clear();
        }
    }

    /// When a sync is due. None is while the file waits for its repair, which syncs.
    pub(super) fn sync_at(&self) -> Option<Instant> {
        self.since.filter(|_| !self.file.is_suspect()).map(|since| since + self.sync_every)
    }

    /// Whether a sync is due.
    pub(super) fn is_sync_due(&self) -> bool {
        self.sync_at().is_some_and(|at| Instant::now() >= at)
    }

    /// Syncs what was written without a sync.
    ///
    /// # Errors
    /// [`AppendError`]; the repair writes it anew.
    pub(super) fn sync(&mut self) -> Result<(), AppendError> {
        self.file.sync()?;
        self.promote();
        Ok(())
    }

    /// Adds what was written to the state, and shows it to the observers, if it is durable now.
    pub(super) fn promote(&mut self) {
        if self.file.written() > self.file.length() {
            return;
        }
        self.since = None;
        if !self.unsynced.is_empty() {
            self.unsynced.apply(&mut self.state);
            let commit = Commit::new(&self.unsynced);
            for observer in &mut self.observers {
                observer.committed(&commit);
            }
            self.unsynced.clear();
        }
    }
}
