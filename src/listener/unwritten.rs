//! The responses that one connection has not written completely: the deadlines after which they must
//! not be written, and whether the peer reads them fast enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What a peer must read of the responses that wait for it, in bytes per second.
const SLOWEST: u64 = 1024;

/// The unwritten responses of one connection. A response is registered when it is made. hyper then
/// buffers it, alone (HTTP/1) or mixed with others (HTTP/2), so it counts until everything that was
/// buffered has been flushed.
///
/// The peer's speed is measured in windows. A window looks at the responses that wait when it begins,
/// and at no later one: otherwise a peer that reads small responses could leave large ones unread.
pub(super) struct UnwrittenResponses {
    /// Length of a window.
    window: Duration,
    /// Whether there are responses: lets a connection without any write without a lock.
    any: AtomicBool,
    /// The responses of the window have ids below this one.
    of_window: AtomicU64,
    /// Bytes of the window's responses that were taken in it, and what the window before had over.
    taken: AtomicU64,
    responses: Mutex<Responses>,
}

#[derive(Default)]
struct Responses {
    next: u64,
    open: Vec<Response>,
    /// When the window began, if there is one.
    since: Option<Instant>,
}

struct Response {
    id: u64,
    deadline: Option<Instant>,
    held: Held,
}

/// What hyper holds of a response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Bytes that it has not handed on.
    Bytes,
    /// Nothing more: all of it was written, or awaits the next flush.
    HandedOn,
    /// Nothing more: the rest was dropped, for instance because the peer reset the stream.
    Dropped,
}

impl UnwrittenResponses {
    /// With windows of this length.
    pub(super) fn new(window: Duration) -> Arc<Self> {
        Arc::new(Self {
            window,
            any: AtomicBool::new(false),
            of_window: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            responses: Mutex::default(),
        })
    }

    /// Registers a response, which must not be written after the deadline if it has one.
    pub(super) fn register(self: &Arc<Self>, deadline: Option<Instant>) -> Unwritten {
        let mut responses = self.responses.lock();
        let id = responses.next;
        responses.next += 1;
        responses.open.push(Response {
            id,
            deadline,
            held: Held::Bytes,
        });
        self.any.store(true, Ordering::Release);
        Unwritten {
            responses: Arc::clone(self),
            id,
            then: Held::Dropped,
        }
    }

    /// Whether there are responses that were not written completely.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether the deadline of any response has passed, so that nothing more may be written.
    pub(super) fn passed(&self) -> bool {
        if !self.any() {
            return false;
        }
        let responses = self.responses.lock();
        let mut deadlines = responses.open.iter().filter_map(|response| response.deadline).peekable();
        deadlines.peek().is_some() && {
            let now = Instant::now();
            deadlines.any(|deadline| deadline <= now)
        }
    }

    /// Notes that all buffered bytes were written.
    pub(super) fn flushed(&self) {
        if self.any() {
            let mut responses = self.responses.lock();
            responses.open.retain(|response| response.held == Held::Bytes);
            self.any.store(!responses.open.is_empty(), Ordering::Release);
        }
    }

    /// Whether the peer took less than a KiB/s of the responses that waited for it all through a
    /// window. What it took beyond that in one window counts in the next one: a socket passes on
    /// many KiB at once. So a peer that reads nothing is found after three windows at most.
    pub(super) fn too_slow(&self) -> bool {
        self.is_slow_at(Instant::now())
    }

    fn is_slow_at(&self, now: Instant) -> bool {
        if !self.any() {
            return false;
        }
        let mut responses = self.responses.lock();
        let first_of_next = self.of_window.load(Ordering::Relaxed);
        let waits = |response: &Response| response.held != Held::Dropped;
        let still = responses.open.iter().any(|response| response.id < first_of_next && waits(response));
        let owed = SLOWEST.saturating_mul(self.window.as_millis().try_into().unwrap_or(u64::MAX)) / 1000;
        let over = match responses.since {
            Some(since) if still && now.saturating_duration_since(since) < self.window => return false,
            Some(_) if still => {
                let Some(over) = self.taken.load(Ordering::Relaxed).checked_sub(owed) else {
                    return true;
                };
                over.min(owed)
            }
            Some(_) | None => 0,
        };
        // The next window, with the responses that wait now.
        responses.since = responses.open.iter().any(waits).then_some(now);
        self.of_window.store(responses.next, Ordering::Relaxed);
        self.taken.store(over, Ordering::Relaxed);
        false
    }
}

/// A response of which hyper still holds bytes.
pub(super) struct Unwritten {
    responses: Arc<UnwrittenResponses>,
    id: u64,
    /// What hyper holds of it once this is dropped.
    then: Held,
}

impl Unwritten {
    /// Notes that hyper handed on so many bytes of it.
    pub(super) fn took(&self, bytes: usize) {
        if self.id < self.responses.of_window.load(Ordering::Relaxed) {
            self.responses.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Notes that hyper handed on its last byte.
    pub(super) fn handed_on(mut self) {
        self.then = Held::HandedOn;
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        let mut responses = self.responses.responses.lock();
        if let Some(response) = responses.open.iter_mut().find(|response| response.id == self.id) {
            response.held = self.then;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);
    const OWED: usize = 30 * 1024;

    #[test]
    fn a_deadline_applies_until_the_flush_after_the_last_byte() {
        let responses = UnwrittenResponses::new(WINDOW);
        assert!(!responses.passed());
        let past = Instant::now();
        let unwritten = responses.register(Some(past));
        responses.flushed();
        assert!(responses.passed(), "a flush before the last byte ends nothing");
        unwritten.handed_on();
        assert!(responses.passed(), "the last byte may still be buffered");
        responses.flushed();
        assert!(!responses.passed());
    }

    #[test]
    fn each_response_has_its_own() {
        let responses = UnwrittenResponses::new(WINDOW);
        let later = responses.register(Some(Instant::now() + Duration::from_secs(3600)));
        let without = responses.register(None);
        drop(responses.register(Some(Instant::now())));
        assert!(responses.passed());
        responses.flushed();
        assert!(!responses.passed(), "the other ones are still on their way, and in time");
        drop((later, without));
    }

    /// The end of a window, counted from the first one, which begins at `begin`.
    fn end(begin: Instant, windows: u32) -> Instant {
        begin + WINDOW * windows
    }

    #[test]
    fn a_peer_that_reads_nothing_is_found_after_a_window() {
        let responses = UnwrittenResponses::new(WINDOW);
        let begin = Instant::now();
        let unread = responses.register(None);
        assert!(!responses.is_slow_at(end(begin, 0)));
        assert!(responses.is_slow_at(end(begin, 1)));
        drop(unread);
        assert!(!responses.is_slow_at(end(begin, 2)), "a dropped response waits for nobody");
    }

    #[test]
    fn bytes_that_only_await_a_flush_wait_too() {
        let responses = UnwrittenResponses::new(WINDOW);
        let begin = Instant::now();
        responses.register(None).handed_on();
        assert!(!responses.is_slow_at(end(begin, 0)));
        assert!(responses.is_slow_at(end(begin, 1)));
    }

    #[test]
    fn a_kibibyte_per_second_is_enough_and_one_window_may_lend_to_the_next() {
        let responses = UnwrittenResponses::new(WINDOW);
        let unread = responses.register(None);
        let begin = Instant::now();
        for (taken, windows, slow) in [
            (OWED, 0, false),
            (OWED, 1, false),
            (OWED * 9, 2, false),
            (0, 3, false),
            (0, 4, true),
        ] {
            unread.took(taken);
            assert_eq!(responses.is_slow_at(end(begin, windows)), slow, "{taken} bytes in window {windows}");
        }
    }

    #[test]
    fn reading_later_responses_does_not_excuse_an_unread_one() {
        let responses = UnwrittenResponses::new(WINDOW);
        let begin = Instant::now();
        let unread = responses.register(None);
        assert!(!responses.is_slow_at(end(begin, 0)));
        let later = responses.register(None);
        later.took(OWED * 2);
        later.handed_on();
        responses.flushed();
        assert!(responses.is_slow_at(end(begin, 1)));
        drop(unread);
    }
}
