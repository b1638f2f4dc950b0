//! HTTPS with a certificate of a CA that the fake creates.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// The timeout of a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How many connections may wait to be served after their handshake.
const WAITING: usize = 64;

/// A server certificate and the CA created for it.
#[derive(Clone)]
pub struct Tls {
    authority: Arc<CertifiedIssuer<'static, KeyPair>>,
    ca_pem: String,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Creates a CA, and a certificate for 127.0.0.1, localhost and `names` (a leading `*.` is
    /// allowed).
    ///
    /// # Errors
    /// For a malformed name.
    pub fn new(names: &[&str]) -> io::Result<Self> {
        Self::with(names, false)
    }

    /// As [`Tls::new`]; a client without a certificate of the CA, as [`Tls::client_certificate`] makes one, gets no
    /// connection.
    ///
    /// # Errors
    /// As [`Tls::new`].
    pub fn mutual(names: &[&str]) -> io::Result<Self> {
        Self::with(names, true)
    }

    fn with(names: &[&str], mutual: bool) -> io::Result<Self> {
        let mut authority = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        authority
            .distinguished_name
            .push(DnType::CommonName, "Authority of a Claviger fake, for tests");
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(authority, key).map_err(io::Error::other)?;
        let all = ["127.0.0.1", "localhost"].iter().chain(names).map(ToString::to_string);
        let mut leaf = CertificateParams::new(all.collect::<Vec<_>>()).map_err(io::Error::other)?;
        leaf.is_ca = IsCa::ExplicitNoCa;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // OpenSSL's strict mode, which Python enables, requires it.
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = leaf.signed_by(&key, &authority).map_err(io::Error::other)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let stack = Arc::new(aws_lc_rs::default_provider());
        let verifier = match mutual {
            false => WebPkiClientVerifier::no_client_auth(),
            true => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der().clone()).map_err(io::Error::other)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&stack));
                verifier.build().map_err(io::Error::other)?
            }
        };
        let mut config = ServerConfig::builder_with_provider(stack)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], private)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            ca_pem: authority.pem(),
            authority: Arc::new(authority),
            config: Arc::new(config),
        })
    }

    /// A client certificate of the CA, and its private key, as PEM.
    ///
    /// # Errors
    /// For a malformed name.
    pub fn client_certificate(&self, name: &str) -> io::Result<(String, String)> {
        let mut client = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
        client.is_ca = IsCa::ExplicitNoCa;
        client.distinguished_name.push(DnType::CommonName, name);
        client.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = client.signed_by(&key, &*self.authority).map_err(io::Error::other)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// The CA certificate that clients must trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The TLS of a server with the certificate, for HTTP/1.1 and HTTP/2.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// A TLS listener. Handshakes run concurrently, so that a slow client does not block others.
pub(crate) struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: JoinHandle<()>,
    address: SocketAddr,
}

impl TlsListener {
    pub(crate) fn new(mut listener: TcpListener, tls: &Tls, address: SocketAddr) -> Self {
        let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
        let (send, ready) = mpsc::channel(WAITING);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, from) = Listener::accept(&mut listener).await;
                let (acceptor, send) = (acceptor.clone(), send.clone());
                tokio::spawn(async move {
                    // A failed handshake, or a stopped server, is reported to the client only.
                    match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream).into_fallible()).await {
                        Ok(Ok(stream)) => {
                            let _stopped = send.send((stream, from)).await;
                        }
                        // Who hangs up with bytes unread may take its own alert back: the client ends it.
                        Ok(Err((_, mut stream))) => {
                            let _ended = tokio::time::timeout(HANDSHAKE, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
                        }
                        Err(_) => {}
                    }
                });
            }
        });
        Self { ready, accepting, address }
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // Unreachable: the accepting task holds a sender while this value lives.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
