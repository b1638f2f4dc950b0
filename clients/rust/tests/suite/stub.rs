//! A small server that answers what it is told, byte by byte.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use claviger_client::{Client, ClientBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::support::TOKEN;

/// What the server does with a request.
#[derive(Clone)]
pub enum Answer {
    /// Sends these bytes, and closes the connection.
    Bytes(Vec<u8>),
    /// Sends these bytes, and then a space again and again.
    Trickle(Vec<u8>),
    /// Sends nothing, and keeps the connection.
    Silence,
}

/// Closes the connection.
pub const CLOSE: Answer = Answer::Bytes(Vec::new());

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The first line.
    pub line: String,
    /// By names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// Answers each request with the next of the answers, and repeats the last one. It closes the connection after each.
pub struct Stub {
    pub address: String,
    state: Arc<Mutex<State>>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    answers: Vec<Answer>,
    seen: Vec<Seen>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stub {
    pub async fn new(answers: Vec<Answer>) -> Self {
        Self::over(answers, None).await
    }

    pub async fn over(answers: Vec<Answer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { answers, seen: Vec::new() }));
        let of_server = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (tls, state) = (tls.clone(), Arc::clone(&of_server));
                tokio::spawn(async move {
                    match tls {
                        Some(tls) => {
                            // A client that does not trust it ends the connection.
                            if let Ok(connection) = tls.accept(connection).await {
                                serve(connection, &state).await;
                            }
                        }
                        None => serve(connection, &state).await,
                    }
                });
            }
        });
        Self { address, state, accepting }
    }

    /// A client of it with a token, and without pauses that matter.
    pub fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    pub fn builder(&self) -> ClientBuilder {
        Client::builder(&self.address).token(TOKEN)
    }

    /// Gives other answers, which the next request begins with.
    pub fn set(&self, answers: Vec<Answer>) {
        let mut state = self.state.lock().unwrap();
        let before = vec![CLOSE; state.seen.len()];
        state.answers = [before, answers].concat();
    }

    pub fn count(&self) -> usize {
        self.seen().len()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }
}

async fn serve(mut connection: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>) {
    let Some(seen) = read(&mut connection).await else {
        // TLS, without being asked for, is answered as web servers do. Of a connection that is gone nobody reads it.
        let _ = connection.write_all(&response(400, "text/plain", "plain HTTP only", &[])).await;
        return;
    };
    let answer = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen);
        let last = state.answers.len() - 1;
        state.answers[last.min(state.seen.len() - 1)].clone()
    };
    // The client may be gone already, as it should be after a deadline.
    match answer {
        Answer::Bytes(bytes) => {
            let _ = connection.write_all(&bytes).await;
            let _ = connection.shutdown().await;
        }
        Answer::Trickle(bytes) => {
            let _ = connection.write_all(&bytes).await;
            while connection.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Answer::Silence => {
            // To the end of the connection.
            let _ = connection.read_to_end(&mut Vec::new()).await;
        }
    }
}

async fn read(connection: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let mut buffer = [0; 4096];
        let count = connection.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        if bytes[0] == 0x16 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = bytes[end + 4..].to_vec();
    let length: usize = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let read = body.len();
    body.resize(length, 0);
    connection.read_exact(&mut body[read..]).await.ok()?;
    Some(Seen { line, headers, body })
}

/// A response that says another length than the true one.
pub fn response_of_length(status: u16, kind: &str, body: &str, length: usize, headers: &[&str]) -> Vec<u8> {
    let more: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n{body}").into_bytes()
}

/// A response; `headers` are lines.
pub fn response(status: u16, kind: &str, body: &str, headers: &[&str]) -> Vec<u8> {
    response_of_length(status, kind, body, body.len(), headers)
}

pub fn responds(status: u16, kind: &str, body: &str) -> Answer {
    Answer::Bytes(response(status, kind, body, &[]))
}

pub fn object(value: &Value) -> Answer {
    responds(200, "application/json", &value.to_string())
}

pub fn problem(code: &str, status: u16, retryable: bool) -> Answer {
    let problem = json!({
        "type": format!("urn:claviger:error:{code}"), "title": "Title", "status": status, "detail": "Detail.", "code": code,
        "request_id": "0193", "retryable": retryable,
    });
    responds(status, "application/problem+json", &problem.to_string())
}

/// The members of a key.
pub fn key() -> Value {
    json!({
        "allow_export": false, "cache": {"max_age": "60s"}, "connection": "embedded", "created": "2026-11-23T15:04:05.000001Z",
        "custody": "provider", "etag": "\"3\"", "id": "3f6a9d2c5b8e1f40a7d3c6b9e2f5a8d1", "labels": {"env": "prod"},
        "managed_by": null, "name": "orders", "primary_version": 2, "provider": "local", "provider_key": "x",
        "rotation": {"state": "idle"}, "spec": "aes-256", "state": "enabled", "tenant": "7d865e959b2466918c9863afca942d0f",
        "updated": "2026-11-23T15:04:05Z",
    })
}

/// The members of an unwrapped key with this plaintext in base64.
pub fn unwrapped(plaintext: &str) -> Value {
    json!({"plaintext": plaintext, "key": "orders", "version": 1, "cached": false})
}
