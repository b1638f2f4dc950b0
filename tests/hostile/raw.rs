//! Requests of which an attacker sends as much as it likes, when it likes, over HTTP/1.1 and
//! HTTP/2.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::world::PATIENCE;

/// A request of HTTP/1.1 whose head was sent.
pub struct Http1(TcpStream);

impl Http1 {
    /// Connects and sends the head of a POST that announces `length` bytes of body.
    pub async fn post(address: SocketAddr, token: &str, path: &str, length: usize) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// Connects and sends the head of a request whose body comes in chunks, and waits until the gateway asks
    /// for the body: it has read the credential then.
    pub async fn begin(address: SocketAddr, method: &Method, token: &str, path: &str, more: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{more}expect: 100-continue\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
        let reading = stream.read_exact(&mut asked);
        tokio::time::timeout(PATIENCE, reading).await.expect("it asks").unwrap();
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
        self.0.write_all(bytes).await.unwrap();
    }

    /// Whether there is an answer, or the connection was closed.
    pub fn is_answered(&self) -> bool {
        let nothing_yet = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        !self.0.try_read(&mut [0]).is_err_and(nothing_yet)
    }

    /// The answer: its status and body.
    pub async fn answer(mut self) -> (u16, Value) {
        let mut answer = Vec::new();
        let reading = self.0.read_to_end(&mut answer);
        tokio::time::timeout(PATIENCE, reading).await.expect("an answer").unwrap();
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }
}

/// A connection of HTTP/2.
pub struct Http2(SendRequest<Bytes>);

impl Http2 {
    /// Connects with this window for each stream and for the connection, in bytes: 0 takes no body.
    pub async fn connect(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window);
        let (send, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Sends a whole request; a null body is none.
    pub async fn whole(&self, method: Method, token: &str, path: &str, body: &Value) -> ResponseFuture {
        let (response, mut sending) = self.open(method, token, path).await;
        let bytes = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        sending.send_data(bytes, true).unwrap();
        response
    }

    /// Sends the head of a request; `token` may be empty for none. The body is sent with the handle.
    pub async fn open(&self, method: Method, token: &str, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        self.open_with(method, token, path, None).await
    }

    /// As [`Http2::open`], with a value of `if-match`.
    pub async fn open_with(&self, method: Method, token: &str, path: &str, etag: Option<&str>) -> (ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.0.clone().ready().await.unwrap();
        let mut request = Request::builder().method(method).uri(format!("http://gateway{path}"));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(etag) = etag {
            request = request.header("if-match", etag);
        }
        let request = request.header("content-type", "application/json").body(()).unwrap();
        ready.send_request(request, false).unwrap()
    }
}

impl Http2 {
    /// Requests a page: the whole request is sent. Dropping what comes back resets the stream.
    pub async fn get(&self, token: &str, path: &str) -> ResponseFuture {
        let (response, mut body) = self.open(Method::GET, token, path).await;
        body.send_data(Bytes::new(), true).unwrap();
        response
    }
}

/// The head of an answer, whose body is not read as long as it is kept.
pub async fn head_of(response: ResponseFuture) -> Response<RecvStream> {
    tokio::time::timeout(PATIENCE, response).await.expect("an answer").unwrap()
}

/// The whole answer of a stream: its status and body.
pub async fn answer_of(response: ResponseFuture) -> (u16, Value) {
    let response = head_of(response).await;
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
