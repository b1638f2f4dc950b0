//! Certificates that are trusted, and those that are not.

use std::fs;
use std::sync::Arc;

use claviger_client::{Client, ErrorKind};
use claviger_test_support::{Gateway, Tune};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;

use super::acme::binary;
use super::stub::{Stub, key, object};
use super::support::{TOKEN, failed};

/// An authority, and the certificate for 127.0.0.1 that it issued.
struct Issued {
    authority: String,
    certificate: String,
    key: String,
    chain: Vec<CertificateDer<'static>>,
    private: PrivateKeyDer<'static>,
    roots: RootCertStore,
}

fn issued() -> Issued {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let pair = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])
        .unwrap()
        .signed_by(&pair, &authority)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    Issued {
        authority: authority.pem(),
        certificate: certificate.pem(),
        key: pair.serialize_pem(),
        chain: vec![certificate.der().clone()],
        private: PrivateKeyDer::try_from(pair.serialize_der()).unwrap(),
        roots,
    }
}

impl Issued {
    fn acceptor(&self, wants_certificate: bool) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match wants_certificate {
            true => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots.clone()), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            false => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(self.chain.clone(), self.private.clone_key()).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted() {
    let issued = issued();
    let stub = Stub::over(vec![object(&key())], Some(issued.acceptor(false))).await;
    let error = failed(stub.client().get_key("orders").await, ErrorKind::UntrustedCertificate);
    assert!(error.detail().contains("no trusted authority issued it"), "{error}");
    assert!(error.what_to_do().unwrap().contains("ca_file") && !error.is_retryable() && !error.maybe_executed());
    stub.builder()
        .ca_pem(&issued.authority)
        .build()
        .unwrap()
        .get_key("orders")
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, &issued.authority).unwrap();
    stub.builder().ca_file(&file).build().unwrap().get_key("orders").await.unwrap();
    // For another name, and by another authority.
    let address = stub.address.replace("127.0.0.1", "localhost");
    let client = Client::builder(address).token(TOKEN).ca_file(&file).build().unwrap();
    let error = failed(client.get_key("orders").await, ErrorKind::UntrustedCertificate);
    assert!(
        error.detail().contains("localhost") && error.detail().contains("another host"),
        "{error}"
    );
    let client = stub.builder().ca_pem(self::issued().authority).build().unwrap();
    failed(client.get_key("orders").await, ErrorKind::UntrustedCertificate);
    assert_eq!(stub.count(), 2);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate() {
    let issued = issued();
    let stub = Stub::over(vec![object(&key())], Some(issued.acceptor(true))).await;
    let client = stub.builder().ca_pem(&issued.authority).retries(0).build().unwrap();
    let error = client.get_key("orders").await.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ConnectionLost | ErrorKind::GatewayUnreachable),
        "{error}"
    );
    assert!(error.detail().contains("CertificateRequired"), "{error}");
}

#[tokio::test]
async fn a_gateway_with_tls() {
    let issued = issued();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, private) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    fs::write(&certificate, &issued.certificate).unwrap();
    fs::write(&private, &issued.key).unwrap();
    let tune = Tune::default()
        .set("CLAVIGER_SERVER__TLS__CERTIFICATE", certificate.display().to_string())
        .set("CLAVIGER_SERVER__TLS__KEY", private.display().to_string());
    let gateway = Gateway::new(&binary());
    let started = gateway.serve(&tune);
    let builder = |scheme: &str| Client::builder(format!("{scheme}://{}", started.address())).token_file(gateway.token_file());
    let client = builder("https").ca_pem(&issued.authority).build().unwrap();
    assert!(client.who_am_i().await.unwrap().operator);
    failed(builder("https").build().unwrap().who_am_i().await, ErrorKind::UntrustedCertificate);
    let error = builder("http").retries(0).build().unwrap().who_am_i().await.unwrap_err();
    assert!(
        error
            .what_to_do()
            .is_some_and(|text| text.contains("scheme") || text.contains("address")),
        "{error}"
    );
}
