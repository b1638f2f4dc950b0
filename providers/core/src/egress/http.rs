//! An HTTP client of one destination, with limits on time and bytes. It connects nowhere else.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::tls::Version;
use reqwest::{Method, Proxy, StatusCode, Url};
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::destination::Destination;
use super::dial::Dialer;
use super::dial_places::{DialPlaces, Found};
use super::pool::{Attempt, Connections, POOL_IDLE, PoolHealth};
use super::send_error::SendError;
use super::tls::{Authorities, ClientCertificate};
use crate::ProviderKind;
use crate::sever_switch::SeverSwitch;
use crate::share::{Place, SHORT_RESPONSE};

/// Options of a client.
#[derive(Clone)]
pub struct Options {
    /// The provider that it is for, as a label of metrics.
    pub provider: ProviderKind,
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

/// The most idle connections that a client keeps.
const MAX_IDLE: u32 = 8;
/// The same for a client of the operator's, which connections of many tenants share.
const MAX_IDLE_SHARED: u32 = 16;
/// Within this time, the HTTP client has closed what was idle for [`POOL_IDLE`]: it looks once in that time.
const ALL_CLOSED: Duration = POOL_IDLE.saturating_mul(2);
/// How long a connection is silent before its TCP stack asks whether the other side still exists.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(10);
/// The pause between such questions, of which two without an answer close the connection.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long sent bytes may stay unacknowledged before TCP closes the connection.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between pings of HTTP/2, whose one connection carries all requests.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long a ping may stay unanswered before its connection is closed.
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// A client of one destination. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    destination: Destination,
    max_response: usize,
    switch: SeverSwitch,
}

/// The connections of a client. reqwest cannot give up its open connections, so a client with none
/// takes its place.
struct Pool {
    recipe: Recipe,
    health: Arc<PoolHealth>,
    current: Mutex<Current>,
    /// Held while a client is made: it may read the system's certificates, and calls must not wait on a lock for that.
    making: tokio::sync::Mutex<()>,
    /// Opens a connection for each request; made when it is first needed.
    unpooled: OnceLock<reqwest::Client>,
}

struct Current {
    generation: u64,
    pooled: reqwest::Client,
    /// The places of its idle connections, while it may have some. Calls under way hold them, too: after the pool was
    /// given up, their connections are still idle until the last of them has ended.
    idle: Option<Arc<Place>>,
    last_use: Instant,
}

/// What a client is made from.
struct Recipe {
    options: Options,
    places: DialPlaces,
    encrypted: bool,
}

impl Recipe {
    const fn max_idle(&self) -> u32 {
        if self.options.switch.share().is_bounded() {
            MAX_IDLE
        } else {
            MAX_IDLE_SHARED
        }
    }

    fn client(&self, max_idle: u32) -> Result<reqwest::Client, ClientError> {
        let options = &self.options;
        // reqwest's own retries stay: they repeat what an HTTP/2 server said that it did not process
        // (GOAWAY, REFUSED_STREAM), and nothing else.
        let builder = reqwest::Client::builder()
            .redirect(Policy::none())
            .referer(false)
            .no_proxy()
            .dns_resolver(Found)
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(usize::try_from(max_idle).unwrap_or(usize::MAX))
            .connector_layer(self.places.clone())
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE_INTERVAL)
            .tcp_keepalive_retries(2)
            .tcp_user_timeout(USER_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .http2_keep_alive_while_idle(true)
            .timeout(options.timeout)
            .tls_version_min(Version::TLS_1_2)
            .user_agent(concat!("claviger/", env!("CARGO_PKG_VERSION")));
        let proxied = match &options.proxy {
            Some(proxy) => builder.proxy(Proxy::all(proxy.as_str()).map_err(ClientError)?),
            None => builder,
        };
        let identified = match &options.client_certificate {
            Some(ClientCertificate { identity, .. }) => proxied.identity(identity.clone()),
            None => proxied,
        };
        let encrypted = self.encrypted || options.proxy.as_ref().is_some_and(Destination::encrypted);
        let trusting = match &options.authorities {
            Authorities::Only(certificates) => identified.tls_certs_only(certificates.clone()),
            // Plain HTTP verifies nothing, so it also works on a system without certificates.
            Authorities::System if !encrypted => identified.tls_certs_only([]),
            Authorities::System => identified,
        };
        trusting.build().map_err(ClientError)
    }
}

impl Pool {
    /// Begins an attempt, and returns the client for it with the places of its idle connections.
    async fn attempt(self: &Arc<Self>, switch: &SeverSwitch) -> Result<(Attempt, reqwest::Client, Option<InUse>), ClientError> {
        let attempt = self.health.attempt(switch);
        if let Connections::Pooled(generation) = attempt.connections() {
            if !self.has(generation) {
                self.renew(generation).await?;
            }
            let mut current = self.current.lock();
            current.last_use = Instant::now();
            if current.idle.is_none() {
                let share = self.recipe.options.switch.share();
                current.idle = share.idle(self.recipe.max_idle()).map(Arc::new);
                if current.idle.is_some() {
                    tokio::spawn(give_back_idle(Arc::downgrade(self), current.generation));
                }
            }
            // Without places, its tenant's other connections have enough idle ones: this one keeps none.
            if let Some(idle) = &current.idle {
                let in_use = InUse {
                    pool: Arc::clone(self),
                    _idle: Arc::clone(idle),
                };
                return Ok((attempt, current.pooled.clone(), Some(in_use)));
            }
        }
        let client = match self.unpooled.get() {
            Some(client) => client.clone(),
            None => {
                let made = self.recipe.client(0)?;
                // If two are made at the same time, the first one is kept.
                self.unpooled.get_or_init(|| made).clone()
            }
        };
        Ok((attempt, client, None))
    }

    fn has(&self, generation: u64) -> bool {
        self.current.lock().generation >= generation
    }

    /// Makes the client of a generation that has none yet. All calls ask for it at once: one makes it.
    async fn renew(&self, generation: u64) -> Result<(), ClientError> {
        let _one_at_a_time = self.making.lock().await;
        if !self.has(generation) {
            let pooled = self.recipe.client(self.recipe.max_idle())?;
            let mut current = self.current.lock();
            (current.generation, current.pooled, current.idle) = (generation, pooled, None);
        }
        Ok(())
    }
}

/// A call with a connection of the pool, which may become idle with the call's end.
struct InUse {
    pool: Arc<Pool>,
    _idle: Arc<Place>,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.pool.current.lock().last_use = Instant::now();
    }
}

/// Gives the places of a generation's idle connections back when all of them must be closed. Ends with the generation.
async fn give_back_idle(pool: Weak<Pool>, generation: u64) {
    loop {
        sleep(ALL_CLOSED).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut current = pool.current.lock();
        if current.generation != generation {
            return;
        }
        if current.idle.is_none() || current.last_use.elapsed() >= ALL_CLOSED {
            current.idle = None;
            return;
        }
    }
}

impl Client {
    pub(super) fn new(destination: Destination, options: Options, dialer: Dialer) -> Result<Self, ClientError> {
        let (max_response, switch) = (options.max_response, options.switch.clone());
        let health = PoolHealth::new(options.provider, options.timeout);
        let places = DialPlaces {
            dialer,
            host: options.proxy.as_ref().unwrap_or(&destination).host().into(),
            connect_timeout: options.connect_timeout,
        };
        let recipe = Recipe {
            options,
            places,
            encrypted: destination.encrypted(),
        };
        let current = Current {
            generation: 0,
            pooled: recipe.client(recipe.max_idle())?,
            idle: None,
            last_use: Instant::now(),
        };
        let pool = Pool {
            recipe,
            health,
            current: Mutex::new(current),
            making: tokio::sync::Mutex::default(),
            unpooled: OnceLock::new(),
        };
        Ok(Self {
            pool: Arc::new(pool),
            destination,
            max_response,
            switch,
        })
    }

    /// The same client, with the same connections, whose requests another switch stops.
    #[must_use]
    pub fn with_switch(&self, switch: SeverSwitch) -> Self {
        Self { switch, ..self.clone() }
    }

    /// The same client, with the same connections, for calls whose responses are this long at most.
    #[must_use]
    pub fn with_max_response(&self, max_response: usize) -> Self {
        Self {
            max_response,
            ..self.clone()
        }
    }

    /// Sends one request. It is repeated only where the server says that it did not process it, as a
    /// server of HTTP/2 does when it closes a connection.
    ///
    /// # Errors
    /// When there is no complete response. A response of any status is no error.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, SendError> {
        let mut url = self.destination.join(request.path.iter().copied());
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query);
        }
        let mut headers = request.headers;
        let body = request.json.map(|mut json| {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            std::mem::take(&mut *json)
        });
        self.response(request.method, url, headers, body, None).await
    }

    /// Sends one request that a vendor's client built, as [`Client::send`] does.
    ///
    /// # Errors
    /// As [`Client::send`], and when its URL is not the destination's.
    pub async fn forward(&self, request: RawRequest<'_>) -> Result<Response, SendError> {
        self.forwarded(request, None).await
    }

    /// The same with less time than [`Options::timeout`].
    ///
    /// # Errors
    /// As [`Client::forward`].
    pub async fn forward_within(&self, request: RawRequest<'_>, limit: Duration) -> Result<Response, SendError> {
        self.forwarded(request, Some(limit)).await
    }

    async fn forwarded(&self, mut request: RawRequest<'_>, limit: Option<Duration>) -> Result<Response, SendError> {
        if !self.destination.hosts(request.address) {
            return Err(SendError::WrongHost);
        }
        let body = std::mem::take(&mut *request.body);
        self.response(request.method, request.address.clone(), request.headers, Some(body), limit)
            .await
    }

    async fn response(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: Option<Vec<u8>>,
        limit: Option<Duration>,
    ) -> Result<Response, SendError> {
        let _place = self.switch.share().call().ok_or(SendError::Crowded)?;
        let begun = self.pool.attempt(&self.switch).await;
        let (attempt, client, _idle) = begun.map_err(|ClientError(error)| SendError::of(error))?;
        let request = client.request(method, url).headers(headers);
        let request = match body {
            Some(body) => request.body(body),
            None => request,
        };
        let request = match limit {
            Some(limit) => request.timeout(limit),
            None => request,
        };
        let exchange = async {
            let mut response = request.send().await.map_err(SendError::of)?;
            let body = self.body(&mut response).await?;
            Ok(Response {
                status: response.status(),
                headers: std::mem::take(response.headers_mut()),
                body,
            })
        };
        // A caller that no longer waits drops this future, and with it the attempt.
        let result = self.switch.pass(exchange).await;
        match &result {
            Ok(Err(SendError::Timeout)) => attempt.time_out(),
            Ok(Err(SendError::Crowded)) => attempt.withdraw(),
            Ok(Ok(response)) if response.status.is_server_error() => attempt.unavailable(),
            Ok(_) | Err(_) => attempt.end(),
        }
        result?
    }

    async fn body(&self, response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, SendError> {
        let announced = response.content_length();
        if announced.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > self.max_response)) {
            return Err(SendError::TooLong);
        }
        // It grows with what arrives: the server decides what it announces.
        let mut body = Zeroizing::new(Vec::new());
        let mut long = None;
        while let Some(chunk) = response.chunk().await.map_err(SendError::of)? {
            let length = body.len() + chunk.len();
            if length > self.max_response {
                return Err(SendError::TooLong);
            }
            if length > SHORT_RESPONSE && long.is_none() {
                let place = self.switch.share().long_response(self.pool.recipe.options.connect_timeout).await;
                long = Some(place.ok_or(SendError::Unread)?);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}
