//! Sends requests and reads their responses to the end, over HTTP/1.1.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Method, Url};
use rustls::ClientConfig;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::connect::{self, WithDeadline};
use crate::error::Error;
use crate::lost;

/// As much as the largest batch, in plain and wrapped, can return, and more, in bytes.
const MOST: usize = 64 << 20;
/// Connections that wait for the next request.
const IDLE: usize = 100;
const IDLE_TIME: Duration = Duration::from_secs(90);

/// A request, ready to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Bytes>,
    /// By when the response has to be complete. The caller stops waiting then; a connection is given up before.
    pub(crate) deadline: Instant,
}

/// A complete response.
pub(crate) struct Incoming {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Overwritten when it is dropped. What the model has of it are copies.
    pub(crate) body: Zeroizing<Vec<u8>>,
}

pub(crate) type Sent<'a> = Pin<Box<dyn Future<Output = Result<Incoming, Error>> + Send + 'a>>;

/// What requests are sent by: the network, or a test's script.
pub(crate) trait Transport: Send + Sync {
    fn send(&self, request: Outgoing) -> Sent<'_>;
}

/// The network.
pub(crate) struct Http(reqwest::Client);

impl Http {
    /// HTTP/1.1 has a connection for each request. The gateway resets one whose response is not read in time for a
    /// revocation; over HTTP/2 that would end the other requests on it.
    pub(crate) fn new(tls: ClientConfig) -> Result<Self, Error> {
        let made = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .http1_only()
            // Keys and tokens pass no proxy that an environment variable names, and follow no redirect.
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            // Another crate of the program may have built them in.
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connector_layer(WithDeadline)
            .pool_max_idle_per_host(IDLE)
            .pool_idle_timeout(IDLE_TIME)
            .build();
        made.map(Self)
            .map_err(|error| Error::invalid_argument(format!("The HTTP client cannot start: {error}.")))
    }
}

impl Transport for Http {
    fn send(&self, request: Outgoing) -> Sent<'_> {
        Box::pin(async move {
            let host = lost::host(&request.url);
            let mut sent = self.0.request(request.method, request.url).headers(request.headers);
            if let Some(body) = request.body {
                sent = sent.body(body);
            }
            let response = connect::before(request.deadline, sent.send()).await;
            let mut response = response.map_err(|error| lost::before_response(error, &host))?;
            let announced = response.content_length().unwrap_or_default();
            if announced > MOST as u64 {
                return Err(lost::too_large(&host));
            }
            // At once, if it is known how much: a buffer that grows leaves copies behind.
            let mut body = Zeroizing::new(Vec::with_capacity(usize::try_from(announced).unwrap_or_default()));
            while let Some(chunk) = response.chunk().await.map_err(|error| lost::in_response(error, &host))? {
                if body.len() + chunk.len() > MOST {
                    return Err(lost::too_large(&host));
                }
                append(&mut body, &chunk);
            }
            let headers = std::mem::take(response.headers_mut());
            Ok(Incoming {
                status: response.status().as_u16(),
                headers,
                body,
            })
        })
    }
}

fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let needed = body.len() + chunk.len();
    if needed > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.max(body.capacity() * 2)));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}
