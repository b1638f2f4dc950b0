//! The open commit: each thread that has a record writes its frame into the buffer that the
//! log's thread will write to the file, and gives it the tenant's next sequence number, under one
//! short lock.
//!
//! A number counts once its frame is written. When a commit fails, its numbers are given back,
//! and the frames of the open commit, which have later ones, are numbered anew when that is taken
//! ([`Taken::numbered`]). So a refused record leaves no gap.

use std::sync::Arc;
use std::time::Instant;

use claviger_provider::TenantId;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{Semaphore, oneshot};

use super::batch::Batch;
use super::class::Class;
use super::completion::{Given, Promise, Waiter};
use super::numbers::Numbers;
use super::stamp::Stamped;
use super::survey::Task;

/// The log's thread has ended, or does not take records any more.
#[derive(Debug)]
pub(super) struct Ended;

/// A commit on its way from the callers to the file.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) batch: Batch,
    pub(super) promise: Promise,
    /// Whether the frames have the numbers that they will be written with. If not, each tenant's
    /// are numbered anew, in the same order.
    pub(super) numbered: bool,
    /// How many records were expected to be written before it.
    pub(super) before: usize,
    /// Whether it was written with every number that was given, and those records before it. If
    /// not, the others are given back.
    pub(super) numbers_used: bool,
    /// The room that the records have in the queue, in bytes.
    room: usize,
}

#[derive(Default)]
struct Open {
    commit: Taken,
    numbers: Numbers,
    /// Whether the log's thread waits to be woken.
    idle: bool,
    check: bool,
    tasks: Vec<Task>,
    closing: Vec<oneshot::Sender<()>>,
    /// No handle is left: nothing more will come.
    abandoned: bool,
    /// Nothing more is taken.
    ended: bool,
    /// The log's thread has ended.
    gone: bool,
}

/// What the log's thread has to do, beside the open commit.
pub(super) struct Work {
    /// Compare the file with what was written, and check whether a log that is not sound has
    /// recovered.
    pub(super) check: bool,
    /// What else was asked for.
    pub(super) tasks: Vec<Task>,
    /// Write what is queued, then the sidecar, and end. Nothing more is queued.
    pub(super) closing: Vec<oneshot::Sender<()>>,
    /// No handle of the log is left.
    pub(super) abandoned: bool,
}

/// What the callers and the log's thread share of the records.
pub(super) struct Queue {
    open: Mutex<Open>,
    changed: Condvar,
    /// The free bytes. Deferred records need none.
    room: Semaphore,
    capacity: u32,
}

impl Queue {
    /// A queue for that many bytes of records, which goes on with these numbers.
    pub(super) fn new(capacity: u32, numbers: Numbers) -> Self {
        Self {
            open: Mutex::new(Open {
                commit: Taken {
                    numbered: true,
                    ..Taken::default()
                },
                numbers,
                ..Open::default()
            }),
            changed: Condvar::new(),
            room: Semaphore::new(capacity as usize),
            capacity,
        }
    }

    /// Takes room for the records, if the queue has it. Returns how much to give to
    /// [`Queue::push`].
    pub(super) fn try_reserve(&self, records: &[Stamped]) -> Option<usize> {
        let room = self.room_of(records);
        self.room.try_acquire_many(room).ok()?.forget();
        Some(room as usize)
    }

    /// As [`Queue::try_reserve`]; waits until the queue has room.
    ///
    /// # Errors
    /// The log has ended.
    pub(super) async fn reserve(&self, records: &[Stamped]) -> Result<usize, Ended> {
        let room = self.room_of(records);
        self.room.acquire_many(room).await.map_err(|_| Ended)?.forget();
        Ok(room as usize)
    }

    /// At most the whole room, so that records of any length pass.
    fn room_of(&self, records: &[Stamped]) -> u32 {
        let bytes: usize = records.iter().map(Stamped::len).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity)
    }

    /// The bytes of records that are queued or being written.
    pub(super) fn taken_room(&self) -> usize {
        (self.capacity as usize).saturating_sub(self.room.available_permits())
    }

    /// Adds records to the open commit: all or none of them will be written. Calls `given` with
    /// the place of each.
    ///
    /// # Errors
    /// The log has ended.
    pub(super) fn push(&self, records: &[Stamped], class: Class, room: usize, mut given: impl FnMut(Given)) -> Result<Waiter, Ended> {
        let mut guard = self.open.lock();
        let open = &mut *guard;
        if open.ended {
            return Err(Ended);
        }
        let commit = &mut open.commit;
        for record in records {
            let sequence = open.numbers.give(record.about.tenant);
            given(Given {
                index: commit.batch.frames().len(),
                sequence,
                offset: commit.batch.len(),
            });
            commit.batch.push(record.unnumbered(), class, sequence);
        }
        commit.room += room;
        let waiter = commit.promise.waiter();
        self.wake(guard);
        Ok(waiter)
    }

    /// Wakes the log's thread if it waits, without the lock.
    fn wake(&self, mut open: parking_lot::MutexGuard<'_, Open>) {
        if std::mem::take(&mut open.idle) {
            drop(open);
            self.changed.notify_one();
        }
    }

    /// Has the log's thread compare the file with what was written.
    pub(super) fn check(&self) {
        let mut open = self.open.lock();
        open.check = true;
        self.wake(open);
    }

    /// Has the log's thread do that after what is queued. Without an answer it has ended.
    pub(super) fn ask(&self, task: Task) {
        let mut open = self.open.lock();
        if !open.gone {
            open.tasks.push(task);
        }
        self.wake(open);
    }

    /// Has the log's thread write what is queued and end. The receiver gets an error if it has
    /// ended already.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (closed, wait) = oneshot::channel();
        let mut open = self.open.lock();
        if !open.gone {
            open.closing.push(closed);
        }
        self.wake(open);
        wait
    }

    /// The last handle of the log was dropped.
    pub(super) fn abandon(&self) {
        let mut open = self.open.lock();
        open.abandoned = true;
        self.wake(open);
    }

    /// Waits until there is something to do. `None` if there is nothing until that time.
    pub(super) fn wait(&self, until: Option<Instant>) -> Option<Work> {
        let mut open = self.open.lock();
        while open.commit.batch.is_empty() && !open.check && open.tasks.is_empty() && open.closing.is_empty() && !open.abandoned {
            open.idle = true;
            match until {
                None => self.changed.wait(&mut open),
                Some(until) if Instant::now() >= until => {
                    open.idle = false;
                    return None;
                }
                Some(until) => drop(self.changed.wait_until(&mut open, until)),
            }
        }
        open.idle = false;
        if !open.closing.is_empty() {
            open.ended = true;
        }
        Some(Work {
            check: std::mem::take(&mut open.check),
            tasks: std::mem::take(&mut open.tasks),
            closing: std::mem::take(&mut open.closing),
            abandoned: open.abandoned,
        })
    }

    /// Takes the open commit, and opens the next one with the empty `spare`. Records of the tenants
    /// `before` will be written before it. `next` returns a tenant's next number as of what was
    /// written; it is asked only where the numbers are not right already.
    pub(super) fn take(&self, spare: Batch, before: &[TenantId], next: impl Fn(TenantId) -> u64) -> Taken {
        let opened = Taken {
            batch: spare,
            numbered: true,
            ..Taken::default()
        };
        let mut guard = self.open.lock();
        let open = &mut *guard;
        let mut taken = std::mem::replace(&mut open.commit, opened);
        taken.before = before.len();
        if !taken.numbered || !before.is_empty() {
            taken.numbered = false;
            let tenants = || before.iter().copied().chain(taken.batch.tenants());
            for tenant in tenants() {
                open.numbers.next.insert(tenant, next(tenant));
            }
            for tenant in tenants() {
                open.numbers.give(tenant);
            }
        }
        taken
    }

    /// Gives back the numbers of these tenants that were not written.
    pub(super) fn give_back(&self, tenants: impl Iterator<Item = TenantId>, next: impl Fn(TenantId) -> u64) {
        let mut guard = self.open.lock();
        let open = &mut *guard;
        for tenant in tenants.chain(open.commit.batch.tenants()) {
            open.numbers.next.insert(tenant, next(tenant));
        }
        open.commit.numbered = open.commit.batch.is_empty();
    }

    /// Gives back the room of a commit's records.
    pub(super) fn give_back_room(&self, commit: &mut Taken) {
        self.room.add_permits(std::mem::take(&mut commit.room));
    }

    /// The log's thread ends: refuses what is queued and what comes.
    pub(super) fn end(&self) {
        let mut open = self.open.lock();
        (open.ended, open.gone) = (true, true);
        let (left, closing) = (std::mem::take(&mut open.commit), std::mem::take(&mut open.closing));
        let tasks = std::mem::take(&mut open.tasks);
        drop(open);
        self.room.close();
        drop(left);
        drop(tasks);
        drop(closing);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// Ends the queue when the log's thread ends, also by a panic.
pub(super) struct EndQueue(pub(super) Arc<Queue>);

impl Drop for EndQueue {
    fn drop(&mut self) {
        self.0.end();
    }
}
