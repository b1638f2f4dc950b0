//! TLS: whom the client trusts. The provider of cryptography is set here and not for the process, which belongs to the
//! program.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::error::Error;

/// The authorities that a gateway's certificate may come from.
#[derive(Debug, Clone, Default)]
pub(crate) enum Authorities {
    /// The authorities that this system trusts.
    #[default]
    System,
    /// These alone.
    Only(RootCertStore),
}

impl Authorities {
    /// These alone, from PEM text; `None` if there is no certificate in it.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.ok()?).ok()?;
        }
        (!roots.is_empty()).then_some(Self::Only(roots))
    }

    /// The settings of TLS. For plain HTTP no authority is needed, so a system without any will do.
    pub(crate) fn config(self, is_plain: bool) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match self {
            Self::Only(roots) => builder.with_root_certificates(roots),
            Self::System if is_plain => builder.with_root_certificates(RootCertStore::empty()),
            Self::System => builder.with_platform_verifier().map_err(unusable)?,
        };
        Ok(builder.with_no_client_auth())
    }
}

fn unusable(error: rustls::Error) -> Error {
    Error::invalid_argument(format!("TLS cannot be set up: {error}."))
        .what_to_do_is("Install the system's certificate authorities, or give one by `ca_file`.")
}
