//! A request that is sent piece by piece on a connection of its own, over either version of HTTP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use futures::future::{MaybeDone, maybe_done};
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{Method, Response};
use serde_json::Value;

use super::{Http1, Http2, PATIENCE, answer_of, send_all, send_part};
use crate::endpoint::{Endpoint, Version};

/// What the caller takes of an answer before it reads on, in bytes.
const WINDOW: u32 = 1 << 20;

/// A request whose head was sent.
pub struct Begun(Kind);

enum Kind {
    Http1(Http1),
    Http2(Box<Alone>),
}

/// A stream of a connection that has no other.
struct Alone {
    response: MaybeDone<ResponseFuture>,
    body: SendStream<Bytes>,
    /// Bytes of the body that were announced and not sent.
    left: usize,
    _connection: Http2,
}

impl Begun {
    /// Connects and sends the head of a POST that announces `length` bytes of body: one at least.
    pub async fn post(endpoint: impl Into<Endpoint>, version: Version, token: &str, path: &str, length: usize) -> Self {
        Self(match version {
            Version::Http1 => Kind::Http1(Http1::post(endpoint, token, path, length).await),
            Version::Http2 => {
                let connection = Http2::connect(endpoint, WINDOW).await;
                let (response, body) = connection.open(Method::POST, token, path).await;
                Kind::Http2(Box::new(Alone {
                    response: maybe_done(response),
                    body,
                    left: length,
                    _connection: connection,
                }))
            }
        })
    }

    /// Sends bytes of the body.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("the bytes are sent");
    }

    /// As [`Begun::send`].
    ///
    /// # Errors
    /// When the gateway wants no more, or has closed the connection.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Kind::Http1(request) => request.try_send(bytes).await,
            Kind::Http2(stream) => {
                stream.left -= bytes.len();
                send_part(&mut stream.body, Bytes::copy_from_slice(bytes), stream.left == 0).await
            }
        }
    }

    /// Sends the whole body while it waits for the answer, which may come before the gateway has all of it.
    pub async fn exchange(self, body: &[u8]) -> (u16, Value) {
        match self.0 {
            Kind::Http1(request) => {
                let exchanged = tokio::time::timeout(PATIENCE, request.try_exchange(body)).await;
                exchanged.expect("an answer in time").expect("an answer")
            }
            Kind::Http2(alone) => {
                let Alone {
                    response, body: stream, ..
                } = *alone;
                let sending = send_all(stream, Bytes::copy_from_slice(body));
                futures::join!(answer_of(head_of(response)), sending).0
            }
        }
    }

    /// Whether there is an answer, or the connection was closed.
    pub fn is_answered(&mut self) -> bool {
        match &mut self.0 {
            Kind::Http1(request) => request.is_answered(),
            Kind::Http2(stream) => {
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(&mut stream.response).poll(&mut cx).is_ready()
            }
        }
    }

    /// The answer: its status and body.
    pub async fn answer(self) -> (u16, Value) {
        match self.0 {
            Kind::Http1(request) => request.answer().await,
            Kind::Http2(stream) => answer_of(head_of(stream.response)).await,
        }
    }
}

async fn head_of(mut response: MaybeDone<ResponseFuture>) -> Result<Response<RecvStream>, h2::Error> {
    let mut response = Pin::new(&mut response);
    response.as_mut().await;
    response.take_output().expect("it was not taken")
}
