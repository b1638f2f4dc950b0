//! TLS of a client: the authorities that it trusts, and the certificate that it presents.

use reqwest::Identity;
use reqwest::tls::Certificate;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

/// The authorities that a server's certificate may come from.
#[derive(Clone, Default)]
pub enum Authorities {
    /// The authorities that this system trusts.
    #[default]
    System,
    /// These alone.
    Only(Vec<Certificate>),
}

impl Authorities {
    /// These alone, from one or more certificates as PEM text; `None` if there are none.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).ok()?;
        (!certificates.is_empty()).then_some(Self::Only(certificates))
    }
}

/// A client certificate with its chain, and the key that belongs to it. Printed nowhere.
#[derive(Clone)]
pub struct ClientCertificate {
    /// For the HTTP client.
    pub(super) identity: Identity,
    /// For connections without HTTP.
    pub(super) certified: CertifiedKey,
}

impl ClientCertificate {
    /// From PEM text: `certificate` holds the certificate and then the chain to its
    /// authority, `key` its private key alone (PKCS#8, PKCS#1 or SEC1, not encrypted).
    ///
    /// `None` if either is something else, or if they do not belong together.
    pub fn from_pem(certificate: &[u8], key: &[u8]) -> Option<Self> {
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>().ok()?;
        let stack = CryptoProvider::get_default()?;
        let signing = stack.key_provider.load_private_key(PrivateKeyDer::from_pem_slice(key).ok()?).ok()?;
        let certified = CertifiedKey::new(chain, signing);
        if certified.cert.is_empty() || certified.keys_match().is_err() {
            return None;
        }
        let both = Zeroizing::new([certificate, b"\n", key].concat());
        let identity = Identity::from_pem(&both).ok()?;
        Some(Self { identity, certified })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::ClientCertificate;

    #[test]
    fn certificate_and_key_belong_together() {
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let made = || rcgen::generate_simple_self_signed(["client.test".to_owned()]).unwrap();
        let (one, other) = (made(), made());
        let (certificate, key) = (one.cert.pem(), one.signing_key.serialize_pem());
        let strangers = other.signing_key.serialize_pem();
        let right = |certificate: &str, key: &str| ClientCertificate::from_pem(certificate.as_bytes(), key.as_bytes()).is_some();
        assert!(right(&certificate, &key));
        assert!(right(&format!("{certificate}{}", other.cert.pem()), &key));
        for (certificate, key) in [
            (certificate.as_str(), strangers.as_str()),
            ("", &key),
            (&certificate, ""),
            (&key, &certificate),
            ("no certificate", &key),
            (&certificate, "no key"),
        ] {
            assert!(!right(certificate, key));
        }
    }
}
