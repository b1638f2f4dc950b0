//! A listener with a small router, certificates, and bare sockets to talk to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger::config::server::{Limits, TlsFiles};
use claviger::listener::{Body, Listener, Peer, PeerAddress, Recall, RequestBody, Running, Service, SwappableRouter, Tls};
use http::{Request, Response};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
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

/// `/hello` names the peer, `/echo` answers the body, `/part` reads what comes of it first, `/slow` waits for the gate, `/until/N` answers
/// a body of N MiB with a deadline of 500 ms, and `/past` one whose deadline has passed. `/known`
/// authenticates its peer, and `/bytes/N` answers a body of N KiB. So does `/depends/I/N`, whose body depends on what has
/// the id of 16 bytes I.
pub struct App(Arc<Gate>);

impl Service for App {
    async fn call(&self, request: Request<&mut RequestBody>, peer: &Peer) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let body = match path.as_str() {
            "/hello" => {
                let address = match peer.address {
                    PeerAddress::Ip(address) => address.port().to_string(),
                    PeerAddress::Unix { uid, gid } => format!("{uid}:{gid}"),
                };
                let certified = if peer.certificate.is_some() { " certified" } else { "" };
                format!("{address} {}{certified} {:?}", peer.tls, request.version())
                    .into_bytes()
                    .into()
            }
            "/echo" => request.into_body().collect().await.unwrap().to_bytes().to_vec().into(),
            "/part" => {
                request.into_body().frame().await.unwrap().unwrap();
                b"enough".as_slice().into()
            }
            "/slow" => {
                self.0.begun.notify_one();
                self.0.end.notified().await;
                b"done".as_slice().into()
            }
            "/past" => Body::from(b"too late".as_slice()).until(Instant::now()),
            "/known" => {
                peer.authenticated();
                b"known".as_slice().into()
            }
            bytes if bytes.starts_with("/bytes/") => {
                let size: usize = bytes.strip_prefix("/bytes/").unwrap().parse().unwrap();
                vec![b'x'; size << 10].into()
            }
            depends if depends.starts_with("/depends/") => {
                let (id, size) = depends.strip_prefix("/depends/").unwrap().split_once('/').unwrap();
                let unwritten = peer.responses().hand_over(&mut std::iter::once([id.parse().unwrap(); 16]));
                let mut body = Body::from(vec![b'x'; size.parse::<usize>().unwrap() << 10]);
                body.of_handed_over(unwritten);
                body
            }
            until => {
                let size: usize = until.strip_prefix("/until/").unwrap().parse().unwrap();
                Body::from(vec![b'x'; size << 20]).until(Instant::now() + Duration::from_millis(500))
            }
        };
        Response::new(body)
    }
}

pub fn app() -> SwappableRouter<App> {
    SwappableRouter::to(App(Arc::default()))
}

pub async fn plain(limits: Limits) -> (Running, Arc<Gate>) {
    start(None, limits).await
}

pub async fn start(tls: Option<Arc<Tls>>, limits: Limits) -> (Running, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls, limits)
        .await
        .unwrap();
    (listener.serve(SwappableRouter::to(App(Arc::clone(&gate)))), gate)
}

/// A listener that this reaches.
pub async fn reached_by(recall: &Arc<Recall>, tls: Option<Arc<Tls>>) -> Running {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(address, tls, limits()).await.unwrap();
    listener.reached_by(recall).serve(app())
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

pub async fn read_to_close(stream: &mut (impl AsyncRead + Unpin)) -> String {
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
