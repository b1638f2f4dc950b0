//! A listener with a small router, certificates, and bare sockets to talk to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::{get, post};
use claviger::config::server::{Limits, TlsFiles};
use claviger::listener::{Listener, Peer, Running, SwappableRouter, Tls};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Longer than anything here takes; a test that reaches it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn limits() -> Limits {
    Limits {
        header_timeout: Duration::from_secs(15),
        idle_timeout: Duration::from_secs(15),
        ..Limits::default()
    }
}

/// Tells when a slow request has begun, and lets it end.
#[derive(Default)]
pub struct Gate {
    pub begun: Notify,
    pub end: Notify,
}

/// `/hello` names the peer's port, `/echo` answers the body, `/slow` waits for the gate.
pub fn app(gate: &Arc<Gate>) -> Router {
    let gate = Arc::clone(gate);
    let hello = |request: Request| async move {
        let peer = request.extensions().get::<Peer>().copied().expect("each request carries its peer");
        format!("{} {} {:?}", peer.address.port(), peer.tls, request.version())
    };
    let slow = move || async move {
        gate.begun.notify_one();
        gate.end.notified().await;
        "done"
    };
    Router::new()
        .route("/hello", get(hello))
        .route("/echo", post(|body: String| async { body }))
        .route("/slow", get(slow))
}

pub async fn plain(limits: Limits) -> (Running, Arc<Gate>) {
    start(None, limits).await
}

pub async fn start(tls: Option<Arc<Tls>>, limits: Limits) -> (Running, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls, limits)
        .await
        .unwrap();
    (listener.serve(SwappableRouter::to(app(&gate))), gate)
}

/// A certificate for `localhost` that is its own authority, in a folder of its own.
pub struct Certificate {
    folder: TempDir,
    pub files: TlsFiles,
    pub pem: String,
}

impl Certificate {
    /// The folder of the two files, `tls.crt` and `tls.key`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

pub fn certificate() -> Certificate {
    certificate_until(2099)
}

/// One that ends when this year begins.
pub fn certificate_until(year: i32) -> Certificate {
    let mut wanted = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    wanted.not_after = rcgen::date_time_ymd(year, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = wanted.self_signed(&key).unwrap().pem();
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles {
        certificate: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    };
    std::fs::write(&files.certificate, &pem).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    Certificate { folder, files, pem }
}

/// What a listener presents it with.
pub fn tls(certificate: &Certificate) -> Arc<Tls> {
    Arc::new(Tls::load("api", &certificate.files).unwrap())
}

/// What a client speaks.
#[derive(Clone, Copy)]
pub enum Speaks {
    /// HTTP/1.1 and nothing else.
    Http1,
    /// HTTP/2 where TLS negotiates it.
    Both,
    /// HTTP/2 from the first byte.
    Http2,
}

/// A client that trusts this certificate and nothing else.
pub fn client(certificate: Option<&Certificate>, speaks: Speaks) -> reqwest::Client {
    // Only the first test of the process installs it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let roots: Vec<_> = certificate
        .iter()
        .map(|c| reqwest::Certificate::from_pem(c.pem.as_bytes()).unwrap())
        .collect();
    let builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only(roots);
    match speaks {
        Speaks::Http1 => builder.http1_only(),
        Speaks::Both => builder,
        Speaks::Http2 => builder.http2_prior_knowledge(),
    }
    .build()
    .unwrap()
}

/// Sends bytes and reads until the server closes.
pub async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_to_close(&mut stream).await
}

pub async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    let reading = async {
        // A reset after the answer is a close, too.
        while let Ok(length @ 1..) = stream.read(&mut chunk).await {
            answer.extend_from_slice(&chunk[..length]);
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}
