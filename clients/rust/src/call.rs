//! Carries a call out: the credential, the deadline, and the retries.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH, USER_AGENT};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use crate::client::{Client, SHORTEST, is_printable};
use crate::endpoint::{Endpoint, Repeat};
use crate::error::{Error, Result};
use crate::lost;
use crate::models::ErrorCode;
use crate::random::random_key;
use crate::response::{self, FromResponse};
use crate::secret::SecretText;
use crate::transport::Outgoing;

/// Pauses before retries.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What the API asks for where a retryable problem has no Retry-After.
const PAUSE_AFTER_PROBLEM: Duration = Duration::from_secs(1);
/// A token file that is being replaced is whole again long before this.
const TOKEN_ATTEMPTS: u32 = 10;
const TOKEN_PAUSE: Duration = Duration::from_millis(50);

/// What is left as it is in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A call with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) client: Client,
    pub(crate) endpoint: &'static Endpoint,
    names: Vec<String>,
    query: Vec<(&'static str, String)>,
    if_match: Option<String>,
    idempotency_key: Option<String>,
    body: Option<Bytes>,
}

/// A call that is under way once it is polled.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

impl Call {
    /// With the values of the path's parameters.
    pub(crate) fn new(client: &Client, endpoint: &'static Endpoint, names: &[&str]) -> Self {
        Self {
            client: client.clone(),
            endpoint,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            query: Vec::new(),
            if_match: None,
            idempotency_key: None,
            body: None,
        }
    }

    /// Sets a parameter of the query.
    pub(crate) fn query(&mut self, name: &'static str, value: impl Into<String>) {
        self.query.retain(|(other, _)| *other != name);
        self.query.push((name, value.into()));
    }

    pub(crate) fn if_match(mut self, etag: &str) -> Self {
        self.if_match = Some(etag.to_owned());
        self
    }

    pub(crate) fn idempotency_key(&mut self, key: String) {
        self.idempotency_key = Some(key);
    }

    pub(crate) fn with_body(mut self, body: Bytes) -> Self {
        self.body = Some(body);
        self
    }

    pub(crate) fn pending<T: FromResponse + 'static>(self) -> Pending<T> {
        Box::pin(self.send())
    }

    /// Sends the request until it succeeds, may not be repeated, or has no time left, and returns its last error.
    pub(crate) async fn send<T: FromResponse>(mut self) -> Result<T> {
        self.check()?;
        let url = self.url()?;
        if self.endpoint.repeat == Repeat::ByKey && self.idempotency_key.is_none() {
            self.idempotency_key = Some(random_key()?);
        }
        let client = &self.client;
        let deadline = Instant::now() + client.settings.timeout;
        let mut last: Option<Error> = None;
        let mut rejected: Option<SecretText> = None;
        let mut attempt = 0;
        loop {
            let token = match self.endpoint.credential {
                true => match timeout_at(deadline, credential(client, deadline)).await {
                    Ok(token) => Some(token.map_err(|error| after(last.as_ref(), error))?),
                    Err(_) => return Err(last.unwrap_or_else(lost::timeless)),
                },
                false => None,
            };
            if let (Some(last), true) = (&mut last, rejected.is_some() && rejected == token) {
                return Err(std::mem::replace(last, lost::timeless()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || (last.is_some() && left < SHORTEST) {
                return Err(last.unwrap_or_else(lost::timeless));
            }
            let error = match self.attempt(&url, token.as_ref(), left, deadline).await {
                Ok(made) => return Ok(made),
                Err(error) => error,
            };
            // Of this attempt alone: after one that was not sent, a repetition is as safe as this attempt was.
            let pause = self.pause(&error, attempt);
            let error = after(last.as_ref(), error);
            if *error.code() == ErrorCode::Unauthenticated && client.shared.tokens.changes() && rejected.is_none() {
                // The token may have been replaced after it was read. A retry with another one is no repetition.
                rejected = token;
                last = Some(error);
                continue;
            }
            rejected = None;
            let Some(pause) = pause else {
                return Err(error);
            };
            if attempt == client.settings.retries || Instant::now() + pause + SHORTEST > deadline {
                return Err(error);
            }
            tracing::debug!(
                operation = self.endpoint.id,
                code = error.code().as_str(),
                ?pause,
                "a call is repeated"
            );
            sleep(pause).await;
            attempt += 1;
            last = Some(error);
        }
    }

    async fn attempt<T: FromResponse>(&self, url: &Url, token: Option<&SecretText>, left: Duration, deadline: Instant) -> Result<T> {
        let request = Outgoing {
            method: self.endpoint.method.clone(),
            url: url.clone(),
            headers: self.headers(token, left)?,
            body: self.body.clone(),
            deadline,
        };
        let sent = timeout_at(deadline, self.client.shared.transport.send(request)).await;
        let response = sent.unwrap_or_else(|_| Err(lost::too_late(&lost::host(url))))?;
        response::read(&response, self.endpoint)
    }

    /// What is wrong with the arguments.
    fn check(&self) -> Result<()> {
        let wrong = |detail: &str| Err(Error::invalid_argument(detail));
        if let Some(detail) = &self.client.settings.wrong {
            return wrong(detail);
        }
        if self.if_match.as_ref().is_some_and(|etag| etag.is_empty() || !is_printable(etag)) {
            return wrong("An etag is printable ASCII, and not empty; `*` changes any state.");
        }
        let is_key = |key: &String| (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
        if !self.idempotency_key.as_ref().is_none_or(is_key) {
            return wrong("An idempotency key has 1 to 255 printable ASCII characters without spaces.");
        }
        Ok(())
    }

    fn url(&self) -> Result<Url> {
        let mut text = self.client.shared.prefix.clone();
        let mut names = self.names.iter();
        for segment in self.endpoint.path.split('/').skip(1) {
            text.push('/');
            if !segment.starts_with('{') {
                text.push_str(segment);
                continue;
            }
            let name = names.next().map(String::as_str).unwrap_or_default();
            // What is removed from URLs by whoever reads them would mean another object.
            if matches!(name, "" | "." | "..") {
                return Err(Error::invalid_argument("A name is empty or consists of dots."));
            }
            text.extend(utf8_percent_encode(name, SEGMENT));
        }
        let mut url = Url::parse(&text).map_err(|_| Error::invalid_argument("The address is no URL."))?;
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }

    fn headers(&self, token: Option<&SecretText>, left: Duration) -> Result<HeaderMap> {
        // The gateway gets a little less, so that its own answer to a passed deadline, with its request id, arrives.
        let allowed = left.saturating_sub((left / 10).min(Duration::from_millis(250))).max(SHORTEST);
        let settings = &self.client.settings;
        let given = [
            (HeaderName::from_static("claviger-tenant"), settings.tenant.as_deref()),
            (HeaderName::from_static("claviger-justification"), settings.justification.as_deref()),
            (IF_MATCH, self.if_match.as_deref()),
            (HeaderName::from_static("idempotency-key"), self.idempotency_key.as_deref()),
        ];
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("claviger-client-rust/", env!("CARGO_PKG_VERSION"))),
        );
        let timeout = format!("{}ms", allowed.as_millis());
        headers.insert(HeaderName::from_static("claviger-timeout"), value(timeout)?);
        for (name, text) in given {
            if let Some(text) = text {
                headers.insert(name, value(text.to_owned())?);
            }
        }
        if self.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(token) = token {
            let credential = Zeroizing::new([b"Bearer ", token.expose().as_bytes()].concat());
            let mut credential = value(Bytes::from_owner(credential))?;
            credential.set_sensitive(true);
            headers.insert(AUTHORIZATION, credential);
        }
        Ok(headers)
    }

    /// The time until the request may be sent again; `None` if it may not.
    fn pause(&self, error: &Error, attempt: u32) -> Option<Duration> {
        if !error.is_retryable() {
            return None;
        }
        let least = error.retry_after();
        let is_lost = error.status().is_none() || *error.code() == ErrorCode::UnexpectedResponse;
        if is_lost && error.maybe_executed() && self.endpoint.repeat == Repeat::Never {
            return None;
        }
        let least = match least {
            Some(least) => least,
            None if is_lost => Duration::ZERO,
            // The gateway itself says that the same request may succeed later.
            None => PAUSE_AFTER_PROBLEM,
        };
        let longest = FIRST_PAUSE.saturating_mul(1 << attempt.min(10)).min(LONGEST_PAUSE);
        Some(least + (self.client.shared.jitter)(longest))
    }
}

/// The error of an attempt after another one: what that may have done stays done.
fn after(last: Option<&Error>, error: Error) -> Error {
    let before = last.is_some_and(Error::maybe_executed);
    error.with(|parts| parts.maybe_executed |= before)
}

/// A header's value. What is given was checked to be printable.
fn value(text: impl Into<Bytes>) -> Result<HeaderValue> {
    HeaderValue::from_maybe_shared(text.into()).map_err(|_| Error::invalid_argument("A header has printable ASCII characters only."))
}

/// The token of now. Waits for a token file that is being replaced.
async fn credential(client: &Client, deadline: Instant) -> Result<SecretText> {
    let mut attempt = 0;
    loop {
        match client.shared.tokens.token().await {
            Ok(token) => return Ok(token),
            Err(error) => {
                attempt += 1;
                if !error.is_retryable() || attempt > TOKEN_ATTEMPTS || Instant::now() + TOKEN_PAUSE > deadline {
                    return Err(error);
                }
                sleep(TOKEN_PAUSE).await;
            }
        }
    }
}
