//! Responses and errors in Azure's format, with its error codes.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use claviger_fake::Dialect;
use serde_json::{Value, json};

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    code: &'static str,
    /// `innererror.code`, the more specific code of some errors.
    inner: Option<&'static str>,
    message: String,
    /// The `WWW-Authenticate` header.
    challenge: Option<String>,
}

pub(crate) type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            inner: None,
            message: message.into(),
            challenge: None,
        }
    }

    fn inner(mut self, inner: &'static str) -> Self {
        self.inner = Some(inner);
        self
    }

    pub(crate) fn parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadParameter", message)
    }

    pub(crate) fn unauthenticated(challenge: String) -> Self {
        let mut refused = Self::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "AKV10000: Request is missing a Bearer token, or the token is not valid.",
        );
        refused.challenge = Some(challenge);
        refused
    }

    pub(crate) fn denied(inner: Option<&'static str>, right: &str) -> Self {
        let refused = Self::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            format!("Caller is not authorized to perform action on resource. Action: 'keys/{right}'"),
        );
        match inner {
            Some(inner) => refused.inner(inner),
            None => refused,
        }
    }

    pub(crate) fn not_found(name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "KeyNotFound",
            format!(
                "A key with (name/id) {name} was not found in this key vault. If you recently deleted this key you may be able to recover it."
            ),
        )
    }

    pub(crate) fn deleted(name: &str) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "Conflict",
            format!("Key {name} is currently in a deleted but recoverable state, and its name cannot be reused."),
        )
        .inner("ObjectIsDeletedButRecoverable")
    }

    pub(crate) fn disabled(operation: &str) -> Self {
        Self::forbidden("KeyDisabled", format!("Operation {operation} is not allowed on a disabled key."))
    }

    pub(crate) fn not_yet(operation: &str) -> Self {
        Self::forbidden(
            "KeyNotYetValid",
            format!("Operation {operation} is not allowed on a key that is not yet valid."),
        )
    }

    pub(crate) fn expired(operation: &str) -> Self {
        Self::forbidden("KeyExpired", format!("Operation {operation} is not allowed on an expired key."))
    }

    pub(crate) fn not_permitted(operation: &str) -> Self {
        Self::forbidden(
            "KeyOperationForbidden",
            format!("Operation {operation} is not permitted on this key."),
        )
    }

    fn forbidden(inner: &'static str, message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).inner(inner)
    }
}

fn error(code: &str, inner: Option<&str>, message: &str) -> Value {
    let mut error = json!({"code": code, "message": message});
    if let Some(inner) = inner {
        error["innererror"] = json!({"code": inner});
    }
    json!({"error": error})
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(error(self.code, self.inner, &self.message))).into_response();
        if let Some(challenge) = self.challenge.and_then(|challenge| HeaderValue::try_from(challenge).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        with_request_id(response)
    }
}

/// Adds a random `x-ms-request-id`, as Azure does to every response.
pub(crate) fn with_request_id(mut response: Response) -> Response {
    let id = HeaderValue::try_from(crate::crypto::random_hex(16)).unwrap_or(HeaderValue::from_static("0"));
    response.headers_mut().insert(HeaderName::from_static("x-ms-request-id"), id);
    response
}

/// 200 with a JSON body.
pub(crate) fn ok(body: Value) -> Response {
    with_request_id(Json(body).into_response())
}

/// 204 without a body.
pub(crate) fn no_content() -> Response {
    with_request_id((StatusCode::NO_CONTENT, Body::empty()).into_response())
}

/// Azure's responses for throttling and outages.
pub(crate) struct Azure;

impl Dialect for Azure {
    fn throttled(&self) -> Response {
        let body = error(
            "Throttled",
            None,
            "Request was not processed because too many requests were received.",
        );
        with_request_id((StatusCode::TOO_MANY_REQUESTS, Json(body)).into_response())
    }

    fn unavailable(&self) -> Response {
        let body = error("ServiceUnavailable", None, "The service is not available now.");
        with_request_id((StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response())
    }
}
