//! The body of a response: one buffer, the deadline after which it must not be written, and the bytes
//! that it takes of the budget until then.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Buf;
use hyper::body::{Frame, SizeHint};

use super::budget::Held;
use super::unwritten::{Unwritten, UnwrittenResponses};

/// What an answer takes beside its body, in bytes: its head, and the state of its stream.
const OVERHEAD: usize = 1 << 10;

/// A response's body.
#[derive(Default)]
pub struct Body {
    bytes: Bytes,
    deadline: Option<Instant>,
    unwritten: Option<Unwritten>,
    held: Option<Held>,
}

enum Bytes {
    Owned(Vec<u8>),
    Static(&'static [u8]),
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Static(&[])
    }
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Static(bytes) => bytes,
        }
    }
}

impl Body {
    /// Must not be written after this moment. The listener compares it before each write to the
    /// connection, the head's included, and closes the connection once it has passed.
    #[must_use]
    pub const fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The budget has these bytes, which become those of this body, until it is written or dropped.
    pub fn hold(&mut self, mut held: Held) {
        held.resize(self.cost());
        self.held = Some(held);
    }

    /// What it takes of the budget, in bytes. All answers share a static body.
    pub fn cost(&self) -> usize {
        match &self.bytes {
            Bytes::Owned(bytes) => OVERHEAD + bytes.capacity(),
            Bytes::Static(_) => OVERHEAD,
        }
    }

    /// Leaves the head alone to send; returns how long the rest was.
    pub fn cut(&mut self) -> usize {
        let length = self.as_slice().len();
        self.bytes = Bytes::default();
        length
    }

    /// It belongs to a response that was handed over.
    pub fn of_handed_over(&mut self, unwritten: Unwritten) {
        self.unwritten = Some(unwritten);
    }

    /// The bytes that are left to send.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Registers the response, if it has bytes or a deadline, with the connection that will write it. One that was
    /// handed over is registered already.
    pub(super) fn register(&mut self, responses: &Arc<UnwrittenResponses>) {
        if let Some(unwritten) = &mut self.unwritten {
            unwritten.begin(self.deadline);
            return;
        }
        let counts = self.deadline.is_some() || !self.as_slice().is_empty();
        self.unwritten = counts.then(|| responses.register(self.deadline));
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes: Bytes::Owned(bytes),
            ..Self::default()
        }
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self {
            bytes: Bytes::Static(bytes),
            ..Self::default()
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Chunk>, Infallible>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let chunk = Chunk {
            bytes: std::mem::take(&mut self.bytes),
            written: 0,
            unwritten: self.unwritten.take(),
            held: self.held.take(),
        };
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_slice().is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_slice().len() as u64)
    }
}

/// A body on its way to the connection.
pub struct Chunk {
    bytes: Bytes,
    written: usize,
    unwritten: Option<Unwritten>,
    held: Option<Held>,
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.as_slice().len() - self.written
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes.as_slice()[self.written..]
    }

    fn advance(&mut self, count: usize) {
        let count = count.min(self.remaining());
        self.written += count;
        if let Some(unwritten) = &self.unwritten {
            unwritten.took(count);
        }
        if self.remaining() == 0 {
            if let Some(unwritten) = self.unwritten.take() {
                unwritten.handed_on();
            }
            self.held = None;
        }
    }
}
