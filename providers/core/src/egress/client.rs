//! A client of one destination: bounded in time and bytes, and it goes nowhere else.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::tls::{Certificate, Version};
use reqwest::{Method, Proxy, Response, StatusCode};
use zeroize::Zeroizing;

use super::Destination;
use super::resolver::{Filtered, Refused};
use crate::{Error, ErrorKind, Retry};

/// Whose certificates a server's own may come from.
#[derive(Clone, Default)]
pub enum Authorities {
    /// Those that this system trusts.
    #[default]
    System,
    /// These alone.
    Only(Vec<Certificate>),
}

impl Authorities {
    /// These alone, from one or more certificates as PEM text; `None` if there are none.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).ok()?;
        (!certificates.is_empty()).then_some(Self::Only(certificates))
    }
}

/// How a client behaves.
#[derive(Clone)]
pub struct Options {
    /// Whose certificates are believed.
    pub authorities: Authorities,
    /// A proxy in front of the destination; none is taken from the environment.
    pub proxy: Option<Destination>,
    /// The longest time until a connection is open, TLS included.
    pub connect_timeout: Duration,
    /// The longest time of a call, from its start to the last byte of the answer.
    pub timeout: Duration,
    /// The longest answer, in bytes.
    pub max_answer: usize,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("the TLS of this system cannot be set up")]
pub struct ClientError(#[source] reqwest::Error);

/// One call.
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// The path under the destination's own, one segment each.
    pub path: &'a [&'a str],
    /// The query, empty for none.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers; mark what is secret as sensitive.
    pub headers: HeaderMap,
    /// A JSON body.
    pub json: Option<Zeroizing<Vec<u8>>>,
}

/// A whole answer, whatever its status: a redirect is an answer like any other.
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`Options::max_answer`] bytes.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer. It names no address and no secret.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The egress policy refuses every address of the host.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The server's certificate is not believed.
    #[error("the server's certificate is not trusted ({0})")]
    Untrusted(String),
    /// No whole answer came in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection came about, or it broke.
    #[error("no connection, or it broke ({0})")]
    Unreachable(String),
    /// The answer is longer than it may be.
    #[error("the answer is too long")]
    TooLong,
}

impl SendError {
    /// As an adapter's error; `doing` says what was being done.
    pub fn into_error(self, doing: &'static str) -> Error {
        let error = match &self {
            Self::Refused(_) => Error::new(ErrorKind::Misconfigured, doing)
                .advice("The connection's host leads to a network that this gateway may not reach; the operator allows it in [egress]."),
            Self::Untrusted(_) => Error::new(ErrorKind::Misconfigured, doing)
                .advice("The server's certificate is not trusted: make a connection whose setting `ca` holds its authority's certificate."),
            Self::Timeout => Error::new(ErrorKind::UpstreamTimeout, doing).retry(Retry::Backoff),
            Self::Unreachable(_) => Error::new(ErrorKind::UpstreamUnavailable, doing).retry(Retry::Backoff),
            Self::TooLong => Error::new(ErrorKind::UpstreamProtocol, doing),
        };
        error.source(self)
    }
}

/// A client of one destination.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    destination: Destination,
    max_answer: usize,
}

impl Client {
    pub(super) fn new(destination: Destination, options: Options, resolver: Filtered) -> Result<Self, ClientError> {
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(resolver)
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout)
            .tls_version_min(Version::TLS_1_2)
            .user_agent(concat!("claviger/", env!("CARGO_PKG_VERSION")));
        let proxied = match &options.proxy {
            Some(proxy) => builder.proxy(Proxy::all(proxy.as_str()).map_err(ClientError)?),
            None => builder,
        };
        let encrypted = destination.encrypted() || options.proxy.as_ref().is_some_and(Destination::encrypted);
        let trusting = match options.authorities {
            Authorities::Only(certificates) => proxied.tls_certs_only(certificates),
            // Nothing to verify, so a system without certificates is no obstacle.
            Authorities::System if !encrypted => proxied.tls_certs_only([]),
            Authorities::System => proxied,
        };
        Ok(Self {
            http: trusting.build().map_err(ClientError)?,
            destination,
            max_answer: options.max_answer,
        })
    }

    /// Makes one call, once.
    ///
    /// # Errors
    /// When there is no whole answer. An answer of any status is none.
    pub async fn send(&self, call: Call<'_>) -> Result<Answer, SendError> {
        let mut url = self.destination.join(call.path.iter().copied());
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let mut request = self.http.request(call.method, url).headers(call.headers);
        if let Some(mut json) = call.json {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(std::mem::take(&mut *json));
        }
        let mut response = request.send().await.map_err(explain)?;
        let body = self.read(&mut response).await?;
        Ok(Answer {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }

    async fn read(&self, response: &mut Response) -> Result<Zeroizing<Vec<u8>>, SendError> {
        let announced = response
            .content_length()
            .map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced > self.max_answer {
            return Err(SendError::TooLong);
        }
        let mut body = Zeroizing::new(Vec::with_capacity(announced));
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if body.len() + chunk.len() > self.max_answer {
                return Err(SendError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// What a failure means, by its causes and not by its words.
fn explain(error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut last = String::new();
    while let Some(at) = cause {
        // An I/O error shows what is inside it, but does not name it as its cause.
        let inner: Option<&(dyn StdError + 'static)> = match at.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => None,
        };
        for at in [Some(at), inner].into_iter().flatten() {
            if let Some(refused) = at.downcast_ref::<Refused>() {
                return SendError::Refused(*refused);
            }
            if let Some(rustls::Error::InvalidCertificate(why)) = at.downcast_ref::<rustls::Error>() {
                return SendError::Untrusted(why.to_string());
            }
        }
        last = at.to_string();
        cause = inner.or_else(|| at.source());
    }
    // A connection that never opened is a host that is away; afterwards it is one that is slow.
    if error.is_timeout() && !error.is_connect() {
        SendError::Timeout
    } else {
        SendError::Unreachable(last)
    }
}
