//! Error responses in Google's format, `{"error": {code, message, status, details}}` (AIP-193).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error response.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Vec<Value>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            details: Vec::new(),
        }
    }

    /// Adds an `ErrorInfo` detail.
    fn because(mut self, reason: &str, metadata: Value) -> Self {
        self.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": metadata,
        }));
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
    }

    pub(crate) fn checksum(field: &str, data: &str) -> Self {
        Self::invalid(format!("The checksum in field {field} did not match the data in field {data}."))
    }

    /// A failed precondition without a violation type.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "FAILED_PRECONDITION", message)
    }

    /// A failed precondition with a violation of type `kind`.
    pub(crate) fn precondition(kind: &str, subject: &str, message: impl Into<String>) -> Self {
        let mut refusal = Self::failed(message);
        refusal.details.push(json!({
            "@type": "type.googleapis.com/google.rpc.PreconditionFailure",
            "violations": [{"type": kind, "subject": subject}],
        }));
        refusal
    }

    pub(crate) fn not_found(what: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("{what} {name} not found."))
    }

    pub(crate) fn no_location(location: &str) -> Self {
        let message = format!(
            "The request concerns location '{location}' but was sent to location 'global'. Either Cloud KMS is not available in \
             '{location}' or the request was misrouted."
        );
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
    }

    pub(crate) fn exists(what: &str, name: &str) -> Self {
        Self::new(StatusCode::CONFLICT, "ALREADY_EXISTS", format!("{what} {name} already exists."))
    }

    pub(crate) fn denied(permission: &str, resource: &str) -> Self {
        let message = format!("Permission '{permission}' denied on resource '{resource}' (or it may not exist).");
        let metadata = json!({"permission": permission, "resource": resource});
        Self::new(StatusCode::FORBIDDEN, "PERMISSION_DENIED", message).because("IAM_PERMISSION_DENIED", metadata)
    }

    pub(crate) fn unauthenticated(reason: &str) -> Self {
        let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
                       authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.";
        let metadata = json!({"service": "cloudkms.googleapis.com"});
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message).because(reason, metadata)
    }

    pub(crate) fn throttled() -> Self {
        let message = "Quota exceeded for quota metric 'Cryptographic requests' and limit 'Cryptographic requests per minute' of service \
                       'cloudkms.googleapis.com'.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "RESOURCE_EXHAUSTED", message).because("RATE_LIMIT_EXCEEDED", json!({}))
    }

    pub(crate) fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "UNAVAILABLE",
            "The service is currently unavailable.",
        )
    }

    pub(crate) fn unimplemented(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "UNIMPLEMENTED", format!("This fake has no {what}."))
    }

    pub(crate) fn internal(what: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", what)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = json!({"code": self.status.as_u16(), "message": self.message, "status": self.code});
        if !self.details.is_empty() {
            error["details"] = Value::Array(self.details);
        }
        let mut response = (self.status, Json(json!({"error": error}))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// An error response of the token endpoints, in OAuth's format (RFC 6749, section 5.2).
pub(crate) fn oauth_refusal(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({"error": error, "error_description": description}))).into_response()
}
