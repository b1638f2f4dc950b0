//! Requests of which an attacker sends as much as it likes, when it likes, over HTTP/1.1 and
//! HTTP/2.

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use crate::endpoint::{Endpoint, Stream};

/// Longer than anything in a test takes; one that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A request of HTTP/1.1 whose head was sent.
pub struct Http1(Stream);

impl Http1 {
    /// Connects and sends the head of a POST that announces `length` bytes of body.
    pub async fn post(endpoint: impl Into<Endpoint>, token: &str, path: &str, length: usize) -> Self {
        let posted = Self::try_post(&endpoint.into(), token, path, length).await;
        posted.expect("the head is sent")
    }

    /// As [`Http1::post`].
    ///
    /// # Errors
    /// When the connection is refused or closed.
    pub async fn try_post(endpoint: &Endpoint, token: &str, path: &str, length: usize) -> io::Result<Self> {
        let more = forwarded(endpoint);
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n"
        );
        let mut stream = endpoint.connect("http/1.1").await?;
        stream.write_all(head.as_bytes()).await?;
        Ok(Self(stream))
    }

    /// Connects and sends the head of a request whose body comes in chunks, and waits until the gateway asks
    /// for the body: it has read the credential then.
    pub async fn begin(endpoint: impl Into<Endpoint>, method: &Method, token: &str, path: &str, more: &str) -> Self {
        let endpoint = endpoint.into();
        let mut stream = endpoint.connect("http/1.1").await.expect("a connection");
        let more = format!("{more}{}", forwarded(&endpoint));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}expect: 100-continue\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the head is sent");
        let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        let reading = stream.read_exact(&mut asked);
        tokio::time::timeout(PATIENCE, reading).await.expect("it asks").expect("an answer");
        assert!(asked.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&asked));
        Self(stream)
    }

    /// Sends a chunk of the body; an empty one ends it.
    pub async fn chunk(&mut self, bytes: &[u8]) {
        self.send(format!("{:x}\r\n", bytes.len()).as_bytes()).await;
        self.send(bytes).await;
        self.send(b"\r\n").await;
    }

    /// Sends bytes of the body.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("the bytes are sent");
    }

    /// As [`Http1::send`].
    ///
    /// # Errors
    /// When the gateway has closed the connection.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Whether there is an answer, or the connection was closed.
    pub fn is_answered(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(&mut self.0).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_ready()
    }

    /// The answer: its status and body.
    pub async fn answer(self) -> (u16, Value) {
        let answered = tokio::time::timeout(PATIENCE, self.try_answer()).await;
        answered.expect("an answer in time").expect("an answer")
    }

    /// The answer; `None` where the connection was closed instead.
    pub async fn try_answer(mut self) -> Option<(u16, Value)> {
        let mut answer = Vec::new();
        // TLS may end without its farewell.
        let _ = self.0.read_to_end(&mut answer).await;
        let text = String::from_utf8(answer).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}

/// The header that a proxy adds, as a line; empty without a proxy.
fn forwarded(endpoint: &Endpoint) -> String {
    let header = endpoint.forwarded();
    header.map_or_else(String::new, |(name, client)| format!("{name}: {client}\r\n"))
}

/// A connection of HTTP/2.
#[derive(Clone)]
pub struct Http2 {
    send: SendRequest<Bytes>,
    endpoint: Endpoint,
}

impl Http2 {
    /// Connects with this window for each stream and for the connection, in bytes: 0 takes no body.
    pub async fn connect(endpoint: impl Into<Endpoint>, window: u32) -> Self {
        Self::try_connect(&endpoint.into(), window).await.expect("a connection")
    }

    /// As [`Http2::connect`].
    ///
    /// # Errors
    /// When the connection is refused or closed.
    pub async fn try_connect(endpoint: &Endpoint, window: u32) -> io::Result<Self> {
        let stream = endpoint.connect("h2").await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (send, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self {
            send,
            endpoint: endpoint.clone(),
        })
    }

    /// Sends a whole request; a null body is none.
    pub async fn whole(&self, method: Method, token: &str, path: &str, body: &Value) -> ResponseFuture {
        let (response, mut sending) = self.open(method, token, path).await;
        let bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        sending.send_data(bytes, true).expect("the body is sent");
        response
    }

    /// As [`Http2::whole`], with `if-match: *`.
    pub async fn with_etag(&self, method: &Method, token: &str, path: &str, body: &Value) -> ResponseFuture {
        let (response, mut sending) = self.open_with(method.clone(), token, path, Some("*")).await;
        let bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        sending.send_data(bytes, true).expect("the body is sent");
        response
    }

    /// Sends the head of a request; `token` may be empty for none. The body is sent with the handle.
    pub async fn open(&self, method: Method, token: &str, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        self.open_with(method, token, path, None).await
    }

    /// As [`Http2::open`], with a value of `if-match`.
    pub async fn open_with(&self, method: Method, token: &str, path: &str, etag: Option<&str>) -> (ResponseFuture, SendStream<Bytes>) {
        let opened = self.try_open(method, token, path, etag).await;
        opened.expect("the head is sent")
    }

    /// As [`Http2::open_with`].
    ///
    /// # Errors
    /// When the gateway has closed the connection.
    pub async fn try_open(
        &self,
        method: Method,
        token: &str,
        path: &str,
        etag: Option<&str>,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut ready = self.send.clone().ready().await?;
        let mut request = Request::builder().method(method).uri(format!("http://gateway{path}"));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(etag) = etag {
            request = request.header("if-match", etag);
        }
        if let Some((name, client)) = self.endpoint.forwarded() {
            request = request.header(name, client);
        }
        let request = request.header("content-type", "application/json").body(()).expect("a request");
        ready.send_request(request, false)
    }

    /// Requests a page: the whole request is sent. Dropping what comes back resets the stream.
    pub async fn get(&self, token: &str, path: &str) -> ResponseFuture {
        self.try_get(token, path).await.expect("the request is sent")
    }

    /// As [`Http2::get`].
    ///
    /// # Errors
    /// When the gateway has closed the connection.
    pub async fn try_get(&self, token: &str, path: &str) -> Result<ResponseFuture, h2::Error> {
        let (response, mut body) = self.try_open(Method::GET, token, path, None).await?;
        body.send_data(Bytes::new(), true)?;
        Ok(response)
    }
}

/// The head of an answer, whose body is not read as long as it is kept.
pub async fn head_of(response: ResponseFuture) -> Response<RecvStream> {
    let head = tokio::time::timeout(PATIENCE, response).await.expect("an answer in time");
    head.expect("an answer")
}

/// The whole answer of a stream: its status and body.
pub async fn answer_of(response: ResponseFuture) -> (u16, Value) {
    let answered = tokio::time::timeout(PATIENCE, try_answer_of(response)).await;
    answered.expect("an answer in time").expect("an answer")
}

/// As [`answer_of`].
///
/// # Errors
/// When the stream or the connection was closed instead.
pub async fn try_answer_of(response: ResponseFuture) -> Result<(u16, Value), h2::Error> {
    let response = response.await?;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
}

/// Sends a body as the window of its stream opens. Stops when the gateway wants no more.
pub async fn send_all(mut stream: SendStream<Bytes>, mut body: Bytes) {
    while !body.is_empty() {
        stream.reserve_capacity(body.len().min(1 << 16));
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return;
        };
        let part = body.split_to(room.min(body.len()));
        if stream.send_data(part, body.is_empty()).is_err() {
            return;
        }
    }
}
