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

    /// Sends the head of a request; `token` may be empty for none. The body is sent with the handle.
    pub async fn open(&self, method: Method, token: &str, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.0.clone().ready().await.unwrap();
        let mut request = Request::builder().method(method).uri(format!("http://gateway{path}"));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
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
