//! SSRF-safe connections to hosts that a tenant names: Vault, issuers, webhooks, key managers.
//!
//! A hostile name has to pass three steps. [`Egress::destination`] parses an address; [`policy`]
//! decides which IP addresses are permitted; and [`dial`] applies the policy again at every new
//! connection, after the name was resolved, to the very addresses that are then connected to. A
//! name whose addresses change after the check gains nothing. The HTTP client follows no redirect,
//! takes no proxy from the environment, and bounds every response.
//!
//! For adapters; `boot` makes the one [`Egress`] of the process.

mod destination;
mod dial;
mod dial_places;
mod http;
mod last_words;
mod lookup;
mod overwriting;
pub mod policy;
pub mod pool;
mod send_error;
mod settings;
#[cfg(test)]
mod tests;
mod tls;
mod tls_stream;

use std::sync::Arc;

pub use destination::{Destination, DestinationError, MAX_ADDRESS};
pub use dial::{Crowded, DialError, Dialer, Refused};
pub use http::{Client, ClientError, Options, RawRequest, Request, Response};
pub use last_words::LastWords;
pub use lookup::{Lookup, SystemLookup};
pub use overwriting::Overwriting;
pub use policy::EgressPolicy;
pub use send_error::{Distrust, SendError};
pub use settings::authorities_setting;
pub use tls::{Authorities, ClientCertificate};
pub use tls_stream::{Endpoint, TlsDialer, TlsOptions, TlsStream};

use crate::share::Share;
use lookup::Lookups;

/// Makes clients and raw connections under one policy. Cheap to clone.
#[derive(Clone)]
pub struct Egress {
    policy: Arc<EgressPolicy>,
    lookups: Arc<Lookups>,
}

impl Egress {
    /// Under this policy, with the system's resolver.
    pub fn new(policy: EgressPolicy) -> Self {
        Self::with_lookup(policy, Arc::new(SystemLookup))
    }

    /// Under this policy, with another resolver. The policy applies to its addresses too.
    pub fn with_lookup(policy: EgressPolicy, lookup: Arc<dyn Lookup>) -> Self {
        Self {
            policy: Arc::new(policy),
            lookups: Arc::new(Lookups::new(lookup)),
        }
    }

    /// Parses the address of a server.
    ///
    /// # Errors
    /// See [`DestinationError`].
    pub fn destination(&self, address: &str) -> Result<Destination, DestinationError> {
        Destination::server(address, &self.policy)
    }

    /// Parses the address of a proxy: no path. Plain HTTP is permitted, since whatever must be
    /// encrypted for the destination is encrypted end to end.
    ///
    /// # Errors
    /// See [`DestinationError`].
    pub fn proxy(&self, address: &str) -> Result<Destination, DestinationError> {
        Destination::proxy(address, &self.policy)
    }

    /// An HTTP client of one destination. Connects to nothing yet.
    ///
    /// Behind a proxy it is the proxy that resolves the destination's name. The policy then applies
    /// to the proxy's own addresses, and to the destination where that is an IP address. A proxy
    /// inside a network that the operator allows must itself keep tenants from what they must not
    /// reach.
    ///
    /// # Errors
    /// When the TLS of this system cannot be set up.
    pub fn client(&self, destination: Destination, options: Options) -> Result<Client, ClientError> {
        let dialer = self.dialer(options.switch.share().clone());
        Client::new(destination, options, dialer)
    }

    /// Parses the endpoint of a server that speaks another protocol than HTTP over TLS: `host:port`.
    ///
    /// # Errors
    /// See [`DestinationError`].
    pub fn endpoint(&self, address: &str) -> Result<Endpoint, DestinationError> {
        Endpoint::parse(address, &self.policy)
    }

    /// Opens TLS connections to one endpoint. Connects to nothing yet.
    ///
    /// # Errors
    /// When the TLS of this system cannot be set up with these options.
    pub fn tls(&self, endpoint: Endpoint, options: TlsOptions<'_>) -> Result<TlsDialer, rustls::Error> {
        let dialer = self.dialer(options.share.clone());
        TlsDialer::new(endpoint, options, dialer)
    }

    /// Opens raw TCP connections under the policy, with lookups of this share.
    pub fn dialer(&self, share: Share) -> Dialer {
        Dialer::new(Arc::clone(&self.policy), Arc::clone(&self.lookups), share)
    }
}
