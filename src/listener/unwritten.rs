//! The responses that one connection has not written completely: the deadlines after which they must
//! not be written, whether the peer reads them fast enough, and what a revocation can recall of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::open_socket::{Outgoing, Sent};

/// What a peer must read of the responses that wait for it, in bytes per second.
pub(super) const SLOWEST: u64 = 1024;

/// The id of what a response depends on, such as a credential or a key: a revocation of it recalls the response.
pub(super) type Id = [u8; 16];

/// A response about one key depends on so many at most, unless its token has others above it.
const FEW: usize = 8;

/// With fewer ids than this of responses that were written, nobody looks which of them arrived.
const PRUNED_FROM: usize = 64;

/// The unwritten responses of one connection. A response is registered when it is made. hyper then
/// buffers it, alone (HTTP/1) or mixed with others (HTTP/2), so it counts until everything that was
/// buffered has been flushed. From then on the kernel has it: of that only the ids on which such responses
/// depend are noted, with the connection's last byte of each.
///
/// The peer's speed is measured in windows. A window looks at the responses that wait when it begins,
/// and at no later one: otherwise a peer that reads small responses could leave large ones unread.
pub struct UnwrittenResponses {
    /// Length of a window.
    window: Duration,
    /// Whether there are responses: lets a connection without any write without a lock.
    any: AtomicBool,
    /// The responses of the window have ids below this one.
    of_window: AtomicU64,
    /// Bytes of the window's responses that were taken in it, and what the window before had over.
    taken: AtomicU64,
    /// What they are written to, once there is a connection.
    socket: OnceLock<Arc<dyn Outgoing>>,
    responses: Mutex<Responses>,
}

#[derive(Default)]
struct Responses {
    next: u64,
    open: Vec<Response>,
    /// When the window began, if there is one.
    since: Option<Instant>,
    /// On what responses depend that were written and may not have arrived, and the last byte of those.
    arriving: BTreeMap<Id, u64>,
    /// At this size those that arrived are removed.
    full: usize,
}

struct Response {
    id: u64,
    deadline: Option<Instant>,
    held: Held,
    /// In order.
    depends_on: SmallVec<[Id; FEW]>,
}

impl Responses {
    /// Forgets what has arrived: all up to this byte of the connection.
    fn forget_arrived(&mut self, acknowledged: u64) {
        self.arriving.retain(|_, end| *end > acknowledged);
        self.full = self.arriving.len() * 2;
    }
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

/// How far the responses are that depend on something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// At least one is not written completely.
    Unwritten,
    /// All are written: up to this byte of the connection, which may not have arrived.
    Written(u64),
    /// There are none.
    Arrived,
}

impl UnwrittenResponses {
    /// With windows of this length.
    pub(super) fn new(window: Duration) -> Arc<Self> {
        Arc::new(Self {
            window,
            any: AtomicBool::new(false),
            of_window: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            socket: OnceLock::new(),
            responses: Mutex::default(),
        })
    }

    /// They are written to this socket.
    pub(super) fn write_to(&self, socket: Arc<dyn Outgoing>) {
        let _ = self.socket.set(socket);
    }

    /// Registers a response that depends on what has these ids. The caller holds their gates: what closes one of them
    /// later finds the response here.
    pub fn hand_over(self: &Arc<Self>, depends_on: &mut dyn Iterator<Item = Id>) -> Unwritten {
        let mut ids: SmallVec<[Id; FEW]> = depends_on.collect();
        ids.sort_unstable();
        ids.dedup();
        // A batch names the same key a thousand times.
        ids.shrink_to_fit();
        let mut unwritten = self.add(None, ids);
        unwritten.then = None;
        unwritten
    }

    /// Registers a response, which must not be written after the deadline if it has one.
    pub(super) fn register(self: &Arc<Self>, deadline: Option<Instant>) -> Unwritten {
        self.add(deadline, SmallVec::new())
    }

    fn add(self: &Arc<Self>, deadline: Option<Instant>, depends_on: SmallVec<[Id; FEW]>) -> Unwritten {
        let mut responses = self.responses.lock();
        let id = responses.next;
        responses.next += 1;
        responses.open.push(Response {
            id,
            deadline,
            held: Held::Bytes,
            depends_on,
        });
        self.any.store(true, Ordering::Release);
        Unwritten {
            responses: Arc::clone(self),
            id,
            then: Some(Held::Dropped),
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
        if !self.any() {
            return;
        }
        let written = self.socket.get().map_or(0, |socket| socket.written());
        let mut responses = self.responses.lock();
        let Responses { open, arriving, .. } = &mut *responses;
        open.retain(|response| {
            let keep = response.held == Held::Bytes;
            if !keep {
                arriving.extend(response.depends_on.iter().map(|id| (*id, written)));
            }
            keep
        });
        self.any.store(!open.is_empty(), Ordering::Release);
        if responses.arriving.len() >= PRUNED_FROM.max(responses.full) {
            responses.forget_arrived(self.acknowledged());
        }
    }

    /// The bytes that the peer's kernel has: all, once the socket is closed.
    fn acknowledged(&self) -> u64 {
        self.sent().map_or(u64::MAX, |sent| sent.acknowledged)
    }

    /// What became of the bytes that were written; `None` once the socket is closed.
    pub(super) fn sent(&self) -> Option<Sent> {
        self.socket.get()?.sent()
    }

    /// Drops what the peer does not have, and closes the socket.
    pub(super) fn reset(&self) {
        if let Some(socket) = self.socket.get() {
            socket.reset();
        }
    }

    /// The number of the next response.
    pub(super) fn next(&self) -> u64 {
        self.responses.lock().next
    }

    /// How far the responses before this one are that depend on this id.
    pub(super) fn progress(&self, id: &Id, before: u64) -> Progress {
        let responses = self.responses.lock();
        let depends = |response: &Response| response.id < before && response.depends_on.binary_search(id).is_ok();
        if responses.open.iter().any(depends) {
            return Progress::Unwritten;
        }
        responses.arriving.get(id).map_or(Progress::Arrived, |end| Progress::Written(*end))
    }

    /// How far all responses are that depend on anything.
    pub(super) fn progress_of_all(&self) -> Progress {
        let responses = self.responses.lock();
        if responses.open.iter().any(|response| !response.depends_on.is_empty()) {
            return Progress::Unwritten;
        }
        let last = responses.arriving.values().max();
        last.map_or(Progress::Arrived, |end| Progress::Written(*end))
    }

    /// Whether the peer took less than a KiB/s of the responses that waited for it all through a
    /// window. What it took beyond that in one window counts in the next one: a socket passes on
    /// many KiB at once. So a peer that reads nothing is found after three windows at most.
    pub(super) fn too_slow(&self) -> bool {
        self.is_slow_at(Instant::now())
    }

    fn is_slow_at(&self, now: Instant) -> bool {
        if !self.any() {
            let mut responses = self.responses.lock();
            if responses.arriving.len() >= PRUNED_FROM {
                responses.forget_arrived(self.acknowledged());
            }
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
pub struct Unwritten {
    responses: Arc<UnwrittenResponses>,
    id: u64,
    /// What hyper holds of it once this is dropped; `None` before hyper got it.
    then: Option<Held>,
}

impl Unwritten {
    /// Notes that hyper gets it now, to be written before the deadline if it has one.
    pub(super) fn begin(&mut self, deadline: Option<Instant>) {
        self.then = Some(Held::Dropped);
        if deadline.is_some() {
            let mut responses = self.responses.responses.lock();
            if let Some(response) = responses.open.iter_mut().find(|response| response.id == self.id) {
                response.deadline = deadline;
            }
        }
    }

    /// Notes that hyper handed on so many bytes of it.
    pub(super) fn took(&self, bytes: usize) {
        if self.id < self.responses.of_window.load(Ordering::Relaxed) {
            self.responses.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Notes that hyper handed on its last byte.
    pub(super) fn handed_on(mut self) {
        self.then = Some(Held::HandedOn);
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        let mut responses = self.responses.responses.lock();
        match self.then {
            Some(held) => {
                if let Some(response) = responses.open.iter_mut().find(|response| response.id == self.id) {
                    response.held = held;
                }
            }
            // Nothing of it was written.
            None => {
                responses.open.retain(|response| response.id != self.id);
                self.responses.any.store(!responses.open.is_empty(), Ordering::Release);
            }
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
