//! Responses and errors in the API's format, with the names of the specification.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use claviger_fake::Dialect;
use serde_json::{Value, json};

/// An error response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    name: &'static str,
    message: &'static str,
}

pub(crate) type Result<T> = std::result::Result<T, Refusal>;

impl Refusal {
    const fn new(status: StatusCode, name: &'static str, message: &'static str) -> Self {
        Self { status, name, message }
    }

    pub(crate) const fn validation(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ValidationException", message)
    }

    pub(crate) const fn state() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidStateException", "The key is not enabled.")
    }

    pub(crate) const fn usage() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "InvalidKeyUsageException",
            "The key may not be used for this.",
        )
    }

    pub(crate) const fn ciphertext() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "InvalidCiphertextException",
            "The ciphertext was not decrypted.",
        )
    }

    pub(crate) const fn unauthenticated(message: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "AuthenticationFailedException", message)
    }

    pub(crate) const fn denied() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "AccessDeniedException",
            "The owner of the key denies the call.",
        )
    }

    pub(crate) const fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "KeyNotFoundException", "There is no such key.")
    }

    pub(crate) const fn path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "InvalidUriPathException", "There is no such path.")
    }

    pub(crate) const fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalException", "The key manager failed.")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"errorName": self.name, "errorMessage": self.message});
        (self.status, Json(body)).into_response()
    }
}

/// 200 with a JSON body.
pub(crate) fn ok(body: Value) -> Response {
    Json(body).into_response()
}

/// The proxy's responses for throttling and outages.
pub(crate) struct Xks;

impl Dialect for Xks {
    fn throttled(&self) -> Response {
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", "Too many requests.").into_response()
    }

    fn unavailable(&self) -> Response {
        let message = "The key manager did not answer in time.";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "DependencyTimeoutException", message).into_response()
    }
}
