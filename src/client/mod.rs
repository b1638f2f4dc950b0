//! A client of the REST API (`docs/api.md`): sends a call and returns the response as JSON. The
//! command line uses it. It does not know the server's types, so it works with newer servers.

mod call;
mod failure;
mod token;

use std::net::IpAddr;
use std::time::Duration;

use claviger_provider::egress::{Distrust, SendError};
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
/// The caller's reason.
const JUSTIFICATION: HeaderName = HeaderName::from_static("claviger-justification");
/// The caller's deadline.
const TIMEOUT: HeaderName = HeaderName::from_static("claviger-timeout");
/// Maximum size of a response, in bytes: twice that of a batch.
const MAX_RESPONSE: usize = 32 << 20;
/// Timeout of a call without a deadline: the longest deadline that a gateway can be set to, and the network's time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60).saturating_add(TRANSIT);
/// Time added to the deadline for the network.
const TRANSIT: Duration = Duration::from_secs(5);
/// Timeout of connecting.
const CONNECT: Duration = Duration::from_secs(5);

/// Address of the gateway, and the credential.
#[derive(Debug)]
pub struct Settings {
    /// `http` or `https`, a host, and optionally a port and a path.
    pub address: Url,
    /// Bearer token. None: calls are sent without a credential.
    pub token: Option<Token>,
    /// The tenant that a platform operator acts for.
    pub tenant: Option<String>,
    /// The reason for the calls, which the audit records repeat.
    pub justification: Option<String>,
    /// Trusted certificate authorities as PEM. None: the system's.
    pub authorities: Option<Vec<u8>>,
    /// Deadline, sent as `Claviger-Timeout`.
    pub timeout: Option<Duration>,
    /// Whether a token may be sent over plain HTTP to another host than loopback.
    pub allow_plain_http: bool,
}

/// A client of one gateway.
pub struct Client {
    http: reqwest::Client,
    address: Url,
    headers: HeaderMap,
}

/// A successful response.
#[derive(Debug)]
pub struct Success {
    /// Etag of the object, if it has one.
    pub etag: Option<String>,
    /// The body. `Null` if there is none.
    pub body: Value,
}

impl Client {
    /// Creates a client. Sends nothing.
    ///
    /// # Errors
    /// `Usage` when the address cannot be one, when the token would go over plain HTTP to
    /// another host, or when an authority is no certificate.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let Settings {
            address,
            token,
            tenant,
            justification,
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
        if let Some(justification) = justification {
            let value = HeaderValue::from_str(&justification)
                .map_err(|_| Failure::Usage("the justification may contain printable ASCII characters only".to_owned()))?;
            headers.insert(JUSTIFICATION, value);
        }
        if let Some(timeout) = timeout {
            let value =
                HeaderValue::from_str(&duration::text(timeout)).map_err(|_| Failure::Usage("the timeout is not a duration".to_owned()))?;
            headers.insert(TIMEOUT, value);
        }
        let call_timeout = timeout.map_or(DEFAULT_TIMEOUT, |timeout| timeout.saturating_add(TRANSIT));
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(call_timeout)
            .user_agent(concat!("claviger/", env!("CARGO_PKG_VERSION")));
        let builder = match authorities {
            Some(pem) => {
                let roots = Certificate::from_pem_bundle(&pem).ok().filter(|roots| !roots.is_empty());
                builder.tls_certs_only(roots.ok_or_else(|| Failure::Usage("the CA file contains no PEM certificate".to_owned()))?)
            }
            // Plain HTTP verifies no certificate, so start with no root certificates. The client
            // then also works on a system that has none.
            None if address.scheme() == "http" => builder.tls_certs_only([]),
            None => builder,
        };
        let http = builder
            .build()
            .map_err(|error| Failure::Local(format!("the HTTP client cannot start: {}", causes(&error))))?;
        Ok(Self { http, address, headers })
    }

    /// Sends one call, without retries. [`Problem::retryable`] says whether a retry may help.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn send(&self, call: Call) -> Result<Success, Failure> {
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
            serde_json::from_slice(&bytes).map_err(|_| Failure::Protocol("the response is not JSON".to_owned()))?
        };
        let etag = body.get("etag").and_then(Value::as_str).map(str::to_owned).or(etag);
        Ok(Success { etag, body })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(error, &self.address))? {
            if bytes.len() + chunk.len() > MAX_RESPONSE {
                return Err(Failure::Protocol("the response is too large".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn check_address(address: &Url, plain_is_refused: bool) -> Result<(), Failure> {
    let usage = |text: &str| Err(Failure::Usage(text.to_owned()));
    let Some(host) = address.host_str() else {
        return usage("the address has no host");
    };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let loopback = host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback());
    if !address.username().is_empty() || address.password().is_some() || address.query().is_some() || address.fragment().is_some() {
        return usage("the address may have only a scheme, a host, a port and a path");
    }
    match address.scheme() {
        "https" => Ok(()),
        "http" if loopback || !plain_is_refused => Ok(()),
        "http" => usage("a token is sent to another host only over https (or with --allow-plain-http)"),
        _ => usage("the address must begin with http:// or https://"),
    }
}

/// The failure of a call without a complete response.
fn unreachable(error: reqwest::Error, address: &Url) -> Failure {
    let place = address.host_str().unwrap_or_default();
    let port = address.port_or_known_default().unwrap_or_default();
    // It leaves out the URL, which contains names of keys.
    let error = SendError::of(error);
    let what_to_do = match &error {
        SendError::Untrusted(why) => untrusted(*why),
        SendError::NotTls => "use http:// in --address, or the port of its https listener",
        SendError::NotHttp => "if it speaks TLS on this port, use https:// in --address",
        SendError::ClientCertificateRejected => "claviger has no client certificate to show: use a listener that requires none",
        SendError::Unreachable(_) => "check --address, and whether the gateway runs",
        SendError::Refused(_)
        | SendError::Timeout
        | SendError::Broken(_)
        | SendError::TooLong
        | SendError::WrongHost
        | SendError::Crowded
        | SendError::Unread
        | SendError::Severed(_) => return Failure::Unreachable(format!("{place}:{port}: {error}")),
    };
    Failure::Unreachable(format!("{place}:{port}: {error}\n  what to do: {what_to_do}"))
}

/// What to do about a gateway whose certificate is not trusted.
const fn untrusted(why: Distrust) -> &'static str {
    match why {
        Distrust::Authority => "name a PEM file with the certificate of its authority (its own if it is self-signed) with --ca",
        Distrust::Name => "use a name from the certificate in --address",
        Distrust::Time => "renew the gateway's certificate, or set this machine's clock",
        Distrust::OfAuthority => "give the gateway a certificate with basicConstraints CA:FALSE (docs/configuration.md, TLS)",
        Distrust::Unfit => "give the gateway a version 3 certificate with CA:FALSE and, if it lists uses, serverAuth among them",
    }
}

/// The innermost cause of an error, which describes it best.
fn causes(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
