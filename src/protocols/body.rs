//! The body of a request, within a size and a time.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;

use super::admission::{PARSING, refused};
use crate::broker::{Code, Failure};
use crate::listener::{Held, RequestBody, UNREAD_OF_STREAM};

/// Pauses are at least as long, since a timer is no finer.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// Reads the whole body. `held` grows by each part that has arrived, and by what parsing it takes. A long
/// body is read at its tenant's rate.
///
/// # Errors
/// `rate_limited` and `not_ready` when the budget has no more bytes, `too_large` over `limit` bytes, `deadline_exceeded` after the deadline, `invalid_request` when
/// the peer stops in the middle.
pub(super) async fn read(body: &mut RequestBody, limit: usize, deadline: Instant, held: &mut Held) -> Result<Bytes, Failure> {
    // A body that announces its excess is refused without reading it.
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut reading = pin!(collect(body, limit, held));
    // Most bodies arrive together with the head: they need no timer.
    match futures::poll!(reading.as_mut()) {
        Poll::Ready(read) => read,
        Poll::Pending => match tokio::time::timeout_at(deadline.into(), reading).await {
            Ok(read) => read,
            Err(_) => Err(Failure::deadline()),
        },
    }
}

async fn collect(body: &mut RequestBody, limit: usize, held: &mut Held) -> Result<Bytes, Failure> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let Ok(frame) = frame else {
            return Err(Failure::invalid("", "a whole body"));
        };
        // Trailers mean nothing here.
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + whole.len() + data.len() > limit {
            return Err(too_large());
        }
        held.grow(data.len() * PARSING).map_err(refused)?;
        if first.is_empty() && whole.is_empty() {
            // Used as it is if it is the only one.
            first = data;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&data);
            // What is not read stays with the peer once the window of its stream is full. Until then it arrives, and a
            // tenant could have that on every connection.
            let pause = held.pause_after(data.len());
            if pause >= LEAST_PAUSE {
                held.grow(UNREAD_OF_STREAM as usize).map_err(refused)?;
                tokio::time::sleep(pause).await;
                held.shrink(UNREAD_OF_STREAM as usize);
            }
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

fn too_large() -> Failure {
    Failure::new(Code::TooLarge, "The body is larger than this route takes.")
}
