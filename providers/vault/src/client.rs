//! Calls of the server's HTTP API: the one place that sends a call and reports it. It keeps no state.

use claviger_provider::egress::{self, Client, Response};
use claviger_provider::kit::http::{MAX_RESPONSE, retry_after};
use claviger_provider::{CallResult, CallSink, SHORT_RESPONSE, Secret};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::errors::{CallError, ErrorResponse, Refusal};
use crate::names::Path;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Agents and proxies of Vault accept only requests with this header.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// A token as the header value that carries it. It is printed nowhere.
pub(crate) struct Token(HeaderValue);

impl Token {
    /// `None` for bytes that no header can carry.
    pub(crate) fn new(token: &Secret) -> Option<Self> {
        let mut value = HeaderValue::from_bytes(token.expose()).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

/// A request of one call.
pub(crate) struct Request<'a> {
    /// The API's path without names and mounts, for the record of the call.
    operation: &'static str,
    method: Method,
    /// The path below `/v1`.
    path: &'a [&'a str],
    query: &'a [(&'a str, &'a str)],
    body: Option<Zeroizing<Vec<u8>>>,
    /// Whether the call changes something at the server.
    changing: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn get(operation: &'static str, path: &'a [&'a str]) -> Self {
        Self {
            operation,
            method: Method::GET,
            path,
            query: &[],
            body: None,
            changing: false,
        }
    }

    pub(crate) fn post(operation: &'static str, path: &'a [&'a str], body: &impl Serialize) -> Result<Self, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::Unbuilt(error.to_string()))?;
        Ok(Self {
            operation,
            method: Method::POST,
            path,
            query: &[],
            body: Some(Zeroizing::new(body)),
            changing: false,
        })
    }

    /// Marks a call that changes something at the server.
    pub(crate) const fn changing(mut self) -> Self {
        self.changing = true;
        self
    }

    pub(crate) const fn query(mut self, query: &'a [(&'a str, &'a str)]) -> Self {
        self.query = query;
        self
    }

    /// The same request once more.
    pub(crate) fn again(&self) -> Self {
        Self {
            operation: self.operation,
            method: self.method.clone(),
            path: self.path,
            query: self.query,
            body: self.body.clone(),
            changing: self.changing,
        }
    }
}

/// The body of a successful response. Unknown members are ignored: newer servers add some.
#[derive(Deserialize)]
pub(crate) struct ApiResponse<D> {
    #[serde(default)]
    request_id: String,
    #[serde(default = "none")]
    data: Option<D>,
    #[serde(default)]
    pub(crate) auth: Option<AuthBlock>,
    #[serde(default)]
    pub(crate) warnings: Option<Vec<String>>,
}

fn none<D>() -> Option<D> {
    None
}

impl<D> ApiResponse<D> {
    /// The data, which the call must have returned.
    pub(crate) fn data(self) -> Result<D, CallError> {
        self.data.ok_or(CallError::MalformedResponse("data"))
    }

    /// The server's id of the call, where it has the form of one.
    pub(crate) fn request_id(&self) -> Option<String> {
        let id = self.request_id.as_str();
        let fits = (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        fits.then(|| id.to_owned())
    }
}

/// A token, as a login or a renewal returns it.
#[derive(Deserialize)]
pub(crate) struct AuthBlock {
    /// Taken by [`AuthBlock::token`].
    #[serde(default)]
    client_token: String,
    /// Seconds; 0 for a token that never ends.
    #[serde(default)]
    pub(crate) lease_duration: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
}

impl AuthBlock {
    pub(crate) fn token(&mut self) -> Option<Token> {
        Token::new(&Secret::new(std::mem::take(&mut self.client_token).into_bytes()))
    }
}

/// A response whose data the gateway does not use.
#[derive(Deserialize)]
pub(crate) struct Ignored {}

/// The most sentences of a refusal that are kept, and the most characters of each: a login's refusal is remembered for
/// minutes, and a tenant's own server may send anything.
const MAX_SENTENCES: usize = 8;
const MAX_SENTENCE: usize = 1024;

/// Vault's body of a refusal.
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<String>,
}

impl ErrorBody {
    fn sentences(&self) -> Vec<String> {
        let first = self.errors.iter().take(MAX_SENTENCES);
        first.map(|sentence| sentence.chars().take(MAX_SENTENCE).collect()).collect()
    }
}

/// The server, in one namespace.
pub(crate) struct Api {
    client: Client,
    namespace: Option<HeaderValue>,
}

impl Api {
    /// `None` for a namespace that no header can carry.
    pub(crate) fn new(client: Client, namespace: Option<&Path>) -> Option<Self> {
        let namespace = match namespace {
            Some(path) => Some(HeaderValue::from_str(path.as_str()).ok()?),
            None => None,
        };
        Some(Self { client, namespace })
    }

    /// Makes a call.
    ///
    /// # Errors
    /// When there is no success.
    pub(crate) async fn call<D: DeserializeOwned>(
        &self,
        sink: CallSink<'_>,
        token: Option<&Token>,
        request: Request<'_>,
    ) -> Result<ApiResponse<D>, CallError> {
        let mut headers = headers(token);
        if let Some(namespace) = &self.namespace {
            headers.insert(NAMESPACE, namespace.clone());
        }
        let attempt = sink.begin(request.operation);
        let attempt = if request.changing { attempt.changing() } else { attempt };
        let result = self.send(headers, request).await.and_then(parse);
        let request_id = result.as_ref().ok().and_then(ApiResponse::request_id);
        attempt.finish(request_id.as_deref(), CallResult::of(&result, CallError::result));
        result
    }

    /// Makes a call that belongs to no namespace. Its body is the data itself, whatever the status.
    ///
    /// # Errors
    /// When there is no such body. `Refused` for the page of a gateway before the server that says that it is away or
    /// busy.
    pub(crate) async fn call_system<D: DeserializeOwned>(&self, sink: CallSink<'_>, request: Request<'_>) -> Result<D, CallError> {
        let attempt = sink.begin(request.operation);
        let response = self.send(headers(None), request).await;
        let result = response.and_then(|response| match (body(&response), response.status.as_u16()) {
            (Err(_), status @ (429 | 500..=599)) => Err(refused(&response, status)),
            (body, _) => body,
        });
        attempt.finish(None, CallResult::of(&result, CallError::result));
        result
    }

    async fn send(&self, headers: HeaderMap, request: Request<'_>) -> Result<Response, CallError> {
        let mut path = vec!["v1"];
        path.extend(request.path);
        // Only what describes a key is long: a read, and some changes, have a line for each version.
        let is_long = request.changing || request.method == Method::GET;
        let client = self.client.with_max_response(if is_long { MAX_RESPONSE } else { SHORT_RESPONSE });
        let request = egress::Request {
            method: request.method,
            path: &path,
            query: request.query,
            headers,
            json: request.body,
        };
        Ok(client.send(request).await?)
    }
}

fn headers(token: Option<&Token>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(REQUEST, HeaderValue::from_static("true"));
    if let Some(Token(token)) = token {
        headers.insert(TOKEN, token.clone());
    }
    headers
}

fn parse<D: DeserializeOwned>(response: Response) -> Result<ApiResponse<D>, CallError> {
    match response.status.as_u16() {
        200 => body(&response),
        204 => Ok(ApiResponse {
            request_id: String::new(),
            data: None,
            auth: None,
            warnings: None,
        }),
        status => Err(refused(&response, status)),
    }
}

fn refused(response: &Response, status: u16) -> CallError {
    CallError::Refused(Refusal::Response(ErrorResponse {
        status,
        sentences: serde_json::from_slice::<ErrorBody>(&response.body)
            .ok()
            .map(|body| body.sentences()),
        pause: retry_after(&response.headers),
    }))
}

fn body<T: DeserializeOwned>(response: &Response) -> Result<T, CallError> {
    serde_json::from_slice(&response.body).map_err(|_| CallError::MalformedResponse("body"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_of_a_long_refusal_is_kept() {
        let errors = vec!["x".repeat(1 << 16); 100];
        let kept = ErrorBody { errors }.sentences();
        assert_eq!(kept, vec!["x".repeat(MAX_SENTENCE); MAX_SENTENCES]);
        assert!(kept.capacity() <= 2 * MAX_SENTENCES && kept.iter().all(|sentence| sentence.capacity() <= 2 * MAX_SENTENCE));
    }
}
