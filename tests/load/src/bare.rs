//! The yardstick: an axum endpoint that reads a body and answers a fixed one, over the
//! TLS stack that the gateway has (rustls on aws-lc, hyper), and nothing else.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::post;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::certs::read_certificates;

/// Serves until the process is ended. `answer` is the body's length in bytes.
pub async fn serve(listen: SocketAddr, certificate: &Path, key: &Path, answer: usize) {
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(read_certificates(certificate), key)
        .expect("certificate and key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answer = Bytes::from(vec![b'x'; answer]);
    let reply = move |body: Bytes| async move {
        // The body was read whole; a handler that never looked would let hyper skip it.
        std::hint::black_box(body.len());
        ([(header::CONTENT_TYPE, "application/json")], answer)
    };
    let app = Router::new().route("/v1/unwrap", post(reply));
    let service = TowerToHyperService::new(app);
    let listener = TcpListener::bind(listen).await.expect("a free port");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, service) = (acceptor.clone(), service.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let protocol = auto::Builder::new(TokioExecutor::new());
            let _ = protocol.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
