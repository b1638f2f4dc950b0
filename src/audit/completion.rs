//! The result of one commit, which all its waiters share.
//!
//! The log's thread wakes one waiter only. That one wakes the others, from within the runtime,
//! where waking costs a fraction: the thread begins the next commit meanwhile. If that waiter is
//! dropped it wakes them as well, and if it is neither polled nor dropped for a while, the log's
//! thread does ([`Completion::wake_all`]).

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::health::Reason;
use super::origin::Position;

/// The sequence number and the offset of a written record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub(super) sequence: u64,
    pub(super) position: Position,
}

/// What became of the records of a commit.
#[derive(Debug)]
pub(super) enum Done {
    /// All were written with the numbers that they were given, from this offset of the file on.
    AsGiven { base: u64 },
    /// None was written.
    Refused(Reason),
    /// They were not all treated alike, or got other numbers or places: one result for each.
    Each(Vec<Result<LogPosition, Reason>>),
}

impl Done {
    /// Why the record with that index was not written.
    pub(super) fn refusal(&self, index: usize) -> Option<Reason> {
        match self {
            Self::AsGiven { .. } => None,
            Self::Refused(reason) => Some(*reason),
            Self::Each(results) => results.get(index).and_then(|result| result.err()),
        }
    }
}

/// The place that a record was given in the commit that was open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    /// The index of the record in the commit.
    pub(super) index: usize,
    pub(super) sequence: u64,
    /// The offset of its frame from the beginning of the commit.
    pub(super) offset: usize,
}

/// The result of one commit, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Completion {
    done: OnceLock<Done>,
    /// Each waiter has one place while it waits. Empty once the waiters were woken.
    wakers: Mutex<Vec<Option<Waker>>>,
}

impl Completion {
    /// Wakes all waiters that still have to be woken.
    pub(super) fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock());
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Sets the result and wakes one waiter. Returns whether there are more.
    fn complete(&self, done: Done) -> bool {
        if self.done.set(done).is_err() {
            return false;
        }
        let mut wakers = self.wakers.lock();
        let first = wakers.iter_mut().find_map(Option::take);
        let more = wakers.iter().any(Option::is_some);
        drop(wakers);
        if let Some(first) = first {
            first.wake();
        }
        more
    }
}

/// The log's side: dropping it without a result means that the log's thread ends.
#[derive(Debug, Default)]
pub(super) struct Promise(Arc<Completion>);

impl Promise {
    /// Sets the result and wakes one waiter. Returns the completion if there are more, who have to
    /// be woken if that one does not.
    pub(super) fn complete(self, done: Done) -> Option<Arc<Completion>> {
        self.0.complete(done).then(|| self.0.clone())
    }

    /// Somebody who waits for the result.
    pub(super) fn waiter(&self) -> Waiter {
        Waiter {
            completion: self.0.clone(),
            place: None,
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.0.complete(Done::Refused(Reason::Closed)) {
            self.0.wake_all();
        }
    }
}

/// Waits for the result of one commit.
#[derive(Debug)]
pub(super) struct Waiter {
    completion: Arc<Completion>,
    /// The place among the wakers, while it waits.
    place: Option<usize>,
}

impl Waiter {
    /// The result for a record, once this future has ended.
    pub(super) fn result(&self, given: Given) -> Result<LogPosition, Reason> {
        match self.completion.done.get() {
            Some(Done::AsGiven { base }) => Ok(LogPosition {
                sequence: given.sequence,
                position: Position(base + given.offset as u64),
            }),
            Some(Done::Refused(reason)) => Err(*reason),
            Some(Done::Each(results)) => results.get(given.index).copied().unwrap_or(Err(Reason::Closed)),
            None => Err(Reason::Closed),
        }
    }
}

impl Future for Waiter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { completion, place } = &mut *self;
        let mut wakers = completion.wakers.lock();
        let own = place.and_then(|place| wakers.get_mut(place));
        // Set before the wakers were looked at: who is among them after this is woken.
        if completion.done.get().is_some() {
            if let Some(own) = own {
                *own = None;
            }
            *place = None;
            drop(wakers);
            completion.wake_all();
            return Poll::Ready(());
        }
        match own {
            Some(Some(waker)) => waker.clone_from(context.waker()),
            Some(none) => *none = Some(context.waker().clone()),
            None => {
                *place = Some(wakers.len());
                wakers.push(Some(context.waker().clone()));
            }
        }
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let Some(place) = self.place else { return };
        if let Some(own) = self.completion.wakers.lock().get_mut(place) {
            *own = None;
        }
        // It may be the one that was woken to wake the others.
        if self.completion.done.get().is_some() {
            self.completion.wake_all();
        }
    }
}
