//! TLS connections of protocols other than HTTP, such as KMIP.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::EgressPolicy;
use super::destination::{Destination, DestinationError};
use super::dial::{DialError, Dialer};
use super::http::{KEEPALIVE, KEEPALIVE_INTERVAL, USER_TIMEOUT};
use super::last_words::LastWords;
use super::overwriting::Overwriting;
use super::send_error::SendError;
use super::tls::ClientCertificate;
use crate::share::Share;

/// A connection. What is read and written is encrypted. A read that has to wait overwrites what TLS kept of what was read
/// before.
pub type TlsStream = tokio_rustls::client::TlsStream<Overwriting<LastWords<TcpStream>>>;

/// Host and port of a server. Only [`super::Egress`] makes one, which guarantees the same about the host as for
/// a [`Destination`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    pub(super) fn parse(address: &str, policy: &EgressPolicy) -> Result<Self, DestinationError> {
        // All that an address has beside host and port is refused by the destination, but for a path.
        if address.contains('/') {
            return Err(DestinationError::Path);
        }
        let port = address.rsplit_once(':').map(|(_, port)| port);
        let digits = port.filter(|port| port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()));
        let port = digits.and_then(|port| port.parse().ok()).ok_or(DestinationError::Form)?;
        let destination = Destination::server(&format!("https://{address}"), policy)?;
        Ok(Self {
            host: destination.host().to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    /// The normalized `host:port`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Options of connections.
pub struct TlsOptions<'a> {
    /// The authorities that the server's certificate may come from, as PEM; `None` for those that this system
    /// trusts.
    pub ca: Option<&'a str>,
    /// The certificate for servers that request one.
    pub client_certificate: Option<&'a ClientCertificate>,
    /// The longest time until a connection is open, TLS included.
    pub connect_timeout: Duration,
    /// What the tenant may take that it connects for.
    pub share: Share,
}

/// Opens TLS connections to one endpoint. Cheap to clone.
#[derive(Clone)]
pub struct TlsDialer {
    endpoint: Endpoint,
    name: ServerName<'static>,
    dialer: Dialer,
    connector: TlsConnector,
    connect_timeout: Duration,
}

impl TlsDialer {
    pub(super) fn new(endpoint: Endpoint, options: TlsOptions<'_>, dialer: Dialer) -> Result<Self, rustls::Error> {
        let builder = ClientConfig::builder();
        let trusting = match options.ca {
            Some(pem) => builder.with_root_certificates(roots(pem)?),
            None => builder.with_platform_verifier()?,
        };
        let config = match options.client_certificate {
            Some(certificate) => {
                let certified = certificate.certified.clone();
                trusting.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => trusting.with_no_client_auth(),
        };
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|_| rustls::Error::General("the host's name".to_owned()))?;
        Ok(Self {
            endpoint,
            name,
            dialer,
            connector: TlsConnector::from(Arc::new(config)),
            connect_timeout: options.connect_timeout,
        })
    }

    /// Opens a connection: a complete handshake. With TLS 1.3 a server may still reject the client certificate
    /// afterwards, which a read returns then ([`SendError::of_stream`]).
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self) -> Result<TlsStream, SendError> {
        let opened = timeout(self.connect_timeout, self.open()).await;
        opened.unwrap_or_else(|_| Err(SendError::Unreachable("no connection in time".to_owned())))
    }

    async fn open(&self) -> Result<TlsStream, SendError> {
        let tcp = self
            .dialer
            .connect(&self.endpoint.host, self.endpoint.port, self.connect_timeout)
            .await;
        let tcp = tcp.map_err(|error| match error {
            DialError::Refused(refused) => SendError::Refused(refused),
            DialError::Crowded(_) => SendError::Crowded,
            unknown @ DialError::Unknown => SendError::Unreachable(unknown.to_string()),
            DialError::Unreachable(kind) => SendError::Unreachable(kind.to_string()),
            DialError::Timeout => SendError::Unreachable("no connection in time".to_owned()),
        })?;
        watched(&tcp).map_err(|error| SendError::Unreachable(error.kind().to_string()))?;
        let opened = self.connector.connect(self.name.clone(), Overwriting(LastWords::new(tcp))).await;
        let mut opened = opened.map_err(|error| match SendError::of_stream(&error) {
            SendError::Broken(why) => SendError::Unreachable(why),
            other => other,
        })?;
        opened.get_mut().0.0.shaken();
        Ok(opened)
    }
}

/// Certificates that a server's may come from.
fn roots(pem: &str) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| rustls::Error::General("the certificates' form".to_owned()))?;
        roots.add(certificate)?;
    }
    Ok(roots)
}

/// Has TCP find out by itself that the other side is gone, as the HTTP client does, and send at once.
fn watched(tcp: &TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(2);
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{DestinationError, EgressPolicy, Endpoint};

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for (given, normal) in [
            ("KMS.Example:5696", "kms.example:5696"),
            ("kms.example:443", "kms.example:443"),
            ("1.1.1.1:1", "1.1.1.1:1"),
            ("[2606:4700:0:0::1111]:5696", "[2606:4700::1111]:5696"),
        ] {
            assert_eq!(Endpoint::parse(given, &EgressPolicy::default()).unwrap().to_string(), normal);
        }
        for (given, why) in [
            ("", DestinationError::Form),
            ("kms.example", DestinationError::Form),
            ("kms.example:", DestinationError::Form),
            ("kms.example:0", DestinationError::Form),
            ("kms.example:65536", DestinationError::Form),
            ("kms.example:+1", DestinationError::Form),
            (":5696", DestinationError::Form),
            ("::1:5696", DestinationError::Form),
            ("kms .example:5696", DestinationError::Form),
            ("https://kms.example:5696", DestinationError::Path),
            ("kms.example:5696/", DestinationError::Path),
            ("user@kms.example:5696", DestinationError::Extra),
            ("127.0.0.1:5696", DestinationError::Refused),
            ("0x7f.1:5696", DestinationError::Refused),
            ("[::1]:5696", DestinationError::Refused),
        ] {
            assert_eq!(Endpoint::parse(given, &EgressPolicy::default()), Err(why), "{given}");
        }
    }
}
