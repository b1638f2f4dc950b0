//! The listener: connections, TLS, the protocol's limits, and a shutdown that finishes what
//! was accepted. It serves an axum `Router`, through
//! a [`SwappableRouter`], and knows nothing of what is in it.
//!
//! `boot` binds it, hands it the router and drains it. What hyper refuses before there is a
//! request (differing `Content-Length`, NUL in a header, a head that is too large) never
//! reaches the router. Time that a handler or a request's body takes is the router's to bound.

mod connection;
mod deadlines;
mod router;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::config::server::Limits;
use connection::Serving;

pub use router::SwappableRouter;
pub use tls::{Tls, TlsError};

/// How long the listener waits when the system has no file descriptor or memory for another
/// connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of the connection; each request carries it as an extension. Behind
/// a proxy it is the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its address and port.
    pub address: SocketAddr,
    /// Whether the connection is TLS.
    pub tls: bool,
}

/// A bound socket that does not accept yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<Tls>>,
    limits: Limits,
}

impl Listener {
    /// Binds the address; port 0 lets the system choose. Without `tls` it speaks plain HTTP;
    /// whether that may be is the configuration's to say.
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
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections from now on and leads their requests through the router.
    pub fn serve(self, router: SwappableRouter) -> Running {
        let (stop, stopped) = watch::channel(false);
        let address = self.address;
        Running {
            address,
            stop,
            accepting: tokio::spawn(accept(self, router, stopped)),
        }
    }
}

/// A listener at work. Dropping it ends the accepting and every connection at once; see
/// [`Running::drain`] for the orderly way.
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<JoinSet<()>>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every accepted request was answered and every connection closed.
    Complete,
    /// So many connections were cut when the time was over.
    Aborted(usize),
}

impl Running {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Closes the socket, tells every peer that its connection ends (`Connection: close`,
    /// GOAWAY), waits until the accepted requests are answered, at most for `timeout`, and
    /// cuts what is left.
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

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Accepts until the stop, and hands back the connections that are still open.
async fn accept(listener: Listener, router: SwappableRouter, mut stop: watch::Receiver<bool>) -> JoinSet<()> {
    let Listener {
        socket,
        address: _,
        tls,
        limits,
    } = listener;
    let room = Arc::new(Semaphore::new(limits.max_connections.try_into().unwrap_or(Semaphore::MAX_PERMITS)));
    let serving = Arc::new(Serving::new(router, tls, limits, stop.clone()));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            // A place first: what has none waits in the system's queue and costs us nothing.
            let place = Arc::clone(&room).acquire_owned().await;
            (place, socket.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stopped(&mut stop) => return connections,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let serving = Arc::clone(&serving);
                connections.spawn(async move {
                    serving.connection(stream, peer).await;
                    drop(place);
                });
            }
            Err(error) if of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(kind = %error.kind(), "no connection can be accepted");
                tokio::select! {
                    () = stopped(&mut stop) => return connections,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
        // Forget those that ended; a panic in one was reported by the panic hook.
        while connections.try_join_next().is_some() {}
    }
}

/// Until the stop is called, or nobody is left to call it.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Whether the error is of the connection that was about to be accepted and says nothing
/// about the next.
fn of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
