//! What no real gateway can show: times and outcomes by a script, and every call beside the document.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

mod document;
mod models;
mod retries;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::client::ClientBuilder;
use crate::error::{Error, Result};
use crate::models::ErrorCode;
use crate::transport::{Incoming, Outgoing, Sent, Transport};
use crate::{Client, ErrorKind};

const TOKEN: &str = "clv_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const OTHER_TOKEN: &str = "clv_cccccccccccc_ddddddddddddddddddddddddddddddddddddddddddddddddd";

type Outcome = Box<dyn Fn() -> Result<Incoming> + Send + Sync>;

/// Plays the part of the network: each request has the next of the outcomes, or the last one again and again.
#[derive(Clone)]
struct Script(Arc<Played>);

struct Played {
    outcomes: Vec<Outcome>,
    /// How long each takes.
    takes: Duration,
    requests: Mutex<Vec<(Outgoing, Instant)>>,
}

impl Script {
    fn of(outcomes: Vec<Outcome>) -> Self {
        Self::slow(outcomes, Duration::ZERO)
    }

    fn slow(outcomes: Vec<Outcome>, takes: Duration) -> Self {
        let requests = Mutex::default();
        Self(Arc::new(Played { outcomes, takes, requests }))
    }

    /// A client of it, whose random pauses are as long as they can be.
    fn client(&self, builder: ClientBuilder) -> Client {
        builder.build_on(Box::new(self.clone()), |longest| longest).unwrap()
    }

    fn count(&self) -> usize {
        self.0.requests.lock().unwrap().len()
    }

    fn headers(&self, name: &str) -> Vec<Option<String>> {
        let requests = self.0.requests.lock().unwrap();
        let value = |request: &Outgoing| Some(request.headers.get(name)?.to_str().unwrap().to_owned());
        requests.iter().map(|(request, _)| value(request)).collect()
    }

    /// The times between an outcome and the next request, in milliseconds.
    fn pauses(&self) -> Vec<u128> {
        let requests = self.0.requests.lock().unwrap();
        let pairs = requests.windows(2);
        pairs.map(|pair| (pair[1].1 - pair[0].1 - self.0.takes).as_millis()).collect()
    }

    fn with_request<T>(&self, index: usize, read: impl FnOnce(&Outgoing) -> T) -> T {
        read(&self.0.requests.lock().unwrap()[index].0)
    }
}

impl Transport for Script {
    fn send(&self, request: Outgoing) -> Sent<'_> {
        Box::pin(async move {
            let count = {
                let mut requests = self.0.requests.lock().unwrap();
                requests.push((request, Instant::now()));
                requests.len()
            };
            sleep(self.0.takes).await;
            self.0.outcomes[count.min(self.0.outcomes.len()) - 1]()
        })
    }
}

fn builder() -> ClientBuilder {
    Client::builder("http://localhost").token(TOKEN)
}

fn incoming(status: u16, kind: &str, body: &str, headers: &[(&'static str, &str)]) -> Incoming {
    let mut all = HeaderMap::new();
    all.insert("content-type", HeaderValue::from_str(kind).unwrap());
    for (name, value) in headers {
        all.insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    Incoming {
        status,
        headers: all,
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}

fn responds(status: u16, kind: &'static str, body: impl Into<String>, headers: &'static [(&'static str, &'static str)]) -> Outcome {
    let body = body.into();
    Box::new(move || Ok(incoming(status, kind, &body, headers)))
}

fn refusal(status: u16, code: &str, retryable: bool, headers: &'static [(&'static str, &'static str)]) -> Outcome {
    let problem = json!({"code": code, "detail": "D.", "title": "T", "status": status, "request_id": "r", "retryable": retryable});
    responds(status, "application/problem+json", problem.to_string(), headers)
}

fn limited() -> Outcome {
    refusal(429, "rate_limited", true, &[])
}

/// The connection ends after the request was sent.
fn lost() -> Outcome {
    Box::new(|| {
        let error = Error::new(ErrorCode::ConnectionLost, "Connection lost", "It ended.");
        Err(error.with(|parts| {
            parts.retryable = true;
            parts.maybe_executed = true;
        }))
    })
}

/// There is no connection.
fn refused() -> Outcome {
    Box::new(|| {
        let error = Error::new(ErrorCode::GatewayUnreachable, "Gateway unreachable", "Refused.");
        Err(error.with(|parts| parts.retryable = true))
    })
}

fn success() -> Outcome {
    let headers = &[("x-request-id", "0193"), ("claviger-audit-index", "log#1")];
    responds(200, "application/json", key(json!({})).to_string(), headers)
}

/// The members of a key, with changes.
fn key(changes: Value) -> Value {
    let mut key = json!({
        "allow_export": false, "cache": {"max_age": "60s"}, "connection": "embedded", "created": "2026-11-23T15:04:05.000001Z",
        "custody": "provider", "etag": "\"3\"", "id": "3f6a9d2c5b8e1f40a7d3c6b9e2f5a8d1", "labels": {"env": "prod"},
        "managed_by": null, "name": "orders", "primary_version": 2, "provider": "local", "provider_key": "x",
        "rotation": {"state": "idle"}, "spec": "aes-256", "state": "enabled", "tenant": "7d865e959b2466918c9863afca942d0f",
        "updated": "2026-11-23T15:04:05Z",
    });
    for (name, value) in changes.as_object().unwrap() {
        key[name] = value.clone();
    }
    key
}

#[track_caller]
fn failed<T>(result: Result<T>, kind: ErrorKind) -> Error {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            error
        }
    }
}
