//! A connection's socket, which a revocation can reset at any moment, whoever is about to write to it.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use claviger_guarded::unacknowledged;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The stream of an accepted connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Bytes that were written to it and that the peer's kernel does not have.
    fn unacknowledged(&self) -> u64;

    /// Has its close drop these bytes, and tell the peer so.
    fn reset_on_close(&self);
}

impl Stream for TcpStream {
    fn unacknowledged(&self) -> u64 {
        match unacknowledged(self.as_fd()) {
            // A connection that has ended has no peer and sends nothing, but may still count.
            Ok(bytes) if bytes > 0 && self.peer_addr().is_ok() => bytes,
            Ok(_) | Err(_) => 0,
        }
    }

    fn reset_on_close(&self) {
        // A socket that refuses an option has ended already.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Stream for UnixStream {
    /// What is written is in the peer's buffer at once.
    fn unacknowledged(&self) -> u64 {
        0
    }

    fn reset_on_close(&self) {}
}

/// What became of the bytes that were written to a socket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    /// All of them.
    pub(super) written: u64,
    /// Those that the peer's kernel has.
    pub(super) acknowledged: u64,
}

/// What a socket sends, whatever its kind.
pub(super) trait Outgoing: Send + Sync {
    /// The bytes that were written to it.
    fn written(&self) -> u64;

    /// What became of them; `None` once it is closed.
    fn sent(&self) -> Option<Sent>;

    /// Closes it. The kernel sends what it has of it.
    fn close(&self);

    /// Closes it. Once this returns, no byte is sent that was not.
    fn reset(&self);
}

/// A socket until it is closed.
pub(super) struct OpenSocket<S>(Mutex<Socket<S>>);

struct Socket<S> {
    stream: Option<S>,
    written: u64,
}

impl<S: Stream> OpenSocket<S> {
    pub(super) fn new(stream: S) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Socket {
            stream: Some(stream),
            written: 0,
        })))
    }

    fn poll<R>(&self, poll: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match &mut self.0.lock().stream {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_write(&self, write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let mut socket = self.0.lock();
        let Some(stream) = &mut socket.stream else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let count = ready!(write(Pin::new(stream)))?;
        socket.written += count as u64;
        Poll::Ready(Ok(count))
    }
}

impl<S: Stream> Outgoing for OpenSocket<S> {
    fn written(&self) -> u64 {
        self.0.lock().written
    }

    fn sent(&self) -> Option<Sent> {
        let socket = self.0.lock();
        let unacknowledged = socket.stream.as_ref()?.unacknowledged();
        Some(Sent {
            written: socket.written,
            acknowledged: socket.written.saturating_sub(unacknowledged),
        })
    }

    fn close(&self) {
        self.0.lock().stream = None;
    }

    fn reset(&self) {
        if let Some(stream) = self.0.lock().stream.take() {
            stream.reset_on_close();
        }
    }
}

/// Reads from a socket and writes to it.
pub(super) struct SocketStream<S>(pub(super) Arc<OpenSocket<S>>);

impl<S: Stream> AsyncRead for SocketStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll(|stream| stream.poll_read(cx, buf))
    }
}

impl<S: Stream> AsyncWrite for SocketStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll(|stream| stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0.poll_write(|stream| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.0.lock().stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}
