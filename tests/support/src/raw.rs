//! Requests of which an attacker sends as much as it likes, when it likes, over HTTP/1.1 and
//! HTTP/2.

mod begun;

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;

use crate::endpoint::{Endpoint, Stream, Version};

pub use begun::Begun;

/// Longer than anything in a test takes; one that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The longest head of an answer, in bytes.
const HEAD: usize = 4096;
/// How often a caller that reads nothing finds out whether its connection is open.
const KNOCK: Duration = Duration::from_secs(1);

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
        Self::try_open(endpoint, &Method::POST, token, path, length, "").await
    }

    /// As [`Http1::post`] with another method, and with more headers: whole lines.
    ///
    /// # Errors
    /// When the connection is refused or closed.
    pub async fn try_open(endpoint: &Endpoint, method: &Method, token: &str, path: &str, length: usize, more: &str) -> io::Result<Self> {
        let more = format!("{more}content-length: {length}\r\nconnection: close\r\n");
        let head = head(endpoint, method, token, path, &more);
        let mut stream = endpoint.connect(Version::Http1).await?;
        stream.write_all(head.as_bytes()).await?;
        Ok(Self(stream))
    }

    /// Connects and sends so many GETs at once. The gateway answers one after the other.
    ///
    /// # Errors
    /// When the connection is refused or closed.
    pub async fn try_get(endpoint: &Endpoint, token: &str, path: &str, count: usize) -> io::Result<Self> {
        let requests = head(endpoint, &Method::GET, token, path, "").repeat(count);
        let mut stream = endpoint.connect(Version::Http1).await?;
        stream.write_all(requests.as_bytes()).await?;
        Ok(Self(stream))
    }

    /// Connects and sends the head of a request whose body comes in chunks, and waits until the gateway asks
    /// for the body: it has read the credential then.
    pub async fn begin(endpoint: impl Into<Endpoint>, method: &Method, token: &str, path: &str, more: &str) -> Self {
        let endpoint = endpoint.into();
        let mut stream = endpoint.connect(Version::Http1).await.expect("a connection");
        let more = format!("{more}expect: 100-continue\r\ntransfer-encoding: chunked\r\nconnection: close\r\n");
        let head = head(&endpoint, method, token, path, &more);
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

    /// The head of the next answer, after which hardly anything is read.
    ///
    /// # Errors
    /// When the connection was closed instead.
    pub async fn try_head(&mut self) -> io::Result<Head> {
        let mut head = Vec::new();
        while !head.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            if head.len() > HEAD || self.0.read_buf(&mut (&mut head).limit(64)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Head::of(&head).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Sends bytes now and then, and reads nothing, until the gateway has closed the connection.
    pub async fn until_closed(mut self) {
        loop {
            tokio::time::sleep(KNOCK).await;
            if self.0.write_all(b"\r\n").await.is_err() {
                return;
            }
        }
    }

    /// Sends the body while it waits for the answer, which may come before the gateway has the whole of it; `None` where
    /// the connection was closed instead.
    pub async fn try_exchange(self, body: &[u8]) -> Option<(u16, Value)> {
        let (reader, mut writer) = tokio::io::split(self.0);
        let sending = async {
            let _ = writer.write_all(body).await;
            // As long as the answer is awaited, the connection is open.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = answer_from(reader) => answer,
            () = sending => None,
        }
    }

    /// The answer: its status and body.
    pub async fn answer(self) -> (u16, Value) {
        let answered = tokio::time::timeout(PATIENCE, self.try_answer()).await;
        answered.expect("an answer in time").expect("an answer")
    }

    /// The answer; `None` where the connection was closed instead.
    pub async fn try_answer(self) -> Option<(u16, Value)> {
        answer_from(self.0).await
    }
}

/// An answer, up to the end of its body: the connection may stay open for a while.
async fn answer_from(mut stream: impl AsyncRead + Unpin) -> Option<(u16, Value)> {
    let mut answer = Vec::new();
    let mut end = None;
    while end.is_none_or(|end| answer.len() < end) {
        // TLS may end without its farewell.
        if !matches!(stream.read_buf(&mut answer).await, Ok(1..)) {
            break;
        }
        if end.is_none() {
            end = end_of(&answer);
        }
    }
    let text = String::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = Head::of(head.as_bytes())?.status;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

/// Where an answer ends that begins so, if its head has come and says it.
fn end_of(answer: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(answer);
    let (head, _) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    Some(head.len() + 4 + length.parse::<usize>().ok()?)
}

/// What the head of an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Whether it has `Retry-After`.
    pub retry_after: bool,
}

impl Head {
    /// Of HTTP/1.1; `None` of what is none.
    fn of(head: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(head);
        Some(Self {
            status: text.split(' ').nth(1)?.parse().ok()?,
            retry_after: text.to_ascii_lowercase().contains("\r\nretry-after:"),
        })
    }
}

impl<T> From<&Response<T>> for Head {
    fn from(response: &Response<T>) -> Self {
        Self {
            status: response.status().as_u16(),
            retry_after: response.headers().contains_key("retry-after"),
        }
    }
}

/// The head of a request of HTTP/1.1; `token` may be empty for none, `more` are whole lines.
fn head(endpoint: &Endpoint, method: &Method, token: &str, path: &str, more: &str) -> String {
    let credential = match token {
        "" => String::new(),
        token => format!("authorization: Bearer {token}\r\n"),
    };
    let forwarded = forwarded(endpoint);
    format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n{credential}content-type: application/json\r\n{forwarded}{more}\r\n")
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
    /// Without a sender once it is closed.
    open: watch::Receiver<()>,
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
        let stream = endpoint.connect(Version::Http2).await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (send, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
        let (opened, open) = watch::channel(());
        tokio::spawn(async move {
            let _ = connection.await;
            drop(opened);
        });
        Ok(Self {
            send,
            endpoint: endpoint.clone(),
            open,
        })
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        // Nothing is sent, so this ends with the sender.
        let _ = self.open.clone().changed().await;
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
pub async fn answer_of(response: impl Future<Output = Result<Response<RecvStream>, h2::Error>>) -> (u16, Value) {
    let answered = tokio::time::timeout(PATIENCE, try_answer_of(response)).await;
    answered.expect("an answer in time").expect("an answer")
}

/// As [`answer_of`].
///
/// # Errors
/// When the stream or the connection was closed instead.
pub async fn try_answer_of(response: impl Future<Output = Result<Response<RecvStream>, h2::Error>>) -> Result<(u16, Value), h2::Error> {
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
pub async fn send_all(mut stream: SendStream<Bytes>, body: Bytes) {
    let _ = send_part(&mut stream, body, true).await;
}

/// Sends a part of a body as the window of its stream opens.
///
/// # Errors
/// When the gateway wants no more.
async fn send_part(stream: &mut SendStream<Bytes>, mut part: Bytes, is_last: bool) -> io::Result<()> {
    while !part.is_empty() {
        stream.reserve_capacity(part.len().min(1 << 16));
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let bytes = part.split_to(room.min(part.len()));
        stream.send_data(bytes, is_last && part.is_empty()).map_err(io::Error::other)?;
    }
    Ok(())
}
