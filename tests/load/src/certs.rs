//! The certificates of a run: one authority, one server on loopback, one client.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// PEM files in one folder, ECDSA P-256: what KES, OpenBao and the gateway all take.
pub struct Certs {
    /// The authority's certificate.
    pub ca: PathBuf,
    /// The server's certificate for 127.0.0.1.
    pub server: PathBuf,
    /// Its private key.
    pub server_key: PathBuf,
    /// The client's certificate, which KES asks for.
    pub client: PathBuf,
    /// Its private key.
    pub client_key: PathBuf,
}

impl Certs {
    /// Makes them in `folder`.
    pub fn make(folder: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let leaf = |name: &str, usage: ExtendedKeyUsagePurpose| {
            let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
            params.is_ca = IsCa::ExplicitNoCa;
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate().expect("a key");
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
            let paths = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
            std::fs::write(&paths.0, certificate.pem()).expect("a file");
            std::fs::write(&paths.1, key.serialize_pem()).expect("a file");
            paths
        };
        let ca = folder.join("ca.crt");
        std::fs::write(&ca, authority.pem()).expect("a file");
        let (server, server_key) = leaf("server", ExtendedKeyUsagePurpose::ServerAuth);
        let (client, client_key) = leaf("client", ExtendedKeyUsagePurpose::ClientAuth);
        Self {
            ca,
            server,
            server_key,
            client,
            client_key,
        }
    }

    /// The client's side of TLS: HTTP/1.1, and the client's certificate for who asks for it.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(&self.ca) {
            roots.add(certificate).expect("an authority");
        }
        let key = PrivateKeyDer::from_pem_file(&self.client_key).expect("a key");
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(read_certificates(&self.client), key)
            .expect("certificate and key");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// A client for what is set up before anything is measured.
    pub fn admin(&self) -> reqwest::Client {
        reqwest::Client::builder()
            .tls_backend_preconfigured((*self.client_config()).clone())
            .no_proxy()
            .build()
            .expect("a client")
    }
}

/// The certificates of a PEM file.
pub fn read_certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_file_iter(path).expect("a file");
    all.collect::<Result<_, _>>().expect("certificates as PEM")
}
