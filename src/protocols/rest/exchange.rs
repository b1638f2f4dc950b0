//! From a request's first byte to its answer: id, limits, caller, body, handler, record.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tracing::Instrument;

use super::errors;
use super::header::{Unusable, single};
use super::reply::{BatchItem, BatchResponse, Reply};
use super::request::ApiRequest;
use super::response::{Answer, Payload, REQUEST_ID};
use super::route::{self, Route};
use super::run_to_completion::{Panicked, RunToCompletion};
use super::state::{AppState, RequestMeta};
use crate::access::{Caller, Unauthenticated};
use crate::audit::{Receipt, Recorded};
use crate::broker::{Code, Failure, Guarded, RequestContext, RequestInfo, Unrecorded};
use crate::duration;

const CLIENT_TENANT: HeaderName = HeaderName::from_static("claviger-tenant");
const TIMEOUT: HeaderName = HeaderName::from_static("claviger-timeout");
const JUSTIFICATION: HeaderName = HeaderName::from_static("claviger-justification");
/// The shortest deadline that a caller may request for: below it a healthy gateway on a slow disk
/// would fail requests at random, and a caller could fill the log with its own time-outs.
const SHORTEST: Duration = Duration::from_millis(100);
/// Methods with a JSON body.
const WITH_BODY: [Method; 3] = [Method::POST, Method::PUT, Method::PATCH];

/// Serves one route.
pub async fn serve(gateway: Arc<AppState>, route: Arc<Route>, request: Request) -> Answer {
    let meta = RequestMeta::of(&gateway, &request);
    let started = meta.started;
    let span = tracing::info_span!("request", id = %meta.request_id, route = route.path, method = %route.method, trace = trace_id(request.headers()));
    let in_hand = route.counts.begin();
    let answer = enter(gateway, Arc::clone(&route), meta, request).instrument(span).await;
    drop(in_hand);
    route.counts.answered(answer.status(), started.elapsed());
    answer
}

async fn enter(gateway: Arc<AppState>, route: Arc<Route>, meta: RequestMeta, request: Request) -> Answer {
    let Ok(place) = Arc::clone(&gateway.in_flight).try_acquire_owned() else {
        let failure = Failure::new(Code::RateLimited, "The gateway has as many requests under way as it takes.");
        return gateway.refuse(&meta, failure);
    };
    let (mut parts, body) = request.into_parts();
    let caller = match authenticate(&gateway, &meta, &parts.headers).await {
        Ok(caller) => Arc::new(caller),
        Err(failure) => return gateway.refuse(&meta, failure),
    };
    let params = RawPathParams::from_request_parts(&mut parts, &()).await;
    let (info, timing) = request_info(&gateway, &route, &meta, &parts.headers);
    let cx = RequestContext::new(Arc::clone(&caller), route.needs[0], Arc::new(info));

    let request = async {
        timing?;
        let path = params.map_err(|_| Failure::invalid("path", "UTF-8 after percent-decoding"))?;
        if !route.needs.iter().any(|action| gateway.broker.could_allow(&caller, *action)) {
            return Err(Failure::denied());
        }
        let query = query(parts.uri.query())?;
        let body = read_body(&route, &parts.headers, body, cx.info().deadline).await?;
        Ok(ApiRequest {
            broker: Arc::clone(&gateway.broker),
            cx: cx.clone(),
            method: parts.method,
            uri: parts.uri,
            path: Arc::new(path),
            query,
            headers: Arc::new(parts.headers),
            body,
        })
    };
    let request = match request.await {
        Ok(request) => request,
        Err(failure) => return conclude(&gateway, &cx, Err(failure)).await,
    };
    let accepted = gateway.broker.accept_operation();
    // A caller that goes away does not leave an operation half done.
    let work = RunToCompletion::new(async move {
        let _place = place;
        let _accepted = accepted;
        // A panic's payload may hold anything; only that there was one is told.
        let work = AssertUnwindSafe((route.handler)(request)).catch_unwind().await;
        let result = work.unwrap_or_else(|_| Err(Failure::internal(&"a handler panicked")));
        conclude(&gateway, &cx, result).await
    });
    match work.await {
        Ok(answer) => answer,
        // Recording itself panicked: there is no record, and so there is nothing to say.
        Err(Panicked) => Answer::unrecorded(&Unrecorded::after_panic(), &meta.request_id),
    }
}

/// Records what a handler said and makes the answer of it.
async fn conclude(gateway: &AppState, cx: &RequestContext, result: Result<Reply, Failure>) -> Answer {
    let request_id = cx.info().request_id.as_str();
    let recorded = match result {
        Ok(Reply::Batch(items)) => {
            let render = |value: Result<BatchItem, &Failure>, receipt: Option<&Receipt>| {
                let mut item = value.unwrap_or_else(|failure| BatchItem::failed(errors::problem(failure, request_id)));
                item.audit_index = receipt.map(ToString::to_string);
                item
            };
            let join = |items: Vec<BatchItem>| match Payload::json(StatusCode::OK, &BatchResponse { items }) {
                Ok(payload) => payload.into(),
                Err(failure) => errors::response(&failure, request_id),
            };
            gateway.broker.conclude_batch(items, &render, join).await
        }
        Ok(Reply::One(payload)) => one(gateway, cx, Ok(payload)).await,
        Err(failure) => one(gateway, cx, Err(failure)).await,
    };
    match recorded {
        Ok(recorded) => Answer::recorded(recorded, request_id),
        Err(unrecorded) => Answer::unrecorded(&unrecorded, request_id),
    }
}

async fn one(
    gateway: &AppState,
    cx: &RequestContext,
    result: Result<Guarded<Payload>, Failure>,
) -> Result<Recorded<Response<Body>>, Unrecorded> {
    let request_id = cx.info().request_id.as_str();
    let render = |value: Result<Payload, &Failure>, _: Option<&Receipt>| match value {
        Ok(payload) => payload.into(),
        Err(failure) => errors::response(failure, request_id),
    };
    gateway.broker.conclude(cx, result, &render).await
}

async fn authenticate(gateway: &AppState, meta: &RequestMeta, headers: &HeaderMap) -> Result<Caller, Failure> {
    let unauthenticated = || {
        Failure::new(Code::Unauthenticated, "The request carries no valid credential.")
            .advice("Send Authorization: Bearer and a token that has not expired or been revoked.")
    };
    let Ok(Some(text)) = single(headers, header::AUTHORIZATION) else {
        return Err(unauthenticated());
    };
    let token = match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token,
        Some(_) | None => return Err(unauthenticated()),
    };
    // What cannot be used is no tenant's name, and is refused as one that leads nowhere.
    let tenant = single(headers, CLIENT_TENANT).unwrap_or(Some(""));
    let now = gateway.broker.now();
    gateway
        .broker
        .authenticator()
        .bearer(token, tenant, Some(meta.source), now)
        .await
        .map_err(|error| match error {
            Unauthenticated::Missing | Unauthenticated::Invalid => unauthenticated(),
            Unauthenticated::Tenant => Failure::new(Code::PermissionDenied, "The credential does not act for that tenant."),
            Unauthenticated::Store(error) => Failure::from(error),
        })
}

/// What the headers say of the request; what they say wrongly is told once the caller is known.
fn request_info(gateway: &AppState, route: &Route, meta: &RequestMeta, headers: &HeaderMap) -> (RequestInfo, Result<(), Failure>) {
    let longest = if route.time > route::REQUEST {
        route.time
    } else {
        route.time.min(gateway.request_deadline)
    };
    let mut wrong = Ok(());
    let time = match single(headers, TIMEOUT).map(|text| text.map(duration::parse)) {
        Ok(None) => longest,
        Ok(Some(Ok(asked))) if asked >= SHORTEST => asked.min(longest),
        Ok(Some(Ok(_) | Err(_))) | Err(Unusable) => {
            wrong = Err(Failure::invalid(
                "header:Claviger-Timeout",
                "a duration such as 800ms or 5s, at least 100ms",
            ));
            longest
        }
    };
    let justification = match single(headers, JUSTIFICATION) {
        Ok(None) => None,
        Ok(Some(text)) if text.len() <= 256 && text.bytes().all(|b| (b' '..=b'~').contains(&b)) => Some(text.to_owned()),
        Ok(Some(_)) | Err(Unusable) => {
            wrong = Err(Failure::invalid(
                "header:Claviger-Justification",
                "at most 256 printable ASCII characters",
            ));
            None
        }
    };
    let client_request_id = single(headers, REQUEST_ID)
        .unwrap_or(None)
        .filter(|text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)))
        .map(str::to_owned);
    let info = RequestInfo {
        request_id: meta.request_id.clone(),
        client_request_id,
        justification,
        started: meta.started,
        deadline: meta.started + time,
    };
    (info, wrong)
}

fn query(text: Option<&str>) -> Result<Arc<[(String, String)]>, Failure> {
    let Some(text) = text else { return Ok(Arc::default()) };
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(text).map_err(|_| Failure::invalid("query", "percent-encoded names and values"))?;
    Ok(pairs.into())
}

async fn read_body(route: &Route, headers: &HeaderMap, body: Body, deadline: Instant) -> Result<Bytes, Failure> {
    let too_large = || Failure::new(Code::TooLarge, "The body is larger than this route takes.");
    // What says that it is too large is not waited for.
    if body.size_hint().lower() > route.body as u64 {
        return Err(too_large());
    }
    let read = Limited::new(body, route.body).collect();
    let bytes = match tokio::time::timeout_at(deadline.into(), read).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(too_large()),
        Ok(Err(_)) => return Err(Failure::invalid("", "a whole body")),
        Err(_) => return Err(Failure::deadline()),
    };
    if !bytes.is_empty() && WITH_BODY.contains(&route.method) && !is_json(headers) {
        return Err(Failure::new(
            Code::UnsupportedMediaType,
            "The body's media type is not application/json.",
        ));
    }
    Ok(bytes)
}

fn is_json(headers: &HeaderMap) -> bool {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or("");
    text.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// The trace id of a well-formed `traceparent` (W3C Trace Context), for the log.
fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex(version, 2) && version != "ff" && hex(trace, 32) && trace.bytes().any(|b| b != b'0')).then_some(trace)
}

/// A path that is no route's.
pub fn no_route(gateway: &AppState, request: &Request) -> Answer {
    let meta = RequestMeta::of(gateway, request);
    gateway.refuse(
        &meta,
        Failure::new(
            Code::NotFound,
            "There is no such path. The command claviger openapi prints the API.",
        ),
    )
}

/// A path that has routes, but none of this method; `allowed` as the `Allow` header names them.
pub fn method_not_allowed(gateway: &AppState, allowed: &str, request: &Request) -> Answer {
    let meta = RequestMeta::of(gateway, request);
    gateway
        .refuse(&meta, Failure::new(Code::MethodNotAllowed, "This path does not take this method."))
        .allow(allowed)
}
