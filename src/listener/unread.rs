//! What is left of a request's body when its response is ready, over HTTP/1.
//!
//! The next request of a connection begins after the body of the one before. A response to a body that
//! was not read to its end is therefore the connection's last one. It says so, so that the client
//! does not send another request on it (RFC 9112, 9.6), and the socket stays open for a moment:
//! closed at once while bytes arrive, TCP resets it, and the client can lose the response.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How long the socket stays open for a client that still sends.
const STAYS_OPEN: Duration = Duration::from_secs(2);
/// The bytes of a refused body that are still read. The others stay with the peer.
const STILL_READ: usize = 1 << 20;

/// The body of a request, which notes whether anybody asked for it: hyper sends `100 Continue` then.
pub struct RequestBody {
    incoming: Incoming,
    asked: bool,
}

impl From<Incoming> for RequestBody {
    fn from(incoming: Incoming) -> Self {
        Self { incoming, asked: false }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.asked = true;
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Announces the connection's end in the response's headers, unless all of the body has arrived. `expects` says
/// that the client waits for `100 Continue` before it sends its body.
pub(super) async fn conclude(mut body: RequestBody, headers: &mut HeaderMap, expects: bool) {
    // A client that got no `100 Continue` has not sent its body, and does not once it has a response.
    if expects && !body.asked {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if !has_arrived(&mut body).await {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        tokio::spawn(stay_open(body));
    }
}

/// Whether the body ends with what has arrived, which is read.
async fn has_arrived(body: &mut RequestBody) -> bool {
    let mut read = 0;
    // hyper reads on when this task is polled again after the body was asked for.
    let mut asked = false;
    while read < STILL_READ {
        match futures::poll!(body.frame()) {
            Poll::Ready(None) => return true,
            Poll::Ready(Some(Ok(frame))) => {
                read += frame.data_ref().map_or(0, Bytes::len);
                asked = false;
            }
            Poll::Ready(Some(Err(_))) => return false,
            Poll::Pending if asked => return false,
            Poll::Pending => {
                asked = true;
                tokio::task::yield_now().await;
            }
        }
        if body.is_end_stream() {
            return true;
        }
    }
    false
}

/// Ends when the peer has sent its body or closed, at the latest after [`STAYS_OPEN`]; hyper closes the
/// socket then.
async fn stay_open(mut body: RequestBody) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > STILL_READ {
                std::future::pending::<()>().await;
            }
        }
    };
    let _ = tokio::time::timeout(STAYS_OPEN, reading).await;
}
