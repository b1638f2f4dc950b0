//! One connection from its handshake to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Version, header};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::budget::Share;
use super::connection_state::{ConnectionState, Overdue};
use super::open_socket::{OpenSocket, Outgoing, SocketStream, Stream};
use super::router::SwappableRouter;
use super::service::{Peer, PeerAddress, Service};
use super::stream::TimedStream;
use super::tls::Tls;
use super::unread::{self, RequestBody};
use super::unwritten::{Progress, SLOWEST};
use crate::config::server::Limits;
use crate::telemetry::metrics::{OpenConnection, connection_ended};

/// The longest head of a request, in bytes. Above 64 KiB, so that hyper still sees a request
/// line that is longer than its own bound of 65,534 bytes and answers it 414 and not 431.
const HEAD_BYTES: u32 = 80 << 10;
/// Headers of one request.
const HEADERS: usize = 100;
/// Interval of pings to an HTTP/2 peer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// How long it may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that an HTTP/2 peer may reset before the gateway accepted them; more closes the connection
/// (CVE-2023-44487).
const RESETS_PENDING: usize = 20;
/// Streams that an HTTP/2 peer may make us reset; more closes the connection (CVE-2025-8671).
const RESETS_CAUSED: usize = 128;
/// What an HTTP/2 peer may send of one body, in bytes, before the gateway reads on. Before the body is read, and unless it
/// waits for its tenant's rate, it counts against no tenant's share, so it must be little. Over HTTP/1.1 it is less.
pub const UNREAD_OF_STREAM: u32 = 128 * 1024;
/// The same of all bodies of a connection: one that is not read leaves room for others.
const UNREAD_OF_CONNECTION: u32 = 2 * UNREAD_OF_STREAM;

/// How soon it is looked again whether the peer has all of a connection that ends.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a peer of a connection that makes room, or is drained, may take less than an open one must of what is on its
/// way.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// How a connection ended: the label of the metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By the peer or by us, as HTTP has it.
    Closed,
    /// The peer disconnected in the middle, or violated HTTP.
    Broken,
    /// The TLS handshake failed or took too long.
    Handshake,
    /// A request's head took too long.
    SlowHead,
    /// No request for too long.
    Idle,
    /// A response's deadline passed before it was written.
    Expired,
    /// The peer read its responses too slowly.
    SlowReader,
    /// It was idle, and made room for a new connection.
    Evicted,
    /// Its source had as many connections as it may, so it was closed before its first byte.
    SourceIsFull,
    /// The drain closed it.
    Drained,
    /// The peer did not take a response before the revocation of what it depends on was answered.
    Recalled,
}

impl End {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Handshake => "handshake",
            Self::SlowHead => "slow_head",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::SlowReader => "slow_reader",
            Self::Evicted => "evicted",
            Self::SourceIsFull => "source_limit",
            Self::Drained => "drained",
            Self::Recalled => "recalled",
        }
    }
}

/// The state that all connections of a listener share.
pub(super) struct Serving<S> {
    router: SwappableRouter<S>,
    tls: Option<Arc<Tls>>,
    handshake_timeout: Duration,
    slow_reader_timeout: Duration,
    /// The most that the requests and answers of one connection take.
    bytes: usize,
    stop: watch::Receiver<bool>,
    protocol: auto::Builder<TokioExecutor>,
}

impl<S: Service> Serving<S> {
    pub(super) fn new(router: SwappableRouter<S>, tls: Option<Arc<Tls>>, limits: &Limits, stop: watch::Receiver<bool>) -> Self {
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol
            .http1()
            .timer(TokioTimer::new())
            .max_headers(HEADERS)
            .max_buf_size(HEAD_BYTES as usize)
            // `ConnectionState` times the head; hyper would count the idle time before it as well.
            .header_read_timeout(None);
        protocol
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_BYTES)
            .max_concurrent_streams(limits.max_streams)
            .max_pending_accept_reset_streams(RESETS_PENDING)
            .max_local_error_reset_streams(RESETS_CAUSED)
            .initial_connection_window_size(UNREAD_OF_CONNECTION)
            .initial_stream_window_size(UNREAD_OF_STREAM)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT);
        Self {
            router,
            tls,
            handshake_timeout: limits.handshake_timeout,
            slow_reader_timeout: limits.slow_reader_timeout,
            bytes: limits.bytes_per_connection(),
            stop,
            protocol,
        }
    }

    /// Serves one connection to its end.
    pub(super) async fn connection(&self, stream: impl Stream, address: PeerAddress, state: Arc<ConnectionState>) {
        let open = OpenConnection::begin();
        let socket = OpenSocket::new(stream);
        state.responses().write_to(Arc::clone(&socket) as Arc<dyn Outgoing>);
        let closing = Closing(Arc::clone(&socket) as Arc<dyn Outgoing>);
        let stream = SocketStream(socket);
        let peer = |tls, certificate| Peer {
            address,
            tls,
            certificate,
            bytes: Arc::new(Share::new(self.bytes)),
            reserved: Arc::default(),
            connection: Arc::clone(&state),
        };
        let end = match &self.tls {
            None => self.requests(stream, peer(false, None)).await,
            Some(tls) => {
                let handshake = tokio::time::timeout(self.handshake_timeout, tls.acceptor().accept(stream));
                let mut stop = self.stop.clone();
                tokio::select! {
                    shaken = handshake => match shaken {
                        Ok(Ok(stream)) => {
                            let certificates = stream.get_ref().1.peer_certificates();
                            let certificate = certificates.and_then(<[_]>::first).map(|leaf| CertificateDer::from(leaf.to_vec()));
                            self.requests(stream, peer(true, certificate)).await
                        }
                        Ok(Err(_)) | Err(_) => End::Handshake,
                    },
                    () = state.asked_to_close() => End::Evicted,
                    () = stopped(&mut stop) => End::Drained,
                }
            }
        };
        state.left();
        let end = self.arrive(&state, end).await;
        closing.in_order();
        tracing::debug!(end = end.as_str(), "connection ended");
        connection_ended(end.as_str());
        drop(open);
    }

    /// Waits until the peer has what a revocation can recall: of a socket that is closed, the kernel would send the rest
    /// whenever the peer reads. Drops the rest where it must not be sent, or the peer takes nothing of it for too long.
    async fn arrive(&self, state: &ConnectionState, end: End) -> End {
        let patience = match end {
            End::Recalled | End::Expired | End::SlowReader => Duration::ZERO,
            End::Evicted | End::Drained => SHORT_PATIENCE,
            End::Closed | End::Broken | End::Handshake | End::SlowHead | End::Idle | End::SourceIsFull => self.slow_reader_timeout,
        };
        let responses = state.responses();
        let (begun, first) = (Instant::now(), responses.sent().map_or(0, |sent| sent.acknowledged));
        while let Some(sent) = responses.sent() {
            let last = match responses.progress_of_all() {
                Progress::Arrived => break,
                // Nobody writes the rest.
                Progress::Unwritten => sent.written,
                Progress::Written(last) => last,
            };
            if sent.acknowledged >= last {
                break;
            }
            let patience = if *self.stop.borrow() {
                patience.min(SHORT_PATIENCE)
            } else {
                patience
            };
            // What it takes buys the time in which an open connection must take as much.
            let bought = Duration::from_secs(sent.acknowledged.saturating_sub(first) / SLOWEST);
            if patience.is_zero() || begun.elapsed() >= patience + bought {
                responses.reset();
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        if state.is_recalled() { End::Recalled } else { end }
    }

    async fn requests(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Peer) -> End {
        let state = Arc::clone(&peer.connection);
        state.ready();
        let io = TokioIo::new(TimedStream {
            stream,
            state: Arc::clone(&state),
        });
        let connection = Arc::new((self.router.clone(), peer));
        // One future for all of a request, which hyper keeps in a box that it reuses.
        let service = service_fn(move |request: Request<Incoming>| {
            let under_way = connection.1.connection.begin(request.version());
            let connection = Arc::clone(&connection);
            async move {
                let (router, peer) = &*connection;
                let (head, body) = request.into_parts();
                let mut body = RequestBody::from(body);
                let (version, expects) = (head.version, head.headers.contains_key(header::EXPECT));
                let mut response = router.current().call(Request::from_parts(head, &mut body), peer).await;
                if version < Version::HTTP_2 && !body.is_end_stream() {
                    Box::pin(unread::conclude(body, response.headers_mut(), expects)).await;
                }
                response.body_mut().register(peer.connection.responses());
                drop(under_way);
                Ok::<_, Infallible>(response)
            }
        });
        let mut connection = pin!(self.protocol.serve_connection(io, service));
        let mut stop = self.stop.clone();
        let (mut draining, mut idle) = (false, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => return match ended {
                    _ if state.is_recalled() => End::Recalled,
                    _ if idle => End::Idle,
                    Ok(()) if draining => End::Drained,
                    Ok(()) => End::Closed,
                    Err(_) if state.responses().passed() => End::Expired,
                    Err(_) => End::Broken,
                },
                overdue = state.overdue() => match overdue {
                    Overdue::RequestHead => return End::SlowHead,
                    Overdue::SlowReader => return End::SlowReader,
                    Overdue::Idle if idle => return End::Idle,
                    Overdue::Idle => {
                        idle = true;
                        connection.as_mut().graceful_shutdown();
                        // No request is under way, but a slow peer may still be reading a large
                        // response.
                        state.end_after_responses();
                    }
                },
                // hyper begins a request in this task, so none can begin in between.
                () = state.asked_to_close() => {
                    if state.is_recalled() {
                        return End::Recalled;
                    }
                    if state.idle_since().is_some() {
                        return End::Evicted;
                    }
                }
                () = stopped(&mut stop), if !draining => {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Resets a socket when it is dropped, whoever else holds it: its task was ended.
struct Closing(Arc<dyn Outgoing>);

impl Closing {
    /// Closes the socket. The kernel sends what it has of it.
    fn in_order(self) {
        self.0.close();
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.reset();
    }
}

/// Resolves when the stop is called, or its sender is dropped.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
