//! The options of a connection's HTTP client: its CA certificates (`ca`) and proxy, and limits that are
//! the same for every adapter.

use std::time::Duration;

use crate::egress::{Authorities, ClientCertificate, Egress, Options};
use crate::error::{Error, ErrorKind};
use crate::ids::ProviderKind;
use crate::sever_switch::SeverSwitch;

/// Timeout for opening a connection. The pipeline's attempt timeout is usually shorter; this one ends
/// calls whose caller has stopped waiting.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of a whole call, for the same reason.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum response, in bytes. The longest expected one, a key with 10,000 versions, has under 300 KiB.
pub const MAX_RESPONSE: usize = 1 << 20;

/// The network settings of a connection.
pub struct ConnectionHttp<'a> {
    /// The setting `ca`: certificates as PEM text, trusted instead of the system's.
    pub ca: Option<&'a str>,
    /// The setting `proxy`.
    pub proxy: Option<&'a str>,
    /// What the connection shows to a server that asks for a client certificate.
    pub client_certificate: Option<ClientCertificate>,
    /// The connection's switch.
    pub switch: SeverSwitch,
}

impl ConnectionHttp<'_> {
    /// The options of the connection's client, with the limits of this module.
    ///
    /// # Errors
    /// `Misconfigured` when the stored certificates cannot be read, or the operator's egress policy
    /// no longer permits the proxy.
    pub fn options(self, egress: &Egress, provider: ProviderKind) -> Result<Options, Error> {
        let misconfigured = |context: &'static str| Error::new(ErrorKind::Misconfigured, context).provider(provider);
        let authorities = match self.ca {
            Some(pem) => Authorities::from_pem(pem).ok_or_else(|| misconfigured("the stored CA certificates cannot be read"))?,
            None => Authorities::System,
        };
        let proxy = self.proxy.map(|address| egress.proxy(address)).transpose();
        let proxy = proxy.map_err(|error| {
            misconfigured("the stored proxy is no longer permitted")
                .advice("The gateway may not reach the connection's proxy; the operator allows it in [egress].")
                .source(error)
        })?;
        Ok(Options {
            provider,
            authorities,
            client_certificate: self.client_certificate,
            proxy,
            connect_timeout: CONNECT_TIMEOUT,
            timeout: CALL_TIMEOUT,
            max_response: MAX_RESPONSE,
            switch: self.switch,
        })
    }
}
