//! How long a connection may wait for a request, and for the rest of its head. hyper limits neither
//! the wait for the first bytes of a connection nor an idle HTTP/2 connection, and counts an idle
//! HTTP/1 connection as a slow head. So both are limited here, by watching the bytes that arrive and
//! the requests under way.

use std::sync::Arc;
use std::time::Duration;

use http::Version;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::config::server::Limits;

/// Which limit a connection exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A request's head was not complete in time.
    RequestHead,
    /// No request for too long.
    Idle,
}

/// The idle and head timeouts of one connection.
pub(super) struct ConnectionDeadlines {
    head: Duration,
    idle: Duration,
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
}

impl ConnectionDeadlines {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let state = State {
            requests: 0,
            multiplexed: false,
            quiet_since: Instant::now(),
            first_byte: None,
        };
        Arc::new(Self {
            head: limits.header_timeout,
            idle: limits.idle_timeout,
            state: Mutex::new(state),
        })
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
        match (state.requests, state.multiplexed, state.first_byte) {
            (1.., _, _) => None,
            (0, false, Some(first)) => Some((first + self.head, Overdue::RequestHead)),
            (0, true, _) | (0, false, None) => Some((state.quiet_since + self.idle, Overdue::Idle)),
        }
    }

    /// Resolves when a limit is exceeded. It polls four times in the time of a head: being woken
    /// twice for each request would cost more. So it may learn late of a first byte, and is then
    /// late by at most one poll.
    pub(super) async fn overdue(&self) -> Overdue {
        loop {
            let now = Instant::now();
            let look = now + self.head / 4;
            match self.due() {
                Some((at, overdue)) if at <= now => return overdue,
                Some((at, _)) => sleep_until(at.min(look)).await,
                None => sleep_until(look).await,
            }
        }
    }
}

/// A request under way.
pub(super) struct UnderWay(Arc<ConnectionDeadlines>);

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

    async fn overdue_after(deadlines: &ConnectionDeadlines) -> (Overdue, u64) {
        let begun = Instant::now();
        (deadlines.overdue().await, begun.elapsed().as_secs())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_idle_and_a_begun_head_is_slow() {
        assert_eq!(overdue_after(&ConnectionDeadlines::new(&limits())).await, (Overdue::Idle, 75));
        let deadlines = ConnectionDeadlines::new(&limits());
        deadlines.received();
        assert_eq!(overdue_after(&deadlines).await, (Overdue::RequestHead, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn further_bytes_of_a_head_buy_no_time() {
        let deadlines = ConnectionDeadlines::new(&limits());
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
        let deadlines = ConnectionDeadlines::new(&limits());
        deadlines.received();
        let request = deadlines.begin(Version::HTTP_11);
        assert!(tokio::time::timeout(Duration::from_secs(3600), deadlines.overdue()).await.is_err());
        drop(request);
        assert_eq!(overdue_after(&deadlines).await, (Overdue::Idle, 75));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_between_requests_begin_no_head() {
        let deadlines = ConnectionDeadlines::new(&limits());
        drop(deadlines.begin(Version::HTTP_2));
        deadlines.received();
        assert_eq!(overdue_after(&deadlines).await, (Overdue::Idle, 75));
    }
}
