//! Two more protocols beside REST, in a gateway at work: one whose callers show a client certificate,
//! one on a Unix socket. Each has a listener of its own; the exchange is the same.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger::access::{Action, Caller};
use claviger::audit::Receipt;
use claviger::boot::{Serving, StartOptions, init, start};
use claviger::broker::{Code, Failure, Guarded};
use claviger::config::Config;
use claviger::config::server::{Limits, TlsFiles};
use claviger::listener::{Body, Listener, Peer, PeerAddress, RequestBody, Service, SwappableRouter, Tls};
use claviger::protocols::RequestId;
use claviger::protocols::exchange::{AppState, Description, Exchange, Handled, Protocol, Received, RequestMeta, Terms};
use claviger_test_support::records;
use http::request::Parts;
use http::{Request, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Returns the body in capital letters. A caller that its connection identifies (a client certificate, or this process's user
/// on a Unix socket) has the rights of this token.
struct Shout(String);

impl Protocol for Shout {
    type Route = ();
    type Checked = ();
    type Payload = Vec<u8>;
    type Item = ();

    fn terms(&self, (): ()) -> Terms {
        Terms {
            label: "shout",
            method: "POST",
            needs: &[Action::Inspect],
            own_token: false,
            body: 16,
            answer: 16,
            revocation: false,
        }
    }
    async fn authenticate(&self, app: &AppState, meta: &RequestMeta<'_>, _: &Parts) -> Result<Caller, Failure> {
        let here = rustix::process::geteuid().as_raw();
        let known = meta.peer.certificate.is_some() || matches!(meta.peer.address, PeerAddress::Unix { uid, .. } if uid == here);
        let token = if known { &self.0 } else { "" };
        let caller = app.broker.authenticator().bearer(token, None, None, app.broker.now()).await;
        caller.map_err(|_| Failure::new(Code::Unauthenticated, "Who are you?"))
    }
    fn describe(&self, (): (), _: &Parts) -> Description<()> {
        Description {
            time: Duration::from_secs(5),
            client_request_id: None,
            justification: None,
            checked: Ok(()),
        }
    }
    async fn handle(&self, (): (), received: Received<()>) -> Result<Handled<Vec<u8>, ()>, Failure> {
        Ok(Handled::One(Guarded::free(received.body.to_ascii_uppercase())))
    }
    fn success(&self, payload: Vec<u8>) -> Response<Body> {
        Response::new(payload.into())
    }
    fn failure(&self, failure: &Failure, _: &RequestId) -> Response<Body> {
        Response::new(failure.code.as_str().as_bytes().into())
    }
    fn item(&self, _: Result<(), &Failure>, _: &RequestId, _: Option<&Receipt>) {}
    fn batch(&self, _: Vec<()>, _: &RequestId) -> Response<Body> {
        Response::default()
    }
    fn finish(&self, _: &mut http::HeaderMap, _: &RequestId, _: Option<&Receipt>) {}
}

struct ShoutService(Arc<Exchange<Shout>>);

impl Service for ShoutService {
    async fn call(&self, request: Request<&mut RequestBody>, peer: &Peer) -> Response<Body> {
        self.0.serve((), RequestMeta::now(peer), request).await.into()
    }
}

/// A gateway in this process, and its administrator's token.
async fn gateway(folder: &Path) -> (Serving, String) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let setting = |name: &str, value: &Path| (format!("CLAVIGER_{name}"), value.to_str().unwrap().to_owned());
    let variables = [
        setting("SERVER__LISTEN", Path::new("127.0.0.1:0")),
        setting("STORAGE__DATA_DIR", &folder.join("data")),
        setting("STORAGE__ROOT_KEY__FILE", &folder.join("root.key")),
    ];
    let config = Config::load(None, variables.into_iter()).unwrap();
    let token = init(&config, StartOptions::default(), false).await.unwrap();
    let token = String::from_utf8(token.expose().to_vec()).unwrap();
    let serving = start(&config, StartOptions::default()).await.unwrap();
    (serving, token)
}

fn shout(serving: &Serving, token: &str) -> SwappableRouter<ShoutService> {
    let exchange = Exchange::new(Shout(token.to_owned()), serving.app_state());
    SwappableRouter::to(ShoutService(Arc::new(exchange)))
}

/// The results of what was recorded of this protocol.
fn recorded(folder: &Path) -> Vec<String> {
    let all = records(&folder.join("data")).into_iter();
    let shouts = all.filter(|record| record["operation"] == "Inspect");
    shouts.map(|record| record["result"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn callers_with_a_client_certificate_are_served_recorded_and_limited() {
    let folder = tempfile::tempdir().unwrap();
    let (serving, token) = gateway(folder.path()).await;
    let (files, authorities, root, identity) = certificates(folder.path());
    let tls = Arc::new(Tls::load_mutual("shout", &files, &authorities).unwrap());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = Listener::bind(address, Some(tls), Limits::default()).await.unwrap();
    let running = listener.serve(shout(&serving, &token));
    let url = format!("https://localhost:{}/", running.local_addr().port());
    let builder = || reqwest::Client::builder().no_proxy().tls_certs_only([root.clone()]);

    assert!(builder().build().unwrap().post(&url).body("hello").send().await.is_err());
    let client = builder().identity(identity).build().unwrap();
    let said = async |body: &'static str| client.post(&url).body(body).send().await.unwrap().text().await.unwrap();
    assert_eq!(said("hello").await, "HELLO");
    assert_eq!(said("more than sixteen bytes").await, "too_large");
    assert_eq!(recorded(folder.path()), ["success", "failed"]);
    serving.stop().await;
}

#[tokio::test]
async fn the_processes_of_a_user_are_served_over_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let (serving, token) = gateway(folder.path()).await;
    let path = folder.path().join("shout.sock");
    let running = Listener::bind_unix(&path, Limits::default())
        .await
        .unwrap()
        .serve(shout(&serving, &token));
    let unknown = folder.path().join("unknown.sock");
    let refusing = Listener::bind_unix(&unknown, Limits::default())
        .await
        .unwrap()
        .serve(shout(&serving, "nobody"));
    assert!(exchange(&path, "hello").await.ends_with("\r\n\r\nHELLO"));
    assert!(exchange(&unknown, "hello").await.ends_with("\r\n\r\nunauthenticated"));
    assert_eq!(recorded(folder.path()), ["success"]);
    drop((running, refusing));
    serving.stop().await;
}

async fn exchange(path: &Path, body: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A certificate of `localhost`, the file of the authorities of clients, and for a client: the root to
/// trust, and its own certificate.
fn certificates(folder: &Path) -> (TlsFiles, std::path::PathBuf, reqwest::Certificate, reqwest::Identity) {
    let mut wanted = CertificateParams::default();
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = wanted.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(wanted, key);
    let leaf = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        (leaf.pem(), key.serialize_pem())
    };
    let files = TlsFiles {
        certificate: folder.join("tls.crt"),
        key: folder.join("tls.key"),
    };
    let (certificate, key) = leaf("localhost");
    std::fs::write(&files.certificate, certificate).unwrap();
    std::fs::write(&files.key, key).unwrap();
    let authorities = folder.join("clients.crt");
    std::fs::write(&authorities, &authority).unwrap();
    let (certificate, key) = leaf("client");
    let identity = reqwest::Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap();
    (
        files,
        authorities,
        reqwest::Certificate::from_pem(authority.as_bytes()).unwrap(),
        identity,
    )
}
