//! What one connection waits for. How long it may wait for a request, and for the rest of its head:
//! hyper limits neither the wait for the first bytes of a connection nor an idle HTTP/2 connection, and
//! counts an idle HTTP/1 connection as a slow head. So both are limited here, by watching the bytes
//! that arrive and the requests under way. And whether it may be closed for the sake of another one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Version;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::unwritten::UnwrittenResponses;
use crate::config::server::Limits;

/// Which limit a connection exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A request's head was not complete in time.
    RequestHead,
    /// No request for too long.
    Idle,
    /// The peer reads its responses too slowly.
    SlowReader,
}

/// The state of one connection.
pub(super) struct ConnectionState {
    head: Duration,
    idle: Duration,
    /// How often the responses on their way are looked at.
    look: Duration,
    /// Whether a request on it was authenticated.
    authenticated: AtomicBool,
    close: Notify,
    /// Whether a revocation has reset it.
    recalled: AtomicBool,
    responses: Arc<UnwrittenResponses>,
    state: Mutex<State>,
}

struct State {
    /// Requests under way.
    requests: usize,
    /// The peer speaks HTTP/2: bytes between requests are frames of the connection (pings,
    /// window updates), not the start of a head.
    multiplexed: bool,
    /// Since when the connection has no request under way.
    quiet_since: Instant,
    /// When the first byte of the next request arrived.
    first_byte: Option<Instant>,
    /// No further request is taken, and the last responses must be written by then.
    ends: Option<Instant>,
    /// It ends, and makes no more room by being asked to.
    left: bool,
}

impl ConnectionState {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let state = State {
            requests: 0,
            multiplexed: false,
            quiet_since: Instant::now(),
            first_byte: None,
            ends: None,
            left: false,
        };
        Arc::new(Self {
            head: limits.header_timeout,
            idle: limits.idle_timeout,
            look: limits.header_timeout.min(limits.slow_reader_timeout) / 4,
            authenticated: AtomicBool::new(false),
            close: Notify::new(),
            recalled: AtomicBool::new(false),
            responses: UnwrittenResponses::new(limits.slow_reader_timeout),
            state: Mutex::new(state),
        })
    }

    /// The responses on their way to the peer.
    pub(super) const fn responses(&self) -> &Arc<UnwrittenResponses> {
        &self.responses
    }

    /// The connection takes requests from now on: its handshake took no idle time.
    pub(super) fn ready(&self) {
        self.state.lock().quiet_since = Instant::now();
    }

    /// Notes that a request of the peer was authenticated.
    pub(super) fn authenticated(&self) {
        if !self.is_authenticated() {
            self.authenticated.store(true, Ordering::Relaxed);
        }
    }

    /// Whether a request of the peer was authenticated.
    pub(super) fn is_authenticated(&self) -> bool {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Since when the connection has nothing to do; `None` while it has. A response on its way
    /// counts only for a peer that was authenticated: anybody can leave one unread.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        let busy = state.requests > 0 || state.left || (self.is_authenticated() && self.responses.any());
        (!busy).then_some(state.quiet_since)
    }

    /// It has ended, but for what is on its way to the peer.
    pub(super) fn left(&self) {
        self.state.lock().left = true;
    }

    /// Asks the connection to close if it is idle.
    pub(super) fn ask_to_close(&self) {
        self.close.notify_one();
    }

    /// Resolves when the connection should close if it is idle.
    pub(super) async fn asked_to_close(&self) {
        self.close.notified().await;
    }

    /// Closes it at once: what the peer does not have of its responses is not sent any more.
    pub(super) fn recall(&self) {
        self.recalled.store(true, Ordering::Relaxed);
        self.responses.reset();
        // The socket wakes nobody any more.
        self.close.notify_one();
    }

    /// Whether a revocation has reset it.
    pub(super) fn is_recalled(&self) -> bool {
        self.recalled.load(Ordering::Relaxed)
    }

    /// No further request is taken: what is on its way has as long as an idle connection.
    pub(super) fn end_after_responses(&self) {
        self.state.lock().ends = Some(Instant::now() + self.idle);
    }

    /// A request is under way until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> UnderWay {
        let mut state = self.state.lock();
        state.requests += 1;
        state.first_byte = None;
        state.multiplexed |= version == Version::HTTP_2;
        UnderWay(Arc::clone(self))
    }

    /// Notes that bytes arrived.
    pub(super) fn received(&self) {
        let mut state = self.state.lock();
        if state.requests == 0 && state.first_byte.is_none() {
            state.first_byte = Some(Instant::now());
        }
    }

    /// When the connection exceeds a limit if nothing happens before.
    fn due(&self) -> Option<(Instant, Overdue)> {
        let state = self.state.lock();
        if let Some(ends) = state.ends {
            return Some((ends, Overdue::Idle));
        }
        match (state.requests, state.multiplexed, state.first_byte) {
            (1.., _, _) => None,
            (0, false, Some(first)) => Some((first + self.head, Overdue::RequestHead)),
            (0, true, _) | (0, false, None) => Some((state.quiet_since + self.idle, Overdue::Idle)),
        }
    }

    /// Resolves when a limit is exceeded. It polls four times in the time of a head, or of a
    /// slow reader: being woken twice for each request would cost more. So it may learn late of a
    /// first byte, and is then late by at most one poll.
    pub(super) async fn overdue(&self) -> Overdue {
        loop {
            if self.responses.too_slow() {
                return Overdue::SlowReader;
            }
            let now = Instant::now();
            let look = now + self.look;
            match self.due() {
                Some((at, overdue)) if at <= now => return overdue,
                Some((at, _)) => sleep_until(at.min(look)).await,
                None => sleep_until(look).await,
            }
        }
    }
}

/// A request under way.
pub(super) struct UnderWay(Arc<ConnectionState>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.quiet_since = Instant::now();
            state.first_byte = None;
        }
    }
}

impl fmt::Debug for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionState").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            ..Limits::default()
        }
    }

    async fn overdue_after(deadlines: &ConnectionState) -> (Overdue, u64) {
        let begun = Instant::now();
        (deadlines.overdue().await, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_idle_and_a_begun_head_is_slow() {
        assert_eq!(overdue_after(&ConnectionState::new(&limits())).await, (Overdue::Idle, 75));
        let deadlines = ConnectionState::new(&limits());
        deadlines.received();
        assert_eq!(overdue_after(&deadlines).await, (Overdue::RequestHead, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn further_bytes_of_a_head_buy_no_time() {
        let deadlines = ConnectionState::new(&limits());
        deadlines.received();
        let dripping = Arc::clone(&deadlines);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                dripping.received();
            }
        });
        assert_eq!(overdue_after(&deadlines).await, (Overdue::RequestHead, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_hand_is_never_overdue_and_restarts_the_clock() {
        let deadlines = ConnectionState::new(&limits());
        deadlines.received();
        let request = deadlines.begin(Version::HTTP_11);
        assert!(tokio::time::timeout(Duration::from_secs(3600), deadlines.overdue()).await.is_err());
        drop(request);
        assert_eq!(overdue_after(&deadlines).await, (Overdue::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_requests_begin_no_head() {
        let deadlines = ConnectionState::new(&limits());
        drop(deadlines.begin(Version::HTTP_2));
        deadlines.received();
        assert_eq!(overdue_after(&deadlines).await, (Overdue::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_has_as_long_as_an_idle_one_for_its_responses() {
        let state = ConnectionState::new(&limits());
        let _request = state.begin(Version::HTTP_2);
        state.end_after_responses();
        assert_eq!(overdue_after(&state).await, (Overdue::Idle, 75));
    }

    #[test]
    fn a_connection_is_idle_without_a_request_and_an_unread_response_of_a_stranger_is_no_work() {
        let state = ConnectionState::new(&limits());
        assert!(state.idle_since().is_some());
        let request = state.begin(Version::HTTP_11);
        assert!(state.idle_since().is_none());
        let unread = state.responses().register(None);
        drop(request);
        assert!(state.idle_since().is_some());
        state.authenticated();
        assert!(state.idle_since().is_none());
        drop(unread);
        state.responses().flushed();
        assert!(state.idle_since().is_some());
    }
}
