//! The answers that one connection has not written completely: the deadlines after which they must
//! not be written, and whether the peer reads them fast enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What a peer must read of the answers that wait for it, in bytes per second.
const SLOWEST: u64 = 1024;

/// The unwritten answers of one connection. An answer is registered when it is made. hyper then
/// buffers it, alone (HTTP/1) or mixed with others (HTTP/2), so it counts until everything that was
/// buffered has been flushed.
///
/// The peer's speed is measured in windows. A window looks at the answers that wait when it begins,
/// and at no later one: otherwise a peer that reads small answers could leave large ones unread.
pub(super) struct UnwrittenAnswers {
    /// Length of a window.
    window: Duration,
    /// Whether there are answers: lets a connection without any write without a lock.
    any: AtomicBool,
    /// The answers of the window have ids below this one.
    of_window: AtomicU64,
    /// Bytes of the window's answers that were taken in it, and what the window before had over.
    taken: AtomicU64,
    answers: Mutex<Answers>,
}

#[derive(Default)]
struct Answers {
    next: u64,
    open: Vec<Answer>,
    /// When the window began, if there is one.
    since: Option<Instant>,
}

struct Answer {
    id: u64,
    deadline: Option<Instant>,
    held: Held,
}

/// What hyper holds of an answer.
#[derive(PartialEq, Eq)]
enum Held {
    /// Bytes that it has not handed on.
    Bytes,
    /// Nothing more: all of it was written, or awaits the next flush.
    HandedOn,
    /// Nothing more: the rest was dropped, for instance because the peer reset the stream.
    Dropped,
}

impl UnwrittenAnswers {
    /// With windows of this length.
    pub(super) fn new(window: Duration) -> Arc<Self> {
        Arc::new(Self {
            window,
            any: AtomicBool::new(false),
            of_window: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            answers: Mutex::default(),
        })
    }

    /// Registers an answer, which must not be written after the deadline if it has one.
    pub(super) fn register(self: &Arc<Self>, deadline: Option<Instant>) -> Unwritten {
        let mut answers = self.answers.lock();
        let id = answers.next;
        answers.next += 1;
        answers.open.push(Answer {
            id,
            deadline,
            held: Held::Bytes,
        });
        self.any.store(true, Ordering::Release);
        Unwritten {
            answers: Arc::clone(self),
            id,
        }
    }

    /// Whether there are answers that were not written completely.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether the deadline of any answer has passed, so that nothing more may be written.
    pub(super) fn passed(&self) -> bool {
        if !self.any() {
            return false;
        }
        let answers = self.answers.lock();
        let mut deadlines = answers.open.iter().filter_map(|answer| answer.deadline).peekable();
        deadlines.peek().is_some() && {
            let now = Instant::now();
            deadlines.any(|deadline| deadline <= now)
        }
    }

    /// Notes that all buffered bytes were written.
    pub(super) fn flushed(&self) {
        if self.any() {
            let mut answers = self.answers.lock();
            answers.open.retain(|answer| answer.held == Held::Bytes);
            self.any.store(!answers.open.is_empty(), Ordering::Release);
        }
    }

    /// Whether the peer took less than a KiB/s of the answers that waited for it all through a
    /// window. What it took beyond that in one window counts in the next one: a socket passes on
    /// many KiB at once. So a peer that reads nothing is found after three windows at most.
    pub(super) fn too_slow(&self) -> bool {
        self.is_slow_at(Instant::now())
    }

    fn is_slow_at(&self, now: Instant) -> bool {
        if !self.any() {
            return false;
        }
        let mut answers = self.answers.lock();
        let first_of_next = self.of_window.load(Ordering::Relaxed);
        let waits = |answer: &Answer| answer.held != Held::Dropped;
        let still = answers.open.iter().any(|answer| answer.id < first_of_next && waits(answer));
        let owed = SLOWEST.saturating_mul(self.window.as_millis().try_into().unwrap_or(u64::MAX)) / 1000;
        let over = match answers.since {
            Some(since) if still && now.saturating_duration_since(since) < self.window => return false,
            Some(_) if still => {
                let Some(over) = self.taken.load(Ordering::Relaxed).checked_sub(owed) else {
                    return true;
                };
                over.min(owed)
            }
            Some(_) | None => 0,
        };
        // The next window, with the answers that wait now.
        answers.since = answers.open.iter().any(waits).then_some(now);
        self.of_window.store(answers.next, Ordering::Relaxed);
        self.taken.store(over, Ordering::Relaxed);
        false
    }
}

/// An answer of which hyper still holds bytes.
pub(super) struct Unwritten {
    answers: Arc<UnwrittenAnswers>,
    id: u64,
}

impl Unwritten {
    /// Notes that hyper handed on so many bytes of it.
    pub(super) fn took(&self, bytes: usize) {
        if self.id < self.answers.of_window.load(Ordering::Relaxed) {
            self.answers.taken.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Notes that hyper handed on its last byte.
    pub(super) fn handed_on(self) {
        self.leave(Held::HandedOn);
    }

    fn leave(&self, held: Held) {
        let mut answers = self.answers.answers.lock();
        if let Some(answer) = answers.open.iter_mut().find(|answer| answer.id == self.id)
            && answer.held == Held::Bytes
        {
            answer.held = held;
        }
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.leave(Held::Dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30);
    const OWED: usize = 30 * 1024;

    #[test]
    fn a_deadline_applies_until_the_flush_after_the_last_byte() {
        let answers = UnwrittenAnswers::new(WINDOW);
        assert!(!answers.passed());
        let past = Instant::now();
        let unwritten = answers.register(Some(past));
        answers.flushed();
        assert!(answers.passed(), "a flush before the last byte ends nothing");
        unwritten.handed_on();
        assert!(answers.passed(), "the last byte may still be buffered");
        answers.flushed();
        assert!(!answers.passed());
    }

    #[test]
    fn each_answer_has_its_own() {
        let answers = UnwrittenAnswers::new(WINDOW);
        let later = answers.register(Some(Instant::now() + Duration::from_secs(3600)));
        let without = answers.register(None);
        drop(answers.register(Some(Instant::now())));
        assert!(answers.passed());
        answers.flushed();
        assert!(!answers.passed(), "the other ones are still on their way, and in time");
        drop((later, without));
    }

    /// The end of a window, counted from the first one, which begins at `begin`.
    fn end(begin: Instant, windows: u32) -> Instant {
        begin + WINDOW * windows
    }

    #[test]
    fn a_peer_that_reads_nothing_is_found_after_a_window() {
        let answers = UnwrittenAnswers::new(WINDOW);
        let begin = Instant::now();
        let unread = answers.register(None);
        assert!(!answers.is_slow_at(end(begin, 0)));
        assert!(answers.is_slow_at(end(begin, 1)));
        drop(unread);
        assert!(!answers.is_slow_at(end(begin, 2)), "a dropped answer waits for nobody");
    }

    #[test]
    fn bytes_that_only_await_a_flush_wait_too() {
        let answers = UnwrittenAnswers::new(WINDOW);
        let begin = Instant::now();
        answers.register(None).handed_on();
        assert!(!answers.is_slow_at(end(begin, 0)));
        assert!(answers.is_slow_at(end(begin, 1)));
    }

    #[test]
    fn a_kibibyte_per_second_is_enough_and_one_window_may_lend_to_the_next() {
        let answers = UnwrittenAnswers::new(WINDOW);
        let unread = answers.register(None);
        let begin = Instant::now();
        for (taken, windows, slow) in [
            (OWED, 0, false),
            (OWED, 1, false),
            (OWED * 9, 2, false),
            (0, 3, false),
            (0, 4, true),
        ] {
            unread.took(taken);
            assert_eq!(answers.is_slow_at(end(begin, windows)), slow, "{taken} bytes in window {windows}");
        }
    }

    #[test]
    fn reading_later_answers_does_not_excuse_an_unread_one() {
        let answers = UnwrittenAnswers::new(WINDOW);
        let begin = Instant::now();
        let unread = answers.register(None);
        assert!(!answers.is_slow_at(end(begin, 0)));
        let later = answers.register(None);
        later.took(OWED * 2);
        later.handed_on();
        answers.flushed();
        assert!(answers.is_slow_at(end(begin, 1)));
        drop(unread);
    }
}
