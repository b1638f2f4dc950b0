//! Ends an attempt to connect before the call's own deadline, as an error that says so: nothing was sent then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tower_layer::Layer;
use tower_service::Service;

use crate::token::BoxError;

/// The most time for a connection with its TLS handshake.
const MOST: Duration = Duration::from_secs(5);
/// How long before the call's deadline an attempt ends. Both at once would leave it to chance which error the caller gets, and
/// only one of the two says that nothing was sent.
const AHEAD: Duration = Duration::from_millis(10);

tokio::task_local! {
    /// The deadline of the call that this task carries out. The client's connections have no other way to it: its connector
    /// is polled in the task of the request that needs a connection.
    static DEADLINE: Instant;
}

/// Carries a request out whose connections have to be made before the deadline.
pub(crate) async fn before<F: Future>(deadline: Instant, request: F) -> F::Output {
    DEADLINE.scope(deadline, request).await
}

/// The layer for the HTTP client's connector.
#[derive(Debug, Clone)]
pub(crate) struct WithDeadline;

/// A connector with it.
#[derive(Debug, Clone)]
pub(crate) struct Connector<S>(S);

impl<S> Layer<S> for WithDeadline {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Connector<S> {
        Connector(inner)
    }
}

impl<S, R> Service<R> for Connector<S>
where
    S: Service<R, Error = BoxError>,
    S::Response: 'static,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        let longest = Instant::now() + MOST;
        let latest = DEADLINE.try_with(|deadline| deadline.checked_sub(AHEAD)).ok().flatten();
        let connection = timeout_at(latest.map_or(longest, |latest| latest.min(longest)), self.0.call(destination));
        Box::pin(async move {
            let too_late = || BoxError::from(io::Error::from(io::ErrorKind::TimedOut));
            connection.await.unwrap_or_else(|_| Err(too_late()))
        })
    }
}
