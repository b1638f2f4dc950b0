//! A client of one destination: bounded in time and bytes, and it goes nowhere else.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::tls::{Certificate, Version};
use reqwest::{Method, Proxy, RequestBuilder, StatusCode, Url};
use zeroize::Zeroizing;

use super::resolver::{Filtered, Refused};
use super::{ClientCertificate, Destination};
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
    /// What is shown to a server that asks who we are.
    pub client_certificate: Option<ClientCertificate>,
    /// A proxy in front of the destination; none is taken from the environment.
    pub proxy: Option<Destination>,
    /// The longest time until a connection is open, TLS included.
    pub connect_timeout: Duration,
    /// The longest time of a call, from its start to the last byte of the answer.
    pub timeout: Duration,
    /// The longest answer, in bytes.
    pub max_response: usize,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("the TLS of this system cannot be set up")]
pub struct ClientError(#[source] reqwest::Error);

/// One call.
pub struct Request<'a> {
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

/// One call that somebody else made up, such as a vendor's own client: its whole address, and
/// bytes of any kind.
pub struct RawRequest<'a> {
    /// The method.
    pub method: Method,
    /// Where to: the destination's own scheme, host and port, or it is not made.
    pub address: &'a Url,
    /// Headers, the kind of the body among them; mark what is secret as sensitive.
    pub headers: HeaderMap,
    /// The body, empty for none.
    pub body: Zeroizing<Vec<u8>>,
}

/// A whole answer, whatever its status: a redirect is an answer like any other.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`Options::max_response`] bytes.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer. It names no address and no secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The egress policy refuses every address of the host.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The server's certificate is not believed.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(Distrust),
    /// The server wants a client certificate, or another one than it was shown.
    #[error("the server does not take the client certificate, or wants one")]
    ClientCertificateRejected,
    /// No whole answer came in time.
    #[error("no answer in time")]
    Timeout,
    /// No connection came about, or it broke.
    #[error("no connection, or it broke ({0})")]
    Unreachable(String),
    /// The answer is longer than it may be.
    #[error("the answer is too long")]
    TooLong,
    /// The call leads elsewhere than to the destination, as a link in an answer may.
    #[error("the call leads to another host")]
    WrongHost,
}

/// Why a server's certificate is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// None of the authorities vouches for it.
    #[error("no trusted authority vouches for it")]
    Authority,
    /// It was made out to another name.
    #[error("it is for another host")]
    Name,
    /// Its time has not come or is over.
    #[error("it is not valid at this time")]
    Time,
    /// It is malformed, revoked, or not one of a server.
    #[error("it is malformed, revoked, or not one of a server")]
    Unfit,
}

impl Distrust {
    fn of(error: &rustls::CertificateError) -> Self {
        use rustls::CertificateError as Why;
        match error {
            Why::UnknownIssuer | Why::BadSignature => Self::Authority,
            Why::NotValidForName | Why::NotValidForNameContext { .. } => Self::Name,
            Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. } => Self::Time,
            // Theirs, and it may grow.
            _ => Self::Unfit,
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Authority => {
                "The server's certificate is not trusted: make a connection whose setting `ca` holds its authority's certificate (that \
                 of the server itself if it is self-signed)."
            }
            Self::Name => {
                "The server's certificate is for another host: make a connection whose address has a name that stands in the certificate."
            }
            Self::Time => "The server's certificate has expired or is not valid yet: renew it, or set this machine's clock.",
            Self::Unfit => {
                "The server's certificate is not one that a server may show: it must be a version 3 certificate with CA:FALSE and, if it \
                 lists uses, serverAuth among them."
            }
        }
    }
}

impl SendError {
    /// The kind of error that it becomes.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(_) | Self::Untrusted(_) | Self::ClientCertificateRejected => ErrorKind::Misconfigured,
            Self::Timeout => ErrorKind::UpstreamTimeout,
            Self::Unreachable(_) => ErrorKind::UpstreamUnavailable,
            Self::TooLong | Self::WrongHost => ErrorKind::UpstreamProtocol,
        }
    }

    /// As an adapter's error; `operation` says what was being done.
    pub fn into_error(self, operation: &'static str) -> Error {
        let error = Error::new(self.kind(), operation);
        let error = match &self {
            Self::Refused(_) => error
                .advice("The connection's host leads to a network that this gateway may not reach; the operator allows it in [egress]."),
            Self::Untrusted(why) => error.advice(why.advice()),
            Self::ClientCertificateRejected => error.advice(
                "The server refuses the connection's client certificate, or there is none and it demands one: log in with one that its \
                 authority made.",
            ),
            Self::Timeout | Self::Unreachable(_) => error.retry(Retry::Backoff),
            Self::TooLong | Self::WrongHost => error,
        };
        error.source(self)
    }
}

/// How long a connection is kept for a next call. Its buffers may still hold what was last
/// sent and received, a data key among it, and are freed with it; so it is no longer than the
/// cache by default keeps a key that nobody asks for.
const KEPT_IDLE: Duration = Duration::from_secs(15);

/// A client of one destination.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    destination: Destination,
    max_response: usize,
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
            .pool_idle_timeout(KEPT_IDLE)
            .timeout(options.timeout)
            .tls_version_min(Version::TLS_1_2)
            .user_agent(concat!("claviger/", env!("CARGO_PKG_VERSION")));
        let proxied = match &options.proxy {
            Some(proxy) => builder.proxy(Proxy::all(proxy.as_str()).map_err(ClientError)?),
            None => builder,
        };
        let identified = match options.client_certificate {
            Some(ClientCertificate(identity)) => proxied.identity(identity),
            None => proxied,
        };
        let encrypted = destination.encrypted() || options.proxy.as_ref().is_some_and(Destination::encrypted);
        let trusting = match options.authorities {
            Authorities::Only(certificates) => identified.tls_certs_only(certificates),
            // Nothing to verify, so a system without certificates is no obstacle.
            Authorities::System if !encrypted => identified.tls_certs_only([]),
            Authorities::System => identified,
        };
        Ok(Self {
            http: trusting.build().map_err(ClientError)?,
            destination,
            max_response: options.max_response,
        })
    }

    /// Makes one call, once.
    ///
    /// # Errors
    /// When there is no whole answer. An answer of any status is none.
    pub async fn send(&self, call: Request<'_>) -> Result<Response, SendError> {
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
        self.answer(request).await
    }

    /// Makes one call that somebody else made up, once.
    ///
    /// # Errors
    /// As [`Client::send`], and when it leads elsewhere.
    pub async fn forward(&self, mut call: RawRequest<'_>) -> Result<Response, SendError> {
        if !self.destination.hosts(call.address) {
            return Err(SendError::WrongHost);
        }
        let request = self.http.request(call.method, call.address.clone()).headers(call.headers);
        self.answer(request.body(std::mem::take(&mut *call.body))).await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Response, SendError> {
        let mut response = request.send().await.map_err(explain)?;
        let body = self.read(&mut response).await?;
        Ok(Response {
            status: response.status(),
            headers: std::mem::take(response.headers_mut()),
            body,
        })
    }

    async fn read(&self, response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, SendError> {
        let announced = response
            .content_length()
            .map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced > self.max_response {
            return Err(SendError::TooLong);
        }
        let mut body = Zeroizing::new(Vec::with_capacity(announced));
        while let Some(chunk) = response.chunk().await.map_err(explain)? {
            if body.len() + chunk.len() > self.max_response {
                return Err(SendError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Whether a server says by this that it does not take our certificate.
fn rejects_client_certificate(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
    )
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
            match at.downcast_ref::<rustls::Error>() {
                Some(rustls::Error::InvalidCertificate(why)) => return SendError::Untrusted(Distrust::of(why)),
                Some(rustls::Error::AlertReceived(alert)) if rejects_client_certificate(*alert) => {
                    return SendError::ClientCertificateRejected;
                }
                Some(_) | None => {}
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
