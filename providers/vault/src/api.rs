//! Calls to the server's HTTP API and its envelopes: one call, one answer, no state.

use std::time::Duration;

use claviger_provider::Secret;
use claviger_provider::egress::{self, Client, Response};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::errors::{CallError, Refusal};
use crate::names::Path;

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Agents and proxies of Vault take only requests that carry it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// A token, in the form in which it is sent; printed nowhere.
pub(crate) struct Token(HeaderValue);

impl Token {
    /// `None` for bytes that no header can carry.
    pub(crate) fn new(token: &Secret) -> Option<Self> {
        let mut value = HeaderValue::from_bytes(token.expose()).ok().filter(|value| !value.is_empty())?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

/// One call.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    /// Below `/v1`.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) body: Option<Zeroizing<Vec<u8>>>,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: &'a [&'a str]) -> Self {
        Self {
            method: Method::GET,
            path,
            query: &[],
            body: None,
        }
    }

    pub(crate) fn post(path: &'a [&'a str], body: &impl Serialize) -> Result<Self, CallError> {
        let body = serde_json::to_vec(body).map_err(|_| CallError::MalformedResponse("request"))?;
        Ok(Self {
            method: Method::POST,
            path,
            query: &[],
            body: Some(Zeroizing::new(body)),
        })
    }

    /// The same call once more.
    pub(crate) fn again(&self) -> Self {
        Self {
            method: self.method.clone(),
            path: self.path,
            query: self.query,
            body: self.body.clone(),
        }
    }
}

/// What a successful answer carries. Members that we do not use are let pass: servers of
/// many versions add to them.
#[derive(Deserialize)]
pub(crate) struct Reply<D> {
    #[serde(default)]
    pub(crate) request_id: String,
    #[serde(default = "none")]
    pub(crate) data: Option<D>,
    #[serde(default)]
    pub(crate) auth: Option<Login>,
    #[serde(default)]
    pub(crate) warnings: Option<Vec<String>>,
}

fn none<D>() -> Option<D> {
    None
}

impl<D> Reply<D> {
    /// The data, which the call must have brought.
    pub(crate) fn data(self) -> Result<D, CallError> {
        self.data.ok_or(CallError::MalformedResponse("data"))
    }

    /// The server's id of the call, where it has the form of one.
    pub(crate) fn id(&self) -> Option<String> {
        let fits =
            (1..=64).contains(&self.request_id.len()) && self.request_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        fits.then(|| self.request_id.clone())
    }
}

/// A token as a login or a renewal tells it.
#[derive(Deserialize)]
pub(crate) struct Login {
    /// Taken over by [`Login::token`].
    #[serde(default)]
    client_token: String,
    /// Seconds; 0 for a token that never ends.
    #[serde(default)]
    pub(crate) lease_duration: u64,
    #[serde(default)]
    pub(crate) renewable: bool,
}

impl Login {
    pub(crate) fn token(&mut self) -> Option<Token> {
        Token::new(&Secret::new(std::mem::take(&mut self.client_token).into_bytes()))
    }
}

/// Vault's own body of a refusal.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
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

    /// One call.
    pub(crate) async fn call<D: DeserializeOwned>(&self, token: Option<&Token>, request: Request<'_>) -> Result<Reply<D>, CallError> {
        let mut headers = self.headers(token);
        if let Some(namespace) = &self.namespace {
            headers.insert(NAMESPACE, namespace.clone());
        }
        reply(self.send(headers, request).await?)
    }

    /// One call that belongs to no namespace and whose body is the data itself, whatever
    /// its status says.
    pub(crate) async fn bare<D: DeserializeOwned>(&self, request: Request<'_>) -> Result<D, CallError> {
        let answer = self.send(self.headers(None), request).await?;
        serde_json::from_slice(&answer.body).map_err(|_| CallError::MalformedResponse("body"))
    }

    fn headers(&self, token: Option<&Token>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(Token(token)) = token {
            headers.insert(TOKEN, token.clone());
        }
        headers
    }

    async fn send(&self, headers: HeaderMap, request: Request<'_>) -> Result<Response, CallError> {
        let mut path = vec!["v1"];
        path.extend(request.path);
        let call = egress::Request {
            method: request.method,
            path: &path,
            query: request.query,
            headers,
            json: request.body,
        };
        self.client.send(call).await.map_err(CallError::Unsent)
    }
}

fn reply<D: DeserializeOwned>(answer: Response) -> Result<Reply<D>, CallError> {
    if answer.status.as_u16() == 204 {
        return Ok(Reply {
            request_id: String::new(),
            data: None,
            auth: None,
            warnings: None,
        });
    }
    if answer.status.as_u16() == 200 {
        return serde_json::from_slice(&answer.body).map_err(|_| CallError::MalformedResponse("body"));
    }
    let pause = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Err(CallError::Refused(Refusal {
        status: answer.status.as_u16(),
        sentences: serde_json::from_slice::<Errors>(&answer.body).ok().map(|body| body.errors),
        pause: pause.map(Duration::from_secs),
    }))
}
