//! One connection from its handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tower::ServiceExt;

use super::deadlines::{ConnectionDeadlines, Overdue, TimedStream};
use super::router::SwappableRouter;
use super::tls::Tls;
use super::{Peer, stopped};
use crate::config::server::Limits;
use crate::telemetry::metrics::{OpenConnection, connection_ended};

/// The longest head of a request, in bytes. Above 64 KiB, so that hyper still sees a request
/// line that is longer than its own bound of 65,534 bytes and answers it 414 and not 431.
const HEAD_BYTES: u32 = 80 << 10;
/// Headers of one request.
const HEADERS: usize = 100;
/// How often an HTTP/2 peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that an HTTP/2 peer may reset before they were taken up; more ends the connection
/// (CVE-2023-44487).
const RESETS_PENDING: usize = 20;
/// Streams that an HTTP/2 peer may make us reset; more ends the connection (CVE-2025-8671).
const RESETS_CAUSED: usize = 128;

/// How a connection ended: the words of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In order.
    Closed,
    /// The peer broke off, or broke the protocol.
    Broken,
    /// No TLS handshake, or a slow one.
    Handshake,
    /// A head that took too long.
    SlowHead,
    /// No request for too long.
    Idle,
    /// Drained.
    Drained,
}

impl End {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Handshake => "handshake",
            Self::SlowHead => "slow_head",
            Self::Idle => "idle",
            Self::Drained => "drained",
        }
    }
}

/// What all connections share.
pub(super) struct Serving {
    router: SwappableRouter,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    stop: watch::Receiver<bool>,
    protocol: auto::Builder<TokioExecutor>,
}

impl Serving {
    pub(super) fn new(router: SwappableRouter, tls: Option<Arc<Tls>>, limits: Limits, stop: watch::Receiver<bool>) -> Self {
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol
            .http1()
            .timer(TokioTimer::new())
            .max_headers(HEADERS)
            .max_buf_size(HEAD_BYTES as usize)
            // `ConnectionDeadlines` times the head; hyper would count the idle time before it as well.
            .header_read_timeout(None);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES)
            .max_concurrent_streams(limits.max_streams)
            .max_pending_accept_reset_streams(RESETS_PENDING)
            .max_local_error_reset_streams(RESETS_CAUSED)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        Self {
            router,
            tls,
            limits,
            stop,
            protocol,
        }
    }

    /// Serves one connection to its end.
    pub(super) async fn connection(&self, stream: TcpStream, address: SocketAddr) {
        let open = OpenConnection::begin();
        // Answers are written whole; waiting for more to send only adds latency. A socket
        // that refuses the option is about to fail anyway.
        let _ = stream.set_nodelay(true);
        let end = match &self.tls {
            None => self.requests(stream, Peer { address, tls: false }).await,
            Some(tls) => {
                let handshake = tokio::time::timeout(self.limits.handshake_timeout, tls.acceptor().accept(stream));
                let mut stop = self.stop.clone();
                tokio::select! {
                    shaken = handshake => match shaken {
                        Ok(Ok(stream)) => self.requests(stream, Peer { address, tls: true }).await,
                        Ok(Err(_)) | Err(_) => End::Handshake,
                    },
                    () = stopped(&mut stop) => End::Drained,
                }
            }
        };
        tracing::debug!(end = end.as_str(), "connection ended");
        connection_ended(end.as_str());
        drop(open);
    }

    async fn requests<S>(&self, stream: S, peer: Peer) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let deadlines = ConnectionDeadlines::new(&self.limits);
        let io = TokioIo::new(TimedStream {
            stream,
            deadlines: Arc::clone(&deadlines),
        });
        let requests = Arc::clone(&deadlines);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let in_hand = requests.begin(request.version());
            request.extensions_mut().insert(peer);
            let app = self.router.router();
            async move {
                let response: Result<Response<Body>, Infallible> = app.oneshot(request.map(Body::new)).await;
                drop(in_hand);
                response
            }
        });
        let mut connection = pin!(self.protocol.serve_connection(io, service));
        let mut stop = self.stop.clone();
        let mut draining = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return match ended {
                    Ok(()) if draining => End::Drained,
                    Ok(()) => End::Closed,
                    Err(_) => End::Broken,
                },
                overdue = deadlines.overdue() => match overdue {
                    Overdue::Head => return End::SlowHead,
                    Overdue::Idle => {
                        connection.as_mut().graceful_shutdown();
                        // Nothing is in hand, but a large answer may still be on its way to a
                        // slow peer; it gets as long again.
                        let _ = tokio::time::timeout(self.limits.idle_timeout, connection.as_mut()).await;
                        return End::Idle;
                    }
                },
                () = stopped(&mut stop), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
