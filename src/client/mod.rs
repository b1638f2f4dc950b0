//! A client of the REST API (`docs/api.md`): one call, its answer as JSON, and every way in
//! which it can fail. Used by the command line; it knows nothing of the server's types, so
//! it talks to a newer server as well.

mod call;
mod failure;
mod token;

use std::net::IpAddr;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Response, Url};
use serde_json::Value;

use crate::duration;

pub use call::Call;
pub use failure::{Failure, Place, Problem};
pub use token::{Token, TokenError};

/// The tenant that a platform operator acts for.
const TENANT: HeaderName = HeaderName::from_static("claviger-tenant");
/// The deadline that the caller wants kept.
const TIMEOUT: HeaderName = HeaderName::from_static("claviger-timeout");
/// The longest answer that is read, in bytes: a batch's, with room.
const MAX_ANSWER: usize = 32 << 20;
/// How long an answer is awaited when no deadline was asked for: a batch's, with room.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much longer than its deadline an answer may be under way.
const TRANSIT: Duration = Duration::from_secs(5);
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// Where the gateway is, and as whom to talk to it.
#[derive(Debug)]
pub struct Settings {
    /// The gateway's address: `http` or `https`, a host, and no more than a path.
    pub address: Url,
    /// The credential.
    pub token: Option<Token>,
    /// The tenant that a platform operator acts for.
    pub tenant: Option<String>,
    /// Certificate authorities as PEM. None: the system's.
    pub authorities: Option<Vec<u8>>,
    /// The deadline that the gateway is asked to keep.
    pub timeout: Option<Duration>,
    /// Whether a token may go to another host over plain HTTP.
    pub allow_plain_http: bool,
}

/// A client of one gateway.
pub struct Client {
    http: reqwest::Client,
    address: Url,
    headers: HeaderMap,
}

/// An answer with a status of success.
#[derive(Debug)]
pub struct Reply {
    /// The object's revision, where it has one.
    pub etag: Option<String>,
    /// The body; `Null` when there is none.
    pub body: Value,
}

impl Client {
    /// Prepares a client; nothing is sent yet.
    ///
    /// # Errors
    /// `Usage` when the address cannot be one, when the token would go over plain HTTP to
    /// another host, or when an authority is no certificate.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let Settings {
            address,
            token,
            tenant,
            authorities,
            timeout,
            allow_plain_http,
        } = settings;
        check_address(&address, token.is_some() && !allow_plain_http)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.header().map_err(|error| Failure::Usage(error.to_string()))?);
        }
        if let Some(tenant) = tenant {
            let value = HeaderValue::from_str(&tenant).map_err(|_| Failure::Usage("the tenant is not a name".to_owned()))?;
            headers.insert(TENANT, value);
        }
        if let Some(timeout) = timeout {
            let value =
                HeaderValue::from_str(&duration::text(timeout)).map_err(|_| Failure::Usage("the timeout is no duration".to_owned()))?;
            headers.insert(TIMEOUT, value);
        }
        let patience = timeout.map_or(PATIENCE, |timeout| timeout.saturating_add(TRANSIT));
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(patience)
            .user_agent(concat!("claviger/", env!("CARGO_PKG_VERSION")));
        let builder = match authorities {
            Some(pem) => {
                let roots = Certificate::from_pem_bundle(&pem).ok().filter(|roots| !roots.is_empty());
                builder.tls_certs_only(roots.ok_or_else(|| Failure::Usage("the CA file holds no certificate as PEM".to_owned()))?)
            }
            // Nothing to verify, so a system without certificates is no obstacle.
            None if address.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        let http = builder
            .build()
            .map_err(|error| Failure::Local(format!("the HTTP client cannot start: {}", causes(&error))))?;
        Ok(Self { http, address, headers })
    }

    /// Makes one call. Nothing is tried twice: whether a failure can be retried is in it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn send(&self, call: Call) -> Result<Reply, Failure> {
        let url = call.url(&self.address)?;
        let mut request = self
            .http
            .request(call.method, url)
            .headers(self.headers.clone())
            .headers(call.headers);
        if let Some(body) = call.body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| unreachable(error, &self.address))?;
        let status = response.status();
        let etag = response
            .headers()
            .get("etag")
            .and_then(|etag| etag.to_str().ok())
            .map(str::to_owned);
        let bytes = self.read(response).await?;
        if !status.is_success() {
            return Err(Failure::answered(status, &bytes));
        }
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|_| Failure::Protocol("the answer is not JSON".to_owned()))?
        };
        let etag = body.get("etag").and_then(Value::as_str).map(str::to_owned).or(etag);
        Ok(Reply { etag, body })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(error, &self.address))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::Protocol("the answer is too large".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn check_address(address: &Url, plain_is_refused: bool) -> Result<(), Failure> {
    let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
    let Some(host) = address.host_str() else {
        return usage("the address names no host");
    };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    if !address.username().is_empty() || address.password().is_some() || address.query().is_some() || address.fragment().is_some() {
        return usage("the address has more than a scheme, a host, a port and a path");
    }
    match address.scheme() {
        "https" => Ok(()),
        "http" if loopback || !plain_is_refused => Ok(()),
        "http" => usage("a token goes to another host only over https (or with --allow-plain-http)"),
        _ => usage("the address begins with http:// or https://"),
    }
}

/// No answer came, or only a part of it.
fn unreachable(error: reqwest::Error, address: &Url) -> Failure {
    let place = address.host_str().unwrap_or_default();
    let port = address.port_or_known_default().unwrap_or_default();
    let what = if error.is_timeout() {
        "no answer in time"
    } else {
        "no connection, or it broke"
    };
    // The request's URL names keys; the address is enough to find the fault.
    Failure::Unreachable(format!("{place}:{port}: {what} ({})", causes(&error.without_url())))
}

/// The last cause says what happened; what stands above it only says where.
fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
