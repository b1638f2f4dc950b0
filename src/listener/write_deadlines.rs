//! The deadlines of the responses that one connection has not written completely.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// The deadlines of one connection. A response is registered when it is made. hyper then buffers
/// it, alone (HTTP/1) or mixed with others (HTTP/2), so a deadline applies until everything that
/// was buffered has been flushed.
#[derive(Default)]
pub(super) struct WriteDeadlines {
    /// Whether there are responses: lets a connection without deadlines write without a lock.
    any: AtomicBool,
    responses: Mutex<Responses>,
}

#[derive(Default)]
struct Responses {
    next: u64,
    open: Vec<Response>,
}

struct Response {
    id: u64,
    deadline: Instant,
    /// hyper holds no more bytes of it; they were written, or await the next flush.
    handed_on: bool,
}

impl WriteDeadlines {
    /// Registers a response that must not be written after the deadline.
    pub(super) fn register(self: &Arc<Self>, deadline: Instant) -> Unwritten {
        let mut responses = self.responses.lock();
        let id = responses.next;
        responses.next += 1;
        responses.open.push(Response {
            id,
            deadline,
            handed_on: false,
        });
        self.any.store(true, Ordering::Release);
        Unwritten {
            deadlines: Arc::clone(self),
            id,
        }
    }

    /// Whether the deadline of any response has passed, so that nothing more may be written.
    pub(super) fn passed(&self) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let now = Instant::now();
        self.responses.lock().open.iter().any(|response| response.deadline <= now)
    }

    /// Notes that all buffered bytes were written.
    pub(super) fn flushed(&self) {
        if self.any.load(Ordering::Acquire) {
            let mut responses = self.responses.lock();
            responses.open.retain(|response| !response.handed_on);
            self.any.store(!responses.open.is_empty(), Ordering::Release);
        }
    }
}

/// A response of which hyper still holds bytes.
pub(super) struct Unwritten {
    deadlines: Arc<WriteDeadlines>,
    id: u64,
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        let mut responses = self.deadlines.responses.lock();
        if let Some(response) = responses.open.iter_mut().find(|response| response.id == self.id) {
            response.handed_on = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_deadline_applies_until_the_flush_after_the_last_byte() {
        let deadlines = Arc::new(WriteDeadlines::default());
        assert!(!deadlines.passed());
        let past = Instant::now();
        let unwritten = deadlines.register(past);
        deadlines.flushed();
        assert!(deadlines.passed(), "a flush before the last byte ends nothing");
        drop(unwritten);
        assert!(deadlines.passed(), "the last byte may still be buffered");
        deadlines.flushed();
        assert!(!deadlines.passed());
    }

    #[test]
    fn each_response_has_its_own() {
        let deadlines = Arc::new(WriteDeadlines::default());
        let later = deadlines.register(Instant::now() + Duration::from_secs(3600));
        drop(deadlines.register(Instant::now()));
        assert!(deadlines.passed());
        deadlines.flushed();
        assert!(!deadlines.passed(), "the other one is still on its way, and in time");
        drop(later);
    }
}
