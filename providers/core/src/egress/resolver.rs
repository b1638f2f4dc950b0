//! Names to addresses that may be connected to.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::EgressPolicy;

/// The most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// What asks for the addresses of a name.
#[async_trait]
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of the name, in the order in which they are to be tried.
    ///
    /// # Errors
    /// When there are none, or nobody can be asked.
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

/// Every address of the name lies in a range that the policy refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name leads only to addresses that the egress policy refuses")]
pub struct Refused;

/// Resolves, and hands on only what the policy permits: the client connects to nothing
/// else, so that what was judged is what is met.
pub(super) struct Filtered {
    policy: Arc<EgressPolicy>,
    lookup: Arc<dyn Lookup>,
}

impl Filtered {
    pub(super) fn new(policy: Arc<EgressPolicy>, lookup: Arc<dyn Lookup>) -> Self {
        Self { policy, lookup }
    }
}

impl Resolve for Filtered {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, lookup) = (Arc::clone(&self.policy), Arc::clone(&self.lookup));
        Box::pin(async move {
            let found = lookup.lookup(name.as_str()).await?;
            let permitted: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| policy.permits(*address))
                .take(MAX_ADDRESSES)
                // The port is the address's own: zero stands for it.
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            if permitted.is_empty() {
                return Err(Refused.into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}
