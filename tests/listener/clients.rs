//! A listener that requires client certificates.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use claviger::listener::{Listener, Tls, TlsError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::Identity;

use crate::setup::{Certificate, PATIENCE, app, certificate, limits};

/// An authority, and a client certificate of it with its key, as PEM.
fn authority() -> (String, String) {
    let mut wanted = CertificateParams::default();
    wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = wanted.self_signed(&key).unwrap();
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["client".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(wanted, key)).unwrap();
    (authority.pem(), format!("{}{}", leaf.pem(), leaf_key.serialize_pem()))
}

fn client(server: &Certificate, identity: Option<&str>) -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let root = reqwest::Certificate::from_pem(server.pem.as_bytes()).unwrap();
    let builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([root]);
    match identity {
        None => builder,
        Some(pem) => builder.identity(Identity::from_pem(pem.as_bytes()).unwrap()),
    }
    .build()
    .unwrap()
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_its_authority_are_served() {
    let server = certificate();
    let (authority_pem, ours) = authority();
    let (_, stranger) = authority();
    let authorities = server.folder().join("clients.crt");
    std::fs::write(&authorities, authority_pem).unwrap();
    let tls = Arc::new(Tls::load_mutual("peers", &server.files, &authorities).unwrap());
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let running = Listener::bind(address, Some(tls), limits()).await.unwrap().serve(app());
    let url = format!("https://localhost:{}/hello", running.local_addr().port());

    for refused in [None, Some(stranger.as_str())] {
        assert!(client(&server, refused).get(&url).send().await.is_err());
    }
    let served = client(&server, Some(&ours)).get(&url).send().await.unwrap().text().await.unwrap();
    assert!(served.contains(" true certified HTTP/"), "{served}");
}

#[tokio::test]
async fn the_authorities_must_exist() {
    let server = certificate();
    let load = |authorities: &Path| Tls::load_mutual("peers", &server.files, authorities);
    assert!(matches!(load(Path::new("no/such.crt")), Err(TlsError::Unreadable { .. })));
    assert!(matches!(load(&server.files.key), Err(TlsError::Empty { .. })));
}
