//! How a client reaches a listener: its address, with or without TLS, from which address, and through
//! a proxy or not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::{fmt, io};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

/// The header in which a proxy names its client.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }

    /// Its name in ALPN.
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// An open connection.
pub type Stream = Box<dyn Transport>;

/// What requests are written to.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// A listener, as one client reaches it.
#[derive(Clone)]
pub struct Endpoint {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    source: Option<Ipv4Addr>,
    forwarded_for: Option<String>,
    version: Version,
}

impl From<SocketAddr> for Endpoint {
    /// Plain HTTP, straight from this machine; clients speak HTTP/1.1.
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            source: None,
            forwarded_for: None,
            version: Version::Http1,
        }
    }
}

impl From<&Self> for Endpoint {
    fn from(endpoint: &Self) -> Self {
        endpoint.clone()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Over TLS, with this configuration whatever its protocols are.
    #[must_use]
    pub fn over_tls(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// From this address of loopback.
    #[must_use]
    pub const fn from_source(mut self, source: Ipv4Addr) -> Self {
        self.source = Some(source);
        self
    }

    /// As a proxy that names this address as its client's.
    #[must_use]
    pub fn forwarded_for(mut self, client: &str) -> Self {
        self.forwarded_for = Some(client.to_owned());
        self
    }

    /// Whose clients speak this version.
    #[must_use]
    pub const fn over(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.address)
    }

    /// The client's address, if a proxy names it.
    pub(crate) fn forwarded(&self) -> Option<(&'static str, &str)> {
        self.forwarded_for.as_deref().map(|client| (FORWARDED_FOR, client))
    }

    /// A client for it. Over HTTP/1.1 it has as many connections as requests under way, over HTTP/2 one.
    pub(crate) fn http(&self) -> reqwest::Client {
        let builder = reqwest::Client::builder().no_proxy().local_address(self.source.map(IpAddr::from));
        let builder = match self.version {
            Version::Http1 => builder,
            Version::Http2 => builder.http2_prior_knowledge(),
        };
        match &self.tls {
            // Plain HTTP on loopback: nothing to verify.
            None => builder.tls_certs_only([]),
            Some(config) => builder.tls_backend_preconfigured(speaking(config, self.version)),
        }
        .build()
        .expect("a client")
    }

    /// Opens a connection for this version, whatever the clients speak.
    ///
    /// # Errors
    /// When the connection is refused or closed.
    pub async fn connect(&self, version: Version) -> io::Result<Stream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = self.source {
            socket.bind(SocketAddr::from((source, 0)))?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let connector = TlsConnector::from(Arc::new(speaking(config, version)));
        let stream = connector.connect(ServerName::from(self.address.ip()), stream).await?;
        Ok(Box::new(stream))
    }
}

fn speaking(config: &ClientConfig, version: Version) -> ClientConfig {
    let mut config = config.clone();
    config.alpn_protocols = vec![version.alpn().to_vec()];
    config
}
