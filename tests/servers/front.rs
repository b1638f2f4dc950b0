//! A server in front of OpenBao that a case controls: its certificate, and what it makes of each call.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

use crate::openbao::Server;

/// What a front makes of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// Passes them on.
    Honest,
    /// As [`Manner::Honest`], and answers as HashiCorp's Vault Community, which knows no namespaces.
    Community,
    /// Has keys of the same names and none of the material: those of this mount.
    Stranger(String),
    /// Has the keys opened by the real server, and wraps with those of this mount.
    Liar(String),
    /// Redirects all to this address.
    Redirect(String),
}

struct Shared {
    manner: Mutex<Manner>,
    /// The tokens that were sent to it.
    tokens: Mutex<BTreeSet<String>>,
    calls: Mutex<Vec<String>>,
    acceptor: Mutex<TlsAcceptor>,
    real: String,
    http: reqwest::Client,
}

/// A front on loopback, over TLS. It stops with the case's runtime.
pub struct Front {
    shared: Arc<Shared>,
    port: u16,
    /// Its authority's certificate, as PEM.
    pub ca: String,
}

/// A TLS configuration with a fresh authority, and the authority's certificate.
fn authority() -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    (TlsAcceptor::from(Arc::new(config)), issuer.pem())
}

struct Tls {
    tcp: TcpListener,
    shared: Arc<Shared>,
}

impl Listener for Tls {
    type Io = TlsStream<TcpStream>;
    type Addr = std::net::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, peer)) = self.tcp.accept().await else { continue };
            let acceptor = self.shared.acceptor.lock().clone();
            if let Ok(stream) = acceptor.accept(stream).await {
                return (stream, peer);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

impl Front {
    pub async fn start(manner: Manner) -> Self {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let (acceptor, ca) = authority();
        let shared = Arc::new(Shared {
            manner: Mutex::new(manner),
            tokens: Mutex::default(),
            calls: Mutex::default(),
            acceptor: Mutex::new(acceptor),
            real: Server::Dev.address(),
            http: reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap(),
        });
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = Tls {
            tcp,
            shared: Arc::clone(&shared),
        };
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared, port, ca }
    }

    pub fn address(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// A connection's settings to it, with this login.
    pub fn settings(&self, auth: &Value) -> Value {
        json!({"address": self.address(), "ca": self.ca, "auth": auth})
    }

    /// Gives it a certificate of another authority, for connections from now on.
    pub fn renew(&mut self) {
        let (acceptor, ca) = authority();
        *self.shared.acceptor.lock() = acceptor;
        self.ca = ca;
    }

    /// The tokens that it was sent.
    pub fn tokens(&self) -> BTreeSet<String> {
        self.shared.tokens.lock().clone()
    }

    /// The paths that it was asked for since the last time.
    pub fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.calls.lock())
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let manner = shared.manner.lock().clone();
    let path = request.uri().path().to_owned();
    shared.calls.lock().push(path.clone());
    if let Some(token) = request.headers().get("x-vault-token") {
        shared.tokens.lock().insert(token.to_str().unwrap().to_owned());
    }
    let path = match &manner {
        Manner::Redirect(to) => return (StatusCode::TEMPORARY_REDIRECT, [("location", format!("{to}{path}"))]).into_response(),
        Manner::Stranger(mount) => path.replacen("/v1/transit/", &format!("/v1/{mount}/"), 1),
        Manner::Liar(mount) if path.contains("/encrypt/") => path.replacen("/v1/transit/", &format!("/v1/{mount}/"), 1),
        Manner::Honest | Manner::Community | Manner::Liar(_) => path,
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let (method, mut headers) = (request.method().clone(), request.headers().clone());
    for own in ["host", "content-length", "connection"] {
        headers.remove(own);
    }
    if manner == Manner::Community {
        headers.remove("x-vault-namespace");
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let call = shared
        .http
        .request(method, format!("{}{path}{query}", shared.real))
        .headers(headers);
    let response = call.body(body).send().await.unwrap();
    let status = response.status();
    let mut bytes = response.bytes().await.unwrap();
    if manner == Manner::Community && path == "/v1/sys/health" {
        let mut health: Value = serde_json::from_slice(&bytes).unwrap();
        health["version"] = json!("1.20.4");
        health["enterprise"] = json!(false);
        bytes = Bytes::from(health.to_string());
    }
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    // So that each call sees the certificate of now.
    headers.insert("connection", "close".parse().unwrap());
    (status, headers, bytes).into_response()
}
