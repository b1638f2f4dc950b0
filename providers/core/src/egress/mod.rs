//! The one way out to a host that a tenant names (`docs`: Connections): Vault, issuers,
//! webhooks, key managers.
//!
//! Three steps, each of which a hostile name would have to pass. [`Egress::destination`]
//! reads an address, [`policy`] decides which IP addresses may be met, and the resolver of
//! a [`Client`] asks the policy again for every new connection, after the name was
//! resolved and with the very addresses that are then connected to: a name that leads
//! elsewhere a moment later gains nothing. No redirect is followed, no proxy is taken from
//! the environment, every answer has a bound.
//!
//! For adapters; `boot` makes the one [`Egress`] of the process.

mod client;
mod client_certificate;
mod destination;
pub mod policy;
mod resolver;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use client::{Authorities, Client, ClientError, Distrust, Options, RawRequest, Request, Response, SendError};
pub use client_certificate::ClientCertificate;
pub use destination::{Destination, DestinationError, MAX_ADDRESS};
pub use policy::EgressPolicy;
pub use resolver::{Lookup, Refused, SystemLookup};
pub use settings::authorities_setting;

/// The way out under one policy.
#[derive(Clone)]
pub struct Egress {
    policy: Arc<EgressPolicy>,
    lookup: Arc<dyn Lookup>,
}

impl Egress {
    /// Under this policy, with the system's resolver.
    pub fn new(policy: EgressPolicy) -> Self {
        Self::with_lookup(policy, Arc::new(SystemLookup))
    }

    /// Under this policy, with another resolver. What it answers is judged like any other.
    pub fn with_lookup(policy: EgressPolicy, lookup: Arc<dyn Lookup>) -> Self {
        Self {
            policy: Arc::new(policy),
            lookup,
        }
    }

    /// Reads the address of a server.
    ///
    /// # Errors
    /// What is wrong with it; see [`Destination`].
    pub fn destination(&self, address: &str) -> Result<Destination, DestinationError> {
        Destination::server(address, &self.policy)
    }

    /// Reads the address of a proxy: no path, and plain HTTP is fine since what passes
    /// through it is encrypted end to end wherever the destination itself has to be.
    ///
    /// # Errors
    /// What is wrong with it; see [`Destination`].
    pub fn proxy(&self, address: &str) -> Result<Destination, DestinationError> {
        Destination::proxy(address, &self.policy)
    }

    /// A client of one destination. Reaches nothing yet.
    ///
    /// Through a proxy it is the proxy that resolves the destination's name, so the policy
    /// holds for the proxy's own addresses, and for the destination where that is an IP
    /// address. A proxy inside a range that the operator allows must itself refuse to lead
    /// tenants to what they must not reach.
    ///
    /// # Errors
    /// When the TLS of this system cannot be set up.
    pub fn client(&self, destination: Destination, options: Options) -> Result<Client, ClientError> {
        let resolver = resolver::Filtered::new(Arc::clone(&self.policy), Arc::clone(&self.lookup));
        Client::new(destination, options, resolver)
    }
}
