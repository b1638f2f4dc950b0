//! Resolves host names to IP addresses that the egress policy permits, and opens TCP connections to
//! them. The HTTP client uses it to resolve; an adapter with another protocol uses it to connect.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::lookup::Lookups;
use super::policy::EgressPolicy;
use crate::share::{Place, Share};

/// Maximum number of addresses of one name to try.
const MAX_ADDRESSES: usize = 16;

/// The egress policy permits none of the host's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host has only addresses that the egress policy refuses")]
pub struct Refused;

/// The places of the tenant, or of all, are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many connections are being opened")]
pub struct Crowded;

/// Why a host has no address to connect to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Crowded(#[from] Crowded),
    #[error(transparent)]
    Lookup(#[from] Arc<io::Error>),
}

/// Why there is no connection. It names no host.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The egress policy permits none of the host's addresses.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Too many connections are being opened.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// No name server has the name, or none answers.
    #[error("the host's name was not found")]
    Unknown,
    /// No address accepted the connection.
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
    lookups: Arc<Lookups>,
    /// What the tenant may take that it connects for.
    share: Share,
}

impl Dialer {
    pub(super) fn new(policy: Arc<EgressPolicy>, lookups: Arc<Lookups>, share: Share) -> Self {
        Self { policy, lookups, share }
    }

    /// A place for the socket that is opened next.
    pub(super) async fn place(&self, connect_timeout: Duration) -> Result<Place, Crowded> {
        self.share.dial(connect_timeout).await.ok_or(Crowded)
    }

    /// The addresses of a name that the policy permits, at most 16. Callers connect to these very
    /// addresses: a second lookup could give others.
    pub(super) async fn resolve(&self, name: &str, connect_timeout: Duration) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.lookups.find(name, &self.share, connect_timeout).await.ok_or(Crowded)??;
        let permitted = found.into_iter().filter(|address| self.policy.permits(*address));
        let permitted: Vec<IpAddr> = permitted.take(MAX_ADDRESSES).collect();
        if permitted.is_empty() { Err(Refused.into()) } else { Ok(permitted) }
    }

    /// Opens a TCP connection to a host, which is a name or an IP address, within `patience`.
    /// Addresses are tried one after another. Each has its part of the time that is left, so that one that swallows
    /// what is sent to it leaves time for the others.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(&self, host: &str, port: u16, patience: Duration) -> Result<TcpStream, DialError> {
        let opened = timeout(patience, self.open(host, port, patience)).await;
        opened.unwrap_or(Err(DialError::Timeout))
    }

    async fn open(&self, host: &str, port: u16, patience: Duration) -> Result<TcpStream, DialError> {
        let end = Instant::now() + patience;
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) if self.policy.permits(address) => vec![address],
            Ok(_) => return Err(Refused.into()),
            Err(_) => self.resolve(host, patience).await.map_err(|error| match error {
                ResolveError::Refused(refused) => DialError::Refused(refused),
                ResolveError::Crowded(crowded) => DialError::Crowded(crowded),
                ResolveError::Lookup(_) => DialError::Unknown,
            })?,
        };
        let mut last = DialError::Timeout;
        for (address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
            let part = end.saturating_duration_since(Instant::now()) / u32::try_from(left).unwrap_or(u32::MAX);
            match timeout(part, TcpStream::connect((*address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = DialError::Unreachable(error.kind()),
                Err(_) => last = DialError::Timeout,
            }
        }
        Err(last)
    }
}
