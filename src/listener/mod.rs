//! The listener: sockets, TLS, limits of connections, HTTP/1 and HTTP/2, and a shutdown that
//! finishes the accepted requests.
//!
//! It serves any [`Service`] through a [`SwappableRouter`] and knows no API. `boot` binds it, hands
//! it the service and drains it. hyper refuses what is not a valid request (differing
//! `Content-Length`, NUL in a header, a head that is too large) before the service is called. The
//! service limits its own time and the request's body.

mod body;
mod budget;
mod byte_rate;
mod connection;
mod connection_state;
mod open_socket;
mod recall;
mod room;
mod router;
mod service;
mod socket;
mod sources;
mod stream;
mod tls;
mod unread;
mod unwritten;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::server::Limits;
use crate::telemetry::metrics::connection_ended;
pub use connection::UNREAD_OF_STREAM;
use connection::{End, Serving, stopped};
use connection_state::ConnectionState;
use room::{Room, SourceIsFull};
use socket::Socket;

pub use body::Body;
pub use budget::{Account, Each, Full, Held, Place, Pool, Share, Sharing};
pub use byte_rate::ByteRate;
pub use recall::Recall;
pub use router::SwappableRouter;
pub use service::{Peer, PeerAddress, Service};
pub use socket::UnixSocket;
pub use sources::{Source, Sources};
pub use tls::{Tls, TlsError};
pub use unread::RequestBody;
pub use unwritten::{Unwritten, UnwrittenResponses};

/// The pause after the system refused a connection for lack of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket that does not accept yet: a TCP socket, or a [`UnixSocket`].
pub struct Listener<S: Socket = TcpListener> {
    socket: S,
    address: S::Address,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    recall: Arc<Recall>,
}

impl Listener {
    /// Binds the address; port 0 lets the system choose. Without `tls` it speaks plain HTTP;
    /// the configuration decides whether that is allowed.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr, tls: Option<Arc<Tls>>, limits: Limits) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            address,
            tls,
            limits,
            recall: Arc::default(),
        })
    }
}

impl Listener<UnixSocket> {
    /// Binds a Unix socket at this path, which only this process's user may open. Replaces the file
    /// of a socket on which nobody listens any more.
    ///
    /// # Errors
    /// When the path cannot be bound, or another process listens there.
    pub async fn bind_unix(path: &Path, limits: Limits) -> io::Result<Self> {
        Ok(Self {
            socket: UnixSocket::bind(path).await?,
            address: path.to_owned(),
            tls: None,
            limits,
            recall: Arc::default(),
        })
    }
}

impl<S: Socket> Listener<S> {
    /// The address that it listens on.
    pub fn local_addr(&self) -> S::Address {
        self.address.clone()
    }

    /// Its connections are reached by these revocations.
    #[must_use]
    pub fn reached_by(mut self, recall: &Arc<Recall>) -> Self {
        self.recall = Arc::clone(recall);
        self
    }

    /// Accepts connections from now on and passes their requests to the router.
    pub fn serve(self, router: SwappableRouter<impl Service>) -> Running<S::Address> {
        let (stop, stopped) = watch::channel(false);
        let address = self.address.clone();
        Running {
            address,
            stop,
            accepting: tokio::spawn(accept(self, router, stopped)),
        }
    }
}

/// A listener at work. Dropping it stops accepting and closes every connection at once; see
/// [`Running::drain`] for the orderly way.
pub struct Running<A = SocketAddr> {
    address: A,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<JoinSet<()>>,
}

/// The result of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every accepted request was answered and every connection closed.
    Complete,
    /// The time ran out; this many connections were closed in the middle of their work.
    Aborted(usize),
}

impl<A: Clone> Running<A> {
    /// The address that it listens on.
    pub fn local_addr(&self) -> A {
        self.address.clone()
    }

    /// Closes the socket, announces the end to every peer (`Connection: close`, GOAWAY), waits
    /// at most `timeout` until the accepted requests are answered, and closes what is left.
    pub async fn drain(self, timeout: Duration) -> Drained {
        self.stop.send_replace(true);
        let Ok(mut connections) = self.accepting.await else {
            // The accepting task ends before the stop only when the runtime does.
            return Drained::Complete;
        };
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(timeout, all).await.is_ok() {
            return Drained::Complete;
        }
        let left = connections.len();
        connections.shutdown().await;
        Drained::Aborted(left)
    }
}

impl<A: fmt::Debug> fmt::Debug for Running<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Accepts until the stop, and returns the connections that are still open.
async fn accept<S: Socket>(listener: Listener<S>, router: SwappableRouter<impl Service>, mut stop: watch::Receiver<bool>) -> JoinSet<()> {
    let Listener {
        socket,
        address: _,
        tls,
        limits,
        recall,
    } = listener;
    let room = Room::new(&limits);
    recall.add(&room);
    let serving = Arc::new(Serving::new(router, tls, &limits, stop.clone()));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let (stream, peer) = socket.accept().await?;
            let state = ConnectionState::new(&limits);
            let place = room.enter(&peer, &state).await;
            Ok((stream, peer, state, place))
        };
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut stop) => return connections,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer, state, Ok(place))) => {
                let serving = Arc::clone(&serving);
                connections.spawn(async move {
                    serving.connection(stream, peer, state).await;
                    drop(place);
                });
            }
            Ok((_, _, _, Err(SourceIsFull))) => connection_ended(End::SourceIsFull.as_str()),
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(kind = %error.kind(), "no connection can be accepted");
                tokio::select! {
                    () = stopped(&mut stop) => return connections,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
        // Remove the finished ones; the panic hook has reported any panic.
        while connections.try_join_next().is_some() {}
    }
}

/// Whether the error concerns only the connection that was about to be accepted.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
