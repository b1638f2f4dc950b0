//! What a listener serves, and to whom.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use http::{Request, Response};
use rustls::pki_types::CertificateDer;

use super::body::Body;
use super::budget::{Account, Share};
use super::connection_state::ConnectionState;
use super::unread::RequestBody;
use super::unwritten::UnwrittenResponses;

/// What a listener serves. The body of a response may carry a deadline, see [`Body::until`].
pub trait Service: Send + Sync + 'static {
    /// Answers one request. What it leaves of the body is not read.
    fn call(&self, request: Request<&mut RequestBody>, peer: &Peer) -> impl Future<Output = Response<Body>> + Send;
}

/// The other end of a connection. Behind a proxy it is the proxy.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Address of the peer.
    pub address: PeerAddress,
    /// Whether the connection is TLS.
    pub tls: bool,
    /// The client certificate, verified against the listener's authorities; absent where the
    /// listener asks for none.
    pub certificate: Option<CertificateDer<'static>>,
    /// The bytes of all requests and answers on the connection.
    pub bytes: Arc<Share>,
    /// Bytes that no other connection can take, made when they are first wanted.
    pub reserved: Arc<OnceLock<Arc<Account>>>,
    pub(super) connection: Arc<ConnectionState>,
}

impl Peer {
    /// Notes that a request on this connection was authenticated. When the listener needs room, it
    /// closes connections without such a request first.
    pub fn authenticated(&self) {
        self.connection.authenticated();
    }

    /// The responses of this connection, for one that a revocation can recall. It belongs to a body then
    /// ([`Body::of_handed_over`]).
    pub fn responses(&self) -> &Arc<UnwrittenResponses> {
        self.connection.responses()
    }
}

/// A peer's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerAddress {
    /// Over TCP: address and port.
    Ip(SocketAddr),
    /// Over a Unix socket: the process at the other end, as the kernel reports it.
    Unix {
        /// Effective user id of the peer.
        uid: u32,
        /// Effective group id of the peer.
        gid: u32,
    },
}
