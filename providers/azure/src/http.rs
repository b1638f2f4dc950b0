//! Between the SDK and the gateway's own HTTP client, and the transport to a token endpoint.

use std::fmt;
use std::sync::Arc;

use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Request, StatusCode};
use claviger_provider::egress::{Client, RawRequest, Response};
use claviger_provider::kit::call_error::Refusal as _;
use claviger_provider::{BackgroundTrace, CallResult, CallSink};
use reqwest::header::{self, HeaderMap};
use zeroize::Zeroizing;

use crate::errors::{CallError, Refusal, TransportError, request_id};

fn unbuilt() -> CallError {
    CallError::Unbuilt("a request that the transport does not support".to_owned())
}

/// A request of the SDK for the gateway's client.
///
/// # Errors
/// `Unbuilt` for a method, header or body that is not supported.
pub(crate) fn raw_request(request: &Request) -> Result<RawRequest<'_>, CallError> {
    let body = match request.body() {
        Body::Bytes(bytes) => Zeroizing::new(bytes.to_vec()),
        Body::SeekableStream(_) => return Err(unbuilt()),
    };
    Ok(RawRequest {
        method: request.method().as_str().parse().map_err(|_| unbuilt())?,
        address: request.url(),
        headers: request_headers(request.headers())?,
        body,
    })
}

fn request_headers(headers: &Headers) -> Result<HeaderMap, CallError> {
    let mut converted = HeaderMap::new();
    for (name, value) in headers.iter() {
        let name: header::HeaderName = name.as_str().parse().map_err(|_| unbuilt())?;
        let mut value: header::HeaderValue = value.as_str().parse().map_err(|_| unbuilt())?;
        value.set_sensitive(name == header::AUTHORIZATION);
        // The client computes the length itself.
        if name != header::CONTENT_LENGTH {
            converted.insert(name, value);
        }
    }
    Ok(converted)
}

/// The headers of a response for the SDK.
pub(crate) fn response_headers(headers: &HeaderMap) -> Headers {
    let mut converted = Headers::new();
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            converted.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
        }
    }
    converted
}

/// A response for the SDK.
pub(crate) fn raw_response(mut response: Response, headers: Headers) -> AsyncRawResponse {
    let body = std::mem::take(&mut *response.body);
    AsyncRawResponse::from_bytes(StatusCode::from(response.status.as_u16()), headers, body)
}

/// The transport to a token endpoint. Its requests are background calls of the connection.
pub(crate) struct TokenTransport {
    client: Client,
    background: BackgroundTrace,
}

impl TokenTransport {
    pub(crate) fn new(client: Client, background: BackgroundTrace) -> Arc<Self> {
        Arc::new(Self { client, background })
    }

    async fn exchange(&self, request: &Request) -> Result<AsyncRawResponse, CallError> {
        let request = raw_request(request)?;
        let attempt = CallSink::from(&self.background).begin("oauth2/token");
        let response = match self.client.forward(request).await {
            Ok(response) => response,
            Err(error) => {
                let error = CallError::from(error);
                attempt.finish(None, CallResult::Error(error.kind()));
                return Err(error);
            }
        };
        let headers = response_headers(&response.headers);
        let id = request_id(&headers);
        if response.status.is_success() {
            attempt.finish(id.as_deref(), CallResult::Ok);
            return Ok(raw_response(response, headers));
        }
        let refusal = Refusal::of(response.status.as_u16(), &headers, &response.body);
        attempt.finish(id.as_deref(), CallResult::Error(refusal.login_meaning().kind));
        // The SDK would report a page of a proxy as unreadable only, without its status.
        match serde_json::from_slice::<serde::de::IgnoredAny>(&response.body) {
            Ok(_) => Ok(raw_response(response, headers)),
            Err(_) => Err(CallError::Refused(refusal)),
        }
    }
}

impl fmt::Debug for TokenTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenTransport")
    }
}

#[async_trait::async_trait]
impl HttpClient for TokenTransport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.exchange(request).await.map_err(|error| TransportError(error).into())
    }
}
