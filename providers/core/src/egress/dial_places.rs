//! Takes a place for each socket that the HTTP client opens. The client starts to open one for each call that finds
//! none idle, and goes on with it when the call got another meanwhile: without places, as many are being opened as a
//! server that accepts none likes.

use std::pin::Pin;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::share::Share;

/// The layer of the client's connector, with places of this share.
#[derive(Clone)]
pub(super) struct DialPlaces(pub(super) Share);

/// The connector with it.
#[derive(Clone)]
pub(super) struct Placed<S> {
    inner: S,
    share: Share,
}

impl<S> Layer<S> for DialPlaces {
    type Service = Placed<S>;

    fn layer(&self, inner: S) -> Placed<S> {
        Placed {
            inner,
            share: self.0.clone(),
        }
    }
}

impl<S, R> Service<R> for Placed<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // It opens nothing before it is polled.
        let (share, opening) = (self.share.clone(), self.inner.call(request));
        Box::pin(async move {
            let _place = share.dial().await;
            opening.await
        })
    }
}
