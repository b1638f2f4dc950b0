//! What stands in front of a service: the journal, the faults, and their control.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::merge;
use crate::{Act, Asked, Caller, Fault, Switches};

/// The longest body of a request or of an answer that is looked into.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// What the paths of the control begin with.
const CONTROL: &str = "/_fake/";

/// How a vendor tells what every service may answer.
pub trait Dialect: Send + Sync + 'static {
    /// To one who asks too often; the layer adds the header `Retry-After`.
    fn throttled(&self) -> Response;
    /// While it is out of order.
    fn unavailable(&self) -> Response;
}

/// What the layer needs.
pub(crate) struct Front {
    pub(crate) switches: Switches,
    pub(crate) dialect: Box<dyn Dialect>,
}

/// The control's own routes.
pub(crate) fn control(switches: Switches) -> Router {
    Router::new()
        .route("/_fake/journal", get(journal).delete(forget))
        .route("/_fake/faults", get(faults).put(set_faults))
        .route("/_fake/clock", post(advance))
        .with_state(switches)
}

async fn journal(State(switches): State<Switches>) -> Json<Vec<Asked>> {
    Json(switches.journal.all())
}

async fn forget(State(switches): State<Switches>) -> StatusCode {
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

/// Writes a request down, lets the fault happen that is for it, and asks the service.
pub(crate) async fn front(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
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
    let journal = Arc::clone(&front.switches.journal);
    let number = journal.begin(Asked {
        number: 0,
        method: method.clone(),
        host: host.unwrap_or_default().to_owned(),
        path: path.clone(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        caller: None,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        status: None,
    });
    let act = front.switches.faults.next(&method, &path);
    let serve = next.run(Request::from_parts(parts, Body::from(body)));
    let answer = match act {
        None => serve.await,
        Some(Act::Delay { milliseconds }) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            serve.await
        }
        Some(Act::Hang) => std::future::pending().await,
        Some(Act::Throttle { retry_after }) => {
            let mut answer = front.dialect.throttled();
            if let Some(seconds) = retry_after {
                answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            answer
        }
        Some(Act::Unavailable) => front.dialect.unavailable(),
        Some(Act::Answer { status, headers, body }) => fixed(status, headers, body),
        Some(Act::Change { patch }) => changed(serve.await, patch).await,
        Some(Act::BreakOff) => {
            // What the service did is done; its answer, and so its status, reaches nobody.
            drop(serve.await);
            return cut();
        }
    };
    let caller = answer.extensions().get::<Caller>().cloned();
    journal.end(number, answer.status().as_u16(), caller);
    answer
}

fn fixed(status: u16, headers: impl IntoIterator<Item = (String, String)>, body: String) -> Response {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

async fn changed(answer: Response, patch: Value) -> Response {
    let (mut parts, body) = answer.into_parts();
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    let mut document: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    merge(&mut document, patch);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(document.to_string()))
}

/// An answer whose body ends in the middle.
fn cut() -> Response {
    let pieces = [
        Ok(Bytes::from_static(b"{\"name\": \"")),
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, "broken off on request")),
    ];
    let mut answer = Response::new(Body::from_stream(stream::iter(pieces)));
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
