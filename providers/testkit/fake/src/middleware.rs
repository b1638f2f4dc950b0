//! The middleware in front of every fake: journal, fault injection, control endpoints.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::merge;
use crate::{Act, Caller, Fault, RecordedRequest, Switches};

/// The longest request or response body that is read, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// The path prefix of the control endpoints.
const CONTROL: &str = "/_fake/";

/// A vendor's format of responses that every service has.
pub trait Dialect: Send + Sync + 'static {
    /// The response to a throttled request; the middleware adds `Retry-After`.
    fn throttled(&self) -> Response;
    /// The response during an outage.
    fn unavailable(&self) -> Response;
}

/// The state of the middleware.
pub(crate) struct FakeLayer {
    pub(crate) switches: Switches,
    pub(crate) dialect: Box<dyn Dialect>,
}

/// The control endpoints that all fakes share.
pub(crate) fn control(switches: Switches) -> Router {
    Router::new()
        .route("/_fake/journal", get(journal).delete(clear_journal))
        .route("/_fake/faults", get(faults).put(set_faults))
        .route("/_fake/clock", post(advance))
        .route("/_fake/appearance", put(hide_new_keys))
        .with_state(switches)
}

async fn journal(State(switches): State<Switches>) -> Json<Vec<RecordedRequest>> {
    Json(switches.journal.all())
}

async fn clear_journal(State(switches): State<Switches>) -> StatusCode {
    switches.journal.clear();
    StatusCode::NO_CONTENT
}

async fn faults(State(switches): State<Switches>) -> Json<Vec<Fault>> {
    Json(switches.faults.all())
}

async fn set_faults(State(switches): State<Switches>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    switches.faults.set(faults);
    StatusCode::NO_CONTENT
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    seconds: u64,
}

async fn advance(State(switches): State<Switches>, Json(Advance { seconds }): Json<Advance>) -> StatusCode {
    switches.clock.advance(Duration::from_secs(seconds));
    StatusCode::NO_CONTENT
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HideNewKeys {
    reads: u32,
}

async fn hide_new_keys(State(switches): State<Switches>, Json(HideNewKeys { reads }): Json<HideNewKeys>) -> StatusCode {
    switches.appearance.hide_new_keys(reads);
    StatusCode::NO_CONTENT
}

/// A body for the journal.
fn recorded_body(headers: &HeaderMap, body: &Bytes) -> Value {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match kind {
        Some(kind) if kind.starts_with("application/x-www-form-urlencoded") => String::from_utf8_lossy(body).into(),
        Some(_) | None => serde_json::from_slice(body).unwrap_or(Value::Null),
    }
}

/// Records a request, applies its fault if there is one, and otherwise calls the service.
pub(crate) async fn intercept(State(layer): State<Arc<FakeLayer>>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with(CONTROL) {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let in_header = || parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(|authority| authority.as_str()).or_else(in_header);
    let journal = Arc::clone(&layer.switches.journal);
    let number = journal.begin(RecordedRequest {
        number: 0,
        method: method.clone(),
        host: host.unwrap_or_default().to_owned(),
        path: path.clone(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        caller: None,
        body: recorded_body(&parts.headers, &body),
        status: None,
    });
    let act = layer.switches.faults.next(&method, &path);
    let serve = next.run(Request::from_parts(parts, Body::from(body)));
    let response = match act {
        None => serve.await,
        Some(Act::Delay { milliseconds }) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            serve.await
        }
        Some(Act::Hang) => std::future::pending().await,
        Some(Act::Throttle { retry_after }) => {
            let mut response = layer.dialect.throttled();
            if let Some(seconds) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
        Some(Act::Unavailable) => layer.dialect.unavailable(),
        Some(Act::Respond { status, headers, body }) => fixed(status, headers, body),
        Some(Act::Change { patch }) => changed(serve.await, patch).await,
        Some(Act::BreakOff) => {
            // The operation took effect, but its response is lost.
            drop(serve.await);
            return truncated();
        }
    };
    let caller = response.extensions().get::<Caller>().cloned();
    journal.end(number, response.status().as_u16(), caller);
    response
}

fn fixed(status: u16, headers: impl IntoIterator<Item = (String, String)>, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn changed(response: Response, patch: Value) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let mut document: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    merge(&mut document, patch);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(document.to_string()))
}

/// A response whose connection breaks within the body.
fn truncated() -> Response {
    let chunks = [
        Ok(Bytes::from_static(b"{\"name\": \"")),
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "connection broken by a fault")),
    ];
    let mut response = Response::new(Body::from_stream(stream::iter(chunks)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
