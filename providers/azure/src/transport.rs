//! The SDK's way out: one host, through the egress policy, without redirects; and a look at the
//! challenge of a vault before the SDK answers it.

use std::fmt;
use std::sync::Arc;

use azure_core::error::ErrorKind;
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request, StatusCode};
use claviger_provider::egress::{Client, RawRequest, SendError};
use reqwest::header::{self, HeaderMap};
use zeroize::Zeroizing;

use crate::challenge::{Expected, Mismatch};
use crate::session::Session;

/// Why a call came to nothing before there was an answer that the SDK could read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    #[error(transparent)]
    Unsent(#[from] SendError),
    #[error("the vault asks for a token that is not for it: {0:?}")]
    Challenge(Mismatch),
    /// There is no credential to show, and what to do.
    #[error("no credential")]
    NoCredential(&'static str),
    /// Whoever gives out tokens answered with a page, under this status.
    #[error("a page instead of a token (status {0})")]
    Page(u16),
    /// Nobody gave out a token in time.
    #[error("no token in time")]
    Late,
    #[error("a request of a form that is not sent")]
    Form,
}

impl Lost {
    fn into_azure(self) -> azure_core::Error {
        azure_core::Error::with_error(ErrorKind::Io, self, "no answer")
    }
}

/// What a vault's refusals are held against.
pub(crate) struct Door {
    pub(crate) expected: Expected,
    pub(crate) session: Arc<Session>,
}

/// The way to one host.
pub(crate) struct Transport {
    client: Client,
    /// Only before a vault: an authority challenges nobody.
    door: Option<Door>,
}

impl Transport {
    pub(crate) fn new(client: Client, door: Option<Door>) -> Arc<Self> {
        Arc::new(Self { client, door })
    }

    async fn exchange(&self, request: &Request) -> Result<AsyncRawResponse, Lost> {
        let body = match request.body() {
            Body::Bytes(bytes) => Zeroizing::new(bytes.to_vec()),
            Body::SeekableStream(_) => return Err(Lost::Form),
        };
        let call = RawRequest {
            method: method(request.method()).ok_or(Lost::Form)?,
            address: request.url(),
            headers: sent(request.headers())?,
            body,
        };
        let mut answer = self.client.forward(call).await?;
        if answer.status == reqwest::StatusCode::UNAUTHORIZED
            && let Some(door) = &self.door
        {
            door.look(request, &answer.headers)?;
        }
        // The SDK would say of it only that it cannot be read.
        let readable = || serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).is_ok();
        if self.door.is_none() && !answer.status.is_success() && !readable() {
            return Err(Lost::Page(answer.status.as_u16()));
        }
        let body = std::mem::take(&mut *answer.body);
        let status = StatusCode::from(answer.status.as_u16());
        Ok(AsyncRawResponse::from_bytes(status, received(&answer.headers), body))
    }
}

impl Door {
    fn look(&self, request: &Request, answered: &HeaderMap) -> Result<(), Lost> {
        let token = request.headers().get_optional_str(&azure_core::http::headers::AUTHORIZATION);
        if let Some(token) = token.and_then(|value| value.strip_prefix("Bearer ")) {
            self.session.refused(token);
        }
        let challenges = answered.get_all(header::WWW_AUTHENTICATE).iter();
        challenges
            .filter_map(|challenge| challenge.to_str().ok())
            .try_for_each(|challenge| self.expected.judge(challenge))
            .map_err(Lost::Challenge)
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        self.exchange(request).await.map_err(Lost::into_azure)
    }
}

const fn method(method: Method) -> Option<reqwest::Method> {
    Some(match method {
        Method::Delete => reqwest::Method::DELETE,
        Method::Get => reqwest::Method::GET,
        Method::Head => reqwest::Method::HEAD,
        Method::Patch => reqwest::Method::PATCH,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
        // Theirs, and it may grow.
        _ => return None,
    })
}

fn sent(headers: &Headers) -> Result<HeaderMap, Lost> {
    let mut sent = HeaderMap::new();
    for (name, value) in headers.iter() {
        let name: header::HeaderName = name.as_str().parse().map_err(|_| Lost::Form)?;
        let mut value: header::HeaderValue = value.as_str().parse().map_err(|_| Lost::Form)?;
        value.set_sensitive(name == header::AUTHORIZATION);
        // The body's own, whatever the SDK counted.
        if name != header::CONTENT_LENGTH {
            sent.insert(name, value);
        }
    }
    Ok(sent)
}

fn received(headers: &HeaderMap) -> Headers {
    let mut received = Headers::new();
    for (name, value) in headers {
        if let Ok(value) = value.to_str() {
            received.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
        }
    }
    received
}
