//! How a connection reaches its server: the HTTP client is made anew for another client certificate.

use claviger_provider::egress::{ClientCertificate, Destination, Egress, Options};
use claviger_provider::{Error, ErrorKind};

use crate::client::Api;
use crate::errors::fault;
use crate::names::Path;

/// A server's address, and the options of its clients.
pub(crate) struct Connector {
    pub(crate) egress: Egress,
    pub(crate) destination: Destination,
    pub(crate) options: Options,
    pub(crate) namespace: Option<Path>,
}

impl Connector {
    /// A client that shows this certificate to a server that asks for one. This sends no request.
    ///
    /// # Errors
    /// `Misconfigured` when no client can be made.
    pub(crate) fn api(&self, certificate: Option<ClientCertificate>) -> Result<Api, Error> {
        let options = Options {
            client_certificate: certificate,
            ..self.options.clone()
        };
        let client = self.egress.client(self.destination.clone(), options);
        let client = client.map_err(|error| fault(ErrorKind::Misconfigured, "no client can be made").source(error))?;
        Api::new(client, self.namespace.as_ref()).ok_or_else(|| fault(ErrorKind::Misconfigured, "the namespace cannot be a header"))
    }
}
