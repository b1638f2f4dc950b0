//! The server's side of TLS: rustls on aws-lc, versions 1.2 and 1.3, HTTP/2 and HTTP/1.1.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::server::TlsFiles;

/// Why TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{}: cannot be read ({kind})", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        kind: io::ErrorKind,
    },
    /// The file holds no PEM block of the kind that belongs there, or a damaged one.
    #[error("{}: holds no usable {expected} as PEM", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// Certificate and key do not go together, or are of a kind that TLS cannot use.
    #[error("certificate and key cannot be used together")]
    Refused(#[source] rustls::Error),
}

/// What is needed to serve TLS.
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// Reads certificate chain and key. Neither compression nor early data is ever
    /// negotiated: the one has told secrets by length, the other can be replayed.
    ///
    /// # Errors
    /// See [`TlsError`]; it names files and never what is in them.
    pub fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let certificate = |error| TlsError::of(&files.certificate, "certificate", &error);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
            .map_err(certificate)?
            .collect::<Result<_, _>>()
            .map_err(certificate)?;
        if chain.is_empty() {
            return Err(certificate(pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::of(&files.key, "private key", &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Refused)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Refused)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_early_data_size = 0;
        config.cert_compressors.clear();
        config.cert_decompressors.clear();
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn acceptor(self) -> TlsAcceptor {
        TlsAcceptor::from(self.0)
    }
}

impl TlsError {
    fn of(path: &std::path::Path, expected: &'static str, error: &pem::Error) -> Self {
        match error {
            pem::Error::Io(error) => Self::Unreadable {
                path: path.to_owned(),
                kind: error.kind(),
            },
            // The enum is open; whatever else a PEM parser finds, the file cannot be used.
            _ => Self::Empty {
                path: path.to_owned(),
                expected,
            },
        }
    }
}
