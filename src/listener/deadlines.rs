//! Whether a connection keeps deadlines. hyper bounds neither the wait for the first bytes of a
//! connection nor an idle HTTP/2 connection, and counts an idle HTTP/1 connection as a slow
//! head; so both are bounded here, by looking at what arrives and what is in hand.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::Version;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

use crate::config::server::Limits;

/// How a connection fell behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A request's head was begun and not finished.
    Head,
    /// No request for too long.
    Idle,
}

/// What is known of one connection.
pub(super) struct ConnectionDeadlines {
    head: Duration,
    idle: Duration,
    state: Mutex<State>,
}

struct State {
    /// Requests in hand.
    requests: usize,
    /// The peer speaks HTTP/2: bytes without a request are frames of the connection (pings,
    /// windows) and begin no head.
    multiplexed: bool,
    /// Since when no request is in hand.
    quiet_since: Instant,
    /// When the first byte came after that.
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

    /// A request is in hand until the guard is dropped, answered or abandoned.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> InHand {
        let mut state = self.state.lock();
        state.requests += 1;
        state.first_byte = None;
        state.multiplexed |= version == Version::HTTP_2;
        InHand(Arc::clone(self))
    }

    fn received(&self) {
        let mut state = self.state.lock();
        if state.requests == 0 && state.first_byte.is_none() {
            state.first_byte = Some(Instant::now());
        }
    }

    /// When the connection is overdue unless something happens before.
    fn due(&self) -> Option<(Instant, Overdue)> {
        let state = self.state.lock();
        match (state.requests, state.multiplexed, state.first_byte) {
            (1.., _, _) => None,
            (0, false, Some(first)) => Some((first + self.head, Overdue::Head)),
            (0, true, _) | (0, false, None) => Some((state.quiet_since + self.idle, Overdue::Idle)),
        }
    }

    /// Resolves when the connection has fallen behind. It looks four times in the time of a
    /// head instead of being woken twice for each request, so a first byte may be noticed
    /// late; the moment of the cut is exact unless that moment itself lies within one look.
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

/// A request in hand.
pub(super) struct InHand(Arc<ConnectionDeadlines>);

impl Drop for InHand {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.requests = state.requests.saturating_sub(1);
        if state.requests == 0 {
            state.quiet_since = Instant::now();
            state.first_byte = None;
        }
    }
}

/// A stream that tells its connection's [`ConnectionDeadlines`] when bytes arrive.
pub(super) struct TimedStream<S> {
    pub(super) stream: S,
    pub(super) deadlines: Arc<ConnectionDeadlines>,
}

impl<S: AsyncRead + Unpin> AsyncRead for TimedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.deadlines.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TimedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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
        assert_eq!(overdue_after(&deadlines).await, (Overdue::Head, 10));
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
        assert_eq!(overdue_after(&deadlines).await, (Overdue::Head, 10));
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
