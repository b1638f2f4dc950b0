//! The successful response of a handler before it is recorded: a single one or a batch.

use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::data_responses::ItemResponse;
use super::errors::Problem;
use crate::broker::Failure;
use crate::listener::Body;
use crate::protocols::exchange::Handled;
use crate::protocols::response::new_response;

/// Header with the place of the request's record in the audit log.
pub const AUDIT_INDEX: HeaderName = HeaderName::from_static("claviger-audit-index");
/// Header with the request's id. The gateway always generates it.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Bodies over so many bytes give back what their buffer has more.
const LARGE: usize = 64 << 10;

/// A successful response: status, JSON body and etag.
pub struct Payload {
    status: StatusCode,
    body: Vec<u8>,
    etag: Option<u64>,
}

impl Payload {
    /// A JSON body.
    ///
    /// # Errors
    /// `internal` if serialising fails, which no type of this API causes.
    pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Result<Self, Failure> {
        let mut body = serde_json::to_vec(value).map_err(|error| Failure::internal(&error))?;
        if body.len() > LARGE {
            body.shrink_to_fit();
        }
        Ok(Self { status, body, etag: None })
    }

    /// Status 204 without a body.
    pub const fn nothing() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            body: Vec::new(),
            etag: None,
        }
    }

    /// The stored response to an earlier request with the same idempotency key.
    pub fn kept(status: u16, body: String, etag: Option<u64>) -> Self {
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::OK),
            body: body.into_bytes(),
            etag,
        }
    }

    /// Adds the object's revision as etag.
    #[must_use]
    pub const fn etag(mut self, revision: u64) -> Self {
        self.etag = Some(revision);
        self
    }
}

impl From<Payload> for Response<Body> {
    fn from(payload: Payload) -> Self {
        let empty = payload.body.is_empty();
        let mut response = new_response(payload.status, payload.body);
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

/// A handler's result for the exchange, which records it.
pub type ApiResponse = Handled<Payload, BatchItem>;

/// The response to a batch.
#[derive(Serialize)]
pub struct BatchResponse {
    /// One result per item, in the order of the request.
    pub items: Vec<BatchItem>,
}

/// The result of one item: the members of the single operation's response, or `error`.
#[derive(Serialize)]
pub struct BatchItem {
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    response: Option<ItemResponse>,
    /// The place of the item's record in the audit log, in the form of the header `Claviger-Audit-Index`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_index: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

impl BatchItem {
    /// An item that succeeded.
    pub const fn succeeded(response: ItemResponse) -> Self {
        Self {
            response: Some(response),
            audit_index: None,
            error: None,
        }
    }

    /// An item that failed.
    pub const fn failed(error: Problem) -> Self {
        Self {
            response: None,
            audit_index: None,
            error: Some(error),
        }
    }
}
