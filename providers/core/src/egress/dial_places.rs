//! Takes a place for each socket that the HTTP client opens. The client starts to open one for each call that finds
//! none idle, and goes on with it when the call got another meanwhile: without places, as many are being opened as a
//! server that accepts none likes.
//!
//! The name is resolved before, so that no place is taken while a name server is silent.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tower_layer::Layer;
use tower_service::Service;

use super::dial::{Dialer, ResolveError};

type BoxError = Box<dyn StdError + Send + Sync>;

tokio::task_local! {
    /// The addresses of the host to which a connection is being opened.
    static FOUND: Vec<IpAddr>;
}

/// The layer of the client's connector.
#[derive(Clone)]
pub(super) struct DialPlaces {
    pub(super) dialer: Dialer,
    /// What the client connects to: the destination's host, or that of its proxy.
    pub(super) host: Arc<str>,
    pub(super) connect_timeout: Duration,
}

impl DialPlaces {
    /// The addresses of the host; none where it is an address by itself.
    async fn resolve(&self) -> Result<Vec<IpAddr>, BoxError> {
        if self.host.parse::<IpAddr>().is_ok() {
            return Ok(Vec::new());
        }
        let found = self.dialer.resolve(&self.host, self.connect_timeout).await;
        found.map_err(|error| match error {
            ResolveError::Refused(refused) => refused.into(),
            ResolveError::Crowded(crowded) => crowded.into(),
            ResolveError::Lookup(error) => error.into(),
        })
    }
}

/// The connector with it.
#[derive(Clone)]
pub(super) struct Placed<S> {
    inner: S,
    places: DialPlaces,
}

impl<S> Layer<S> for DialPlaces {
    type Service = Placed<S>;

    fn layer(&self, inner: S) -> Placed<S> {
        Placed {
            inner,
            places: self.clone(),
        }
    }
}

impl<S, R> Service<R> for Placed<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // It opens nothing before it is polled.
        let (places, opening) = (self.places.clone(), self.inner.call(request));
        Box::pin(async move {
            let found = places.resolve().await?;
            let _place = places.dialer.place(places.connect_timeout).await?;
            FOUND.scope(found, opening).await
        })
    }
}

/// Resolves names for the HTTP client, which connects to these addresses and no others: the
/// addresses that the policy permitted are the ones that are used.
pub(super) struct Found;

impl Resolve for Found {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(async {
            let found = FOUND.try_with(Clone::clone)?;
            // Port 0 stands for the URL's own.
            let addresses = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(addresses) as Addrs)
        })
    }
}
