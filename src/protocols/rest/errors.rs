//! The only mapping from failures to `application/problem+json` (RFC 9457).

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::provider_name::ProviderName;
use crate::broker::{Code, Failure};
use crate::listener::Body;
use crate::protocols::response::new_response;

/// The body of a failed request's response (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Identifies the kind of problem: `urn:claviger:error:` and the code.
    #[serde(rename = "type")]
    #[schema(example = "urn:claviger:error:not_found")]
    pub kind: String,
    /// Short name of the kind of problem.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Description of what happened, in one sentence.
    pub detail: String,
    /// The error code.
    #[schema(value_type = ErrorCode)]
    pub code: &'static str,
    /// The request's id, as in the header `X-Request-Id` and in the audit record.
    pub request_id: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The places in the request with unusable values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemPlace>,
    /// Only of `already_created`: the id of what the first request created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_id: Option<String>,
    /// The kind of provider that refused the call or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ProviderName>)]
    pub provider: Option<String>,
    /// The provider's own message, at most 300 characters, where it answered the tenant's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_message: Option<String>,
    /// How to correct the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what_to_do: Option<&'static str>,
}

/// A place in the request with an unusable value.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemPlace {
    /// A JSON pointer (RFC 6901) into the body, or `header:`, `query:` or `path:` and a name.
    pub pointer: String,
    /// Description of the expected value.
    pub expected: String,
}

/// The codes in the OpenAPI document: a text, and no closed list, since clients generated from this release's document
/// must understand the answers of later ones. `x-error-codes` is for generators of clients: what [`row`] has for each.
pub struct ErrorCode;

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let line = |code: Code| {
            let (status, title, retryable) = row(code);
            let again = if retryable { ", retryable" } else { "" };
            format!("- `{}`: {title} ({}{again})", code.as_str(), status.as_u16())
        };
        let text = "Why a request failed. Later releases may add codes: treat one that you do not know by its status and `retryable`.";
        let text = format!("{text}\n\n{}", Code::ALL.map(line).join("\n"));
        let data = |code: Code| {
            let (status, title, retryable) = row(code);
            json!({"code": code.as_str(), "status": status.as_u16(), "retryable": retryable, "title": title})
        };
        let known = Extensions::builder()
            .add("x-extensible-enum", Code::ALL.map(Code::as_str).to_vec())
            .add("x-error-codes", Code::ALL.map(data).to_vec())
            .build();
        let code = Object::builder()
            .schema_type(Type::String)
            .description(Some(text))
            .extensions(Some(known));
        code.examples([json!(Code::NotFound.as_str())]).into()
    }
}

impl ToSchema for ErrorCode {}

/// Status, title and whether a later attempt can succeed, for each code.
pub const fn row(code: Code) -> (StatusCode, &'static str, bool) {
    match code {
        Code::InvalidRequest => (StatusCode::BAD_REQUEST, "Invalid request", false),
        Code::InvalidEnvelope => (StatusCode::BAD_REQUEST, "Not a wrapped key", false),
        Code::EnvelopeVersionUnsupported => (StatusCode::BAD_REQUEST, "Unsupported envelope version", false),
        Code::OperatorOnlySetting => (StatusCode::BAD_REQUEST, "Setting for the operator only", false),
        Code::ConnectionRefusedAtCheck => (StatusCode::BAD_REQUEST, "Connection refused at its check", false),
        Code::Unauthenticated => (StatusCode::UNAUTHORIZED, "Unauthenticated", false),
        Code::PermissionDenied => (StatusCode::FORBIDDEN, "Permission denied", false),
        Code::NotFound => (StatusCode::NOT_FOUND, "Not found", false),
        Code::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", false),
        Code::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Too large", false),
        Code::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type", false),
        Code::AlreadyExists => (StatusCode::CONFLICT, "Already exists", false),
        Code::AlreadyCreated => (StatusCode::CONFLICT, "Already created", false),
        Code::InProgress => (StatusCode::CONFLICT, "In progress", true),
        Code::IdempotencyMismatch => (StatusCode::CONFLICT, "Idempotency key used for another request", false),
        Code::ProviderKeyTaken => (StatusCode::CONFLICT, "Provider key taken", false),
        Code::KeyDisabled => (StatusCode::CONFLICT, "Key disabled", false),
        Code::KeyState => (StatusCode::CONFLICT, "Key state", false),
        Code::ConnectionSevered => (StatusCode::CONFLICT, "Connection severed", false),
        Code::InUse => (StatusCode::CONFLICT, "In use", false),
        Code::ManagedByConfig => (StatusCode::CONFLICT, "Managed by the configuration", false),
        Code::QuotaExceeded => (StatusCode::CONFLICT, "Quota exceeded", false),
        Code::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "Precondition failed", false),
        Code::CiphertextRejected => (StatusCode::UNPROCESSABLE_ENTITY, "Ciphertext rejected", false),
        Code::ProviderDenied => (StatusCode::FAILED_DEPENDENCY, "Denied by the provider", false),
        Code::ExternalDenied => (StatusCode::FAILED_DEPENDENCY, "Denied by the external key manager", false),
        Code::ConnectionMisconfigured => (StatusCode::FAILED_DEPENDENCY, "Connection misconfigured", false),
        Code::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "Rate limited", true),
        Code::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error", false),
        Code::Unsupported => (StatusCode::NOT_IMPLEMENTED, "Unsupported", false),
        Code::ProviderProtocol => (StatusCode::BAD_GATEWAY, "Provider's answer makes no sense", false),
        Code::ProviderUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Provider unavailable", true),
        Code::CircuitOpen => (StatusCode::SERVICE_UNAVAILABLE, "Circuit open", true),
        Code::AuditUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Audit log unavailable", true),
        Code::EffectiveNotRecorded => (StatusCode::SERVICE_UNAVAILABLE, "Effective but not recorded", true),
        Code::EffectiveInMemoryOnly => (StatusCode::SERVICE_UNAVAILABLE, "Effective in memory only", true),
        Code::NotReady => (StatusCode::SERVICE_UNAVAILABLE, "Not ready", true),
        Code::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "Deadline exceeded", true),
    }
}

/// The body for a failure.
pub fn problem(failure: &Failure, request_id: &str) -> Problem {
    let (status, title, retryable) = row(failure.code);
    Problem {
        kind: format!("urn:claviger:error:{}", failure.code.as_str()),
        title,
        status: status.as_u16(),
        detail: failure.detail.clone().into_owned(),
        code: failure.code.as_str(),
        request_id: request_id.to_owned(),
        retryable,
        errors: failure
            .places
            .iter()
            .map(|place| ProblemPlace {
                pointer: place.pointer.clone(),
                expected: place.expected.clone(),
            })
            .collect(),
        created_id: failure.created_id.as_deref().map(str::to_owned),
        provider: failure.provider.map(|provider| provider.to_string()),
        provider_message: failure.provider_message.as_deref().map(str::to_owned),
        what_to_do: failure.advice,
    }
}

/// The response for a failure. The exchange calls it once the failure is recorded or counted.
pub(super) fn response(failure: &Failure, request_id: &str) -> Response<Body> {
    let (status, _, retryable) = row(failure.code);
    // Serialising strings and numbers cannot fail. If it did, the response would have the status
    // and an empty body.
    let body = serde_json::to_vec(&problem(failure, request_id)).unwrap_or_default();
    let mut response = new_response(status, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let waits = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if let Some(seconds) = failure
        .retry_after
        .map(|pause| pause.as_secs().max(1))
        .or((waits && retryable).then_some(1))
    {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
