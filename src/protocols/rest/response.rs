//! The only way to a response. An [`Answer`] is made from something recorded, something
//! counted, the log's own word that it cannot record, or before there is a log by
//! [`super::starting`]: a handler can make none.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use serde::Serialize;

use super::errors;
use crate::audit::Recorded;
use crate::broker::{Failure, Unrecorded};

/// The record's place in the log.
pub const AUDIT_INDEX: HeaderName = HeaderName::from_static("claviger-audit-index");
/// The id of the request, always ours.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a handler answers when all went well.
pub struct Payload {
    status: StatusCode,
    body: Vec<u8>,
    etag: Option<u64>,
}

impl Payload {
    /// A JSON body.
    ///
    /// # Errors
    /// `internal` when it cannot be written as JSON, which our types never cause.
    pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Self, Failure> {
        let body = serde_json::to_vec(value).map_err(|error| Failure::internal(&error))?;
        Ok(Self { status, body, etag: None })
    }

    /// No body: 204.
    pub const fn nothing() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            body: Vec::new(),
            etag: None,
        }
    }

    /// A kept answer of an earlier request.
    pub fn kept(status: u16, body: String, etag: Option<u64>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
            body: body.into_bytes(),
            etag,
        }
    }

    /// With the object's revision as etag.
    #[must_use]
    pub const fn etag(mut self, revision: u64) -> Self {
        self.etag = Some(revision);
        self
    }
}

impl From<Payload> for Response<Body> {
    fn from(payload: Payload) -> Self {
        let empty = payload.body.is_empty();
        let mut response = Self::new(Body::from(payload.body));
        *response.status_mut() = payload.status;
        if !empty {
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(Ok(value)) = payload.etag.map(|revision| HeaderValue::from_str(&etag(revision))) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
    }
}

/// The text form of a revision as an etag (RFC 9110, 8.8.3).
pub fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// A response that may leave.
pub struct Answer(Response<Body>);

impl Answer {
    /// What was recorded, or is a service endpoint's.
    pub fn recorded(recorded: Recorded<Response<Body>>, request_id: &str) -> Self {
        let index = recorded
            .receipt()
            .and_then(|receipt| HeaderValue::from_str(&receipt.to_string()).ok());
        let mut response = recorded.into_value();
        if let Some(index) = index {
            response.headers_mut().insert(AUDIT_INDEX, index);
        }
        Self::finish(response, request_id)
    }

    /// The log could not record: the one answer that is left.
    pub fn unrecorded(unrecorded: &Unrecorded, request_id: &str) -> Self {
        Self::finish(errors::response(unrecorded.failure(), request_id), request_id)
    }

    /// There is no log yet, and nothing was done that it could tell.
    pub(super) fn before_the_log(response: Response<Body>, request_id: &str) -> Self {
        Self::finish(response, request_id)
    }

    fn finish(mut response: Response<Body>, request_id: &str) -> Self {
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, value);
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Self(response)
    }

    /// Adds what a route knows of itself (405: the methods that it takes).
    #[must_use]
    pub fn allow(mut self, methods: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(methods) {
            self.0.headers_mut().insert(header::ALLOW, value);
        }
        self
    }

    /// The status, for metrics.
    pub fn status(&self) -> StatusCode {
        self.0.status()
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response<Body> {
        self.0
    }
}
