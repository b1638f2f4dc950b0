//! A connection that overwrites the rest of a buffer before it reads into it.
//!
//! TLS decrypts a record in the buffer that it was read into, and uses that buffer for the next record. A record's
//! plaintext would stay in it for as long as nothing longer arrives, which on an idle connection is until it is closed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use zeroize::Zeroize;

/// Reads from `T`, and overwrites what it reads into: also where there is nothing to read yet.
pub struct Overwriting<T>(pub(super) T);

impl<T: AsyncRead + Unpin> AsyncRead for Overwriting<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.initialize_unfilled().zeroize();
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Overwriting<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use tokio::io::{AsyncRead, ReadBuf};

    use super::Overwriting;

    #[tokio::test]
    async fn what_a_buffer_held_is_gone_although_nothing_is_read() {
        let (near, _far) = tokio::io::duplex(8);
        let mut stream = Overwriting(near);
        let mut bytes = *b"plaintext";
        let read = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut ReadBuf::new(&mut bytes)))).await;
        assert!(read.is_pending());
        assert_eq!(bytes, [0; 9]);
    }
}
