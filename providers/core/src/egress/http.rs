//! An HTTP client of one destination, with limits on time and bytes. It connects nowhere else.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::tls::Version;
use reqwest::{Method, Proxy, RequestBuilder, StatusCode, Url};
use zeroize::Zeroizing;

use super::destination::Destination;
use super::dial::{Dialer, ResolveError};
use super::send_error::SendError;
use super::tls::{Authorities, ClientCertificate};
use crate::sever_switch::SeverSwitch;

/// Options of a client.
#[derive(Clone)]
pub struct Options {
    /// The authorities that the server's certificate may come from.
    pub authorities: Authorities,
    /// The certificate for servers that request one.
    pub client_certificate: Option<ClientCertificate>,
    /// A proxy in front of the destination; none is taken from the environment.
    pub proxy: Option<Destination>,
    /// The longest time until a connection is open, TLS included.
    pub connect_timeout: Duration,
    /// The longest time of a call, from its start to the last byte of the response.
    pub timeout: Duration,
    /// The longest response body, in bytes.
    pub max_response: usize,
    /// Stops the client's requests. A client of no connection has one of its own.
    pub switch: SeverSwitch,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("the TLS of this system cannot be set up")]
pub struct ClientError(#[source] reqwest::Error);

/// One request to a path of the destination.
pub struct Request<'a> {
    /// The HTTP method.
    pub method: Method,
    /// The path below the destination's own, one segment each.
    pub path: &'a [&'a str],
    /// The query, empty for none.
    pub query: &'a [(&'a str, &'a str)],
    /// Headers; mark secret ones as sensitive.
    pub headers: HeaderMap,
    /// A JSON body.
    pub json: Option<Zeroizing<Vec<u8>>>,
}

/// A request that a vendor's own client built: a complete URL, and bytes of any kind.
pub struct RawRequest<'a> {
    /// The HTTP method.
    pub method: Method,
    /// The URL. It must have the destination's scheme, host and port.
    pub address: &'a Url,
    /// Headers, the body's content type among them; mark secret ones as sensitive.
    pub headers: HeaderMap,
    /// The body, empty for none.
    pub body: Zeroizing<Vec<u8>>,
}

/// A complete response of any status; a redirect is one like any other.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`Options::max_response`] bytes.
    pub body: Zeroizing<Vec<u8>>,
}

/// How long an idle connection stays open. Its buffers may still hold what was last sent and
/// received, data keys included, so it is no longer than the default time for which the DEK cache
/// keeps an unused key.
const POOL_IDLE: Duration = Duration::from_secs(15);

/// A client of one destination.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    destination: Destination,
    max_response: usize,
    switch: SeverSwitch,
}

impl Client {
    pub(super) fn new(destination: Destination, options: Options, dialer: Dialer) -> Result<Self, ClientError> {
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(Resolver(dialer))
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
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
            // Plain HTTP verifies nothing, so it also works on a system without certificates.
            Authorities::System if !encrypted => identified.tls_certs_only([]),
            Authorities::System => identified,
        };
        Ok(Self {
            http: trusting.build().map_err(ClientError)?,
            destination,
            max_response: options.max_response,
            switch: options.switch,
        })
    }

    /// Sends one request, once.
    ///
    /// # Errors
    /// When there is no complete response. A response of any status is no error.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, SendError> {
        let mut url = self.destination.join(request.path.iter().copied());
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query);
        }
        let mut built = self.http.request(request.method, url).headers(request.headers);
        if let Some(mut json) = request.json {
            built = built
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(std::mem::take(&mut *json));
        }
        self.response(built).await
    }

    /// Sends one request that a vendor's client built, once.
    ///
    /// # Errors
    /// As [`Client::send`], and when its URL is not the destination's.
    pub async fn forward(&self, mut request: RawRequest<'_>) -> Result<Response, SendError> {
        if !self.destination.hosts(request.address) {
            return Err(SendError::WrongHost);
        }
        let built = self.http.request(request.method, request.address.clone()).headers(request.headers);
        self.response(built.body(std::mem::take(&mut *request.body))).await
    }

    async fn response(&self, request: RequestBuilder) -> Result<Response, SendError> {
        let exchange = async {
            let mut response = request.send().await.map_err(SendError::of)?;
            let body = self.body(&mut response).await?;
            Ok(Response {
                status: response.status(),
                headers: std::mem::take(response.headers_mut()),
                body,
            })
        };
        self.switch.pass(exchange).await?
    }

    async fn body(&self, response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, SendError> {
        let announced = response
            .content_length()
            .map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if announced > self.max_response {
            return Err(SendError::TooLong);
        }
        let mut body = Zeroizing::new(Vec::with_capacity(announced));
        while let Some(chunk) = response.chunk().await.map_err(SendError::of)? {
            if body.len() + chunk.len() > self.max_response {
                return Err(SendError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Resolves names for the HTTP client, which connects to these addresses and no others: the
/// addresses that the policy permitted are the ones that are used.
struct Resolver(Dialer);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let dialer = self.0.clone();
        Box::pin(async move {
            let permitted = dialer
                .resolve(name.as_str())
                .await
                .map_err(|error| -> Box<dyn std::error::Error + Send + Sync> {
                    match error {
                        ResolveError::Refused(refused) => refused.into(),
                        ResolveError::Lookup(error) => error.into(),
                    }
                })?;
            // Port 0 stands for the URL's own.
            let addresses: Vec<SocketAddr> = permitted.into_iter().map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
