//! A connection under a TLS handshake whose last words from the server are heard.
//!
//! A server that rejects the client certificate sends an alert and closes. What the client still writes may fail then,
//! before it has read the alert, and the failure would hide the reason.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Reads from `T` and writes to it. Until [`LastWords::shaken`], a write to a closed connection fails no sooner than the
/// read that finds nothing more.
pub struct LastWords<T> {
    inner: T,
    /// The handshake goes on.
    shaking: bool,
    /// Why the write failed.
    failed: Option<io::Error>,
}

impl<T> LastWords<T> {
    pub(super) const fn new(inner: T) -> Self {
        Self {
            inner,
            shaking: true,
            failed: None,
        }
    }

    /// What it reads from and writes to.
    #[cfg(test)]
    pub(super) const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The handshake is over: a write fails at once from now on.
    pub(super) const fn shaken(&mut self) {
        self.shaking = false;
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LastWords<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        match self.failed.take() {
            Some(failed) if buffer.filled().len() == before => Poll::Ready(Err(failed)),
            failed => {
                self.failed = failed;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LastWords<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.failed.is_some() {
            return Poll::Ready(Ok(bytes.len()));
        }
        match ready!(Pin::new(&mut self.inner).poll_write(cx, bytes)) {
            Err(error) if self.shaking && is_closed(&error) => {
                self.failed = Some(error);
                Poll::Ready(Ok(bytes.len()))
            }
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::io;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::LastWords;

    #[tokio::test]
    async fn what_a_server_said_before_it_closed_is_read_before_a_write_fails() {
        let (near, mut far) = tokio::io::duplex(64);
        far.write_all(b"alert").await.unwrap();
        drop(far);
        let mut stream = LastWords::new(near);
        stream.write_all(b"certificate").await.unwrap();
        let mut said = [0; 5];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"alert");
        assert_eq!(stream.read(&mut said).await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        stream.shaken();
        assert_eq!(stream.write_all(b"request").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
