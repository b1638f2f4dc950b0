//! Resolves host names to IP addresses that the egress policy permits, and opens TCP connections to
//! them. The HTTP client uses it to resolve; an adapter with another protocol uses it to connect.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::policy::EgressPolicy;

/// Maximum number of addresses of one name to try.
const MAX_ADDRESSES: usize = 16;

/// Looks up the addresses of a name.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of the name, in the order in which they are to be tried.
    ///
    /// # Errors
    /// When there are none, or no name server answers.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

#[async_trait]
impl Lookup for SystemLookup {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// The egress policy permits none of the host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host has only addresses that the egress policy refuses")]
pub struct Refused;

/// Why a host has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Lookup(#[from] io::Error),
}

/// Why there is no connection. It names no host.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The egress policy permits none of the host's addresses.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The name was not found, or no address accepted the connection.
    #[error("no connection ({0})")]
    Unreachable(io::ErrorKind),
    /// No connection within the time.
    #[error("no connection in time")]
    Timeout,
}

/// Connects to permitted addresses. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    policy: Arc<EgressPolicy>,
    lookup: Arc<dyn Lookup>,
}

impl Dialer {
    pub(super) fn new(policy: Arc<EgressPolicy>, lookup: Arc<dyn Lookup>) -> Self {
        Self { policy, lookup }
    }

    /// The addresses of a name that the policy permits, at most 16. Callers connect to these very
    /// addresses: a second lookup could give others.
    pub(super) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.lookup.lookup(name).await?;
        let permitted = found.into_iter().filter(|address| self.policy.permits(*address));
        let permitted: Vec<IpAddr> = permitted.take(MAX_ADDRESSES).collect();
        if permitted.is_empty() { Err(Refused.into()) } else { Ok(permitted) }
    }

    /// Opens a TCP connection to a host, which is a name or an IP address, within `patience`.
    /// Addresses are tried one after another.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&self, host: &str, port: u16, patience: Duration) -> Result<TcpStream, DialError> {
        let opened = timeout(patience, self.open(host, port)).await;
        opened.unwrap_or(Err(DialError::Timeout))
    }

    async fn open(&self, host: &str, port: u16) -> Result<TcpStream, DialError> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) if self.policy.permits(address) => vec![address],
            Ok(_) => return Err(Refused.into()),
            Err(_) => self.resolve(host).await.map_err(|error| match error {
                ResolveError::Refused(refused) => DialError::Refused(refused),
                ResolveError::Lookup(error) => DialError::Unreachable(error.kind()),
            })?,
        };
        let addresses: Vec<SocketAddr> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        let stream = TcpStream::connect(addresses.as_slice()).await;
        stream.map_err(|error| DialError::Unreachable(error.kind()))
    }
}
