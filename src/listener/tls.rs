//! The server's side of TLS: rustls on aws-lc, versions 1.2 and 1.3, HTTP/2 and HTTP/1.1. The
//! certificate can be replaced without a restart. A listener may require client certificates.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config::server::TlsFiles;
use crate::io_reason::IoReason;
use crate::telemetry::metrics::{certificate_expires, certificate_read};

/// Why TLS cannot be served with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("{}: cannot be read ({})", path.display(), IoReason(*kind))]
    Unreadable {
        /// Path of the file.
        path: PathBuf,
        /// Why.
        kind: io::ErrorKind,
    },
    /// The file holds no PEM block of the expected kind, or a damaged one.
    #[error("{}: holds no usable {expected} as PEM", path.display())]
    Empty {
        /// Path of the file.
        path: PathBuf,
        /// The kind.
        expected: &'static str,
    },
    /// Certificate and key do not belong together, or are of a kind that TLS cannot use.
    #[error("certificate and key cannot be used together")]
    Refused(#[source] rustls::Error),
    /// The authorities of client certificates are of a kind that TLS cannot use.
    #[error("{}: cannot be used to verify client certificates", path.display())]
    Authorities {
        /// Path of the file.
        path: PathBuf,
    },
}

/// TLS of one listener: the current certificate and key, and the files that they come from.
pub struct Tls {
    listener: &'static str,
    files: TlsFiles,
    /// The file of the authorities of client certificates, where the listener requires one.
    authorities: Option<PathBuf>,
    presented: RwLock<Presented>,
    /// Whether the files in their current form could not be used.
    refused: AtomicBool,
    /// Held while the files are read; only readers of the files wait for it.
    seen: Mutex<Seen>,
}

/// The configuration for new connections.
struct Presented {
    config: Arc<ServerConfig>,
    /// When the certificate expires; absent where it could not be parsed. rustls decides whether it
    /// can be used.
    expires: Option<DateTime<Utc>>,
}

/// The last read of the files.
struct Seen {
    stamps: Stamps,
    /// Why they could not be used, if they could not.
    refused: Option<String>,
}

/// Certificate, key and authorities: the file behind each name, and its last change.
type Stamps = [Option<Stamp>; 3];

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Tls {
    /// Reads certificate chain and key for the listener of this name, which labels its metrics.
    /// Compression and early data are never negotiated: compression can reveal secrets by length,
    /// early data can be replayed.
    ///
    /// # Errors
    /// See [`TlsError`]; it names files, never their content.
    pub fn load(listener: &'static str, files: &TlsFiles) -> Result<Self, TlsError> {
        Self::read(listener, files, None)
    }

    /// As [`Tls::load`], for a listener whose clients must present a certificate that one of the
    /// authorities in this PEM file issued. Without one the handshake fails.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load_mutual(listener: &'static str, files: &TlsFiles, authorities: &Path) -> Result<Self, TlsError> {
        Self::read(listener, files, Some(authorities.to_owned()))
    }

    fn read(listener: &'static str, files: &TlsFiles, authorities: Option<PathBuf>) -> Result<Self, TlsError> {
        // Before the files are read: a change in between is then read again.
        let stamps = stamps(files, authorities.as_deref());
        let presented = Presented::read(files, authorities.as_deref())?;
        presented.report(listener);
        Ok(Self {
            listener,
            files: files.clone(),
            authorities,
            presented: RwLock::new(presented),
            refused: AtomicBool::new(false),
            seen: Mutex::new(Seen { stamps, refused: None }),
        })
    }

    /// Reads the files if they changed. Returns whether their current content can be used.
    pub async fn reload_if_changed(self: Arc<Self>) -> bool {
        Arc::clone(&self).look(false).await;
        !self.refused.load(Ordering::Acquire)
    }

    /// Reads the files whether or not they changed. New connections use the new content, open ones
    /// continue. Content that cannot be used is logged and changes nothing.
    pub async fn read_again(self: Arc<Self>) {
        self.look(true).await;
    }

    async fn look(self: Arc<Self>, asked: bool) {
        // A file system that hangs must not block anything else.
        if let Err(error) = tokio::task::spawn_blocking(move || self.take(asked)).await {
            tracing::warn!(%error, "the certificate could not be looked at");
        }
    }

    fn take(&self, asked: bool) {
        let mut seen = self.seen.lock();
        let stamps = stamps(&self.files, self.authorities.as_deref());
        // Files that could not be used are tried each time: the cause may be outside of them.
        if !asked && seen.refused.is_none() && stamps == seen.stamps {
            return;
        }
        seen.stamps = stamps;
        let certificate = self.files.certificate.display();
        match Presented::read(&self.files, self.authorities.as_deref()) {
            Ok(presented) => {
                seen.refused = None;
                self.refused.store(false, Ordering::Release);
                presented.report(self.listener);
                certificate_read(self.listener, "taken");
                tracing::info!(%certificate, expires = presented.expires(), "new connections get the certificate as it is now");
                *self.presented.write() = presented;
            }
            Err(error) => {
                let said = match &error {
                    TlsError::Refused(cause) => format!("{error}: {cause}"),
                    TlsError::Unreadable { .. } | TlsError::Empty { .. } | TlsError::Authorities { .. } => error.to_string(),
                };
                if asked || seen.refused.as_ref() != Some(&said) {
                    certificate_read(self.listener, "refused");
                    tracing::warn!(
                        %certificate,
                        reason = said,
                        what_to_do = "put a certificate chain, leaf first, and the leaf's private key into the two files as PEM; the gateway reads them again by itself",
                        "the changed certificate cannot be used; the one before it is still presented"
                    );
                }
                seen.refused = Some(said);
                self.refused.store(true, Ordering::Release);
            }
        }
    }

    /// The state in a few words, for `/readyz`: without paths and without the files' content.
    pub fn state(&self) -> String {
        let mut state = format!("expires {}", self.presented.read().expires());
        if self.refused.load(Ordering::Acquire) {
            state.push_str("; the changed files cannot be used, see the log");
        }
        state
    }

    /// The acceptor for the next connection. Sessions of a replaced certificate are not resumed:
    /// they belong to the replaced configuration.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.presented.read().config))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Presented {
    fn read(files: &TlsFiles, authorities: Option<&Path>) -> Result<Self, TlsError> {
        let certificate = |error| TlsError::of(&files.certificate, "certificate", &error);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
            .map_err(certificate)?
            .collect::<Result<_, _>>()
            .map_err(certificate)?;
        let expires = expiry(chain.first().ok_or_else(|| certificate(pem::Error::NoItemsFound))?);
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::of(&files.key, "private key", &error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let clients = match authorities {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(path) => WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), Arc::clone(&provider))
                .build()
                .map_err(|_| TlsError::Authorities { path: path.to_owned() })?,
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError::Refused)?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(TlsError::Refused)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.max_early_data_size = 0;
        config.cert_compressors.clear();
        config.cert_decompressors.clear();
        Ok(Self {
            config: Arc::new(config),
            expires,
        })
    }

    /// The expiry as text; "unknown" where the certificate could not be parsed.
    fn expires(&self) -> String {
        self.expires
            .map_or_else(|| "unknown".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }

    fn report(&self, listener: &'static str) {
        if let Some(expires) = self.expires {
            certificate_expires(listener, expires.timestamp());
        }
    }
}

/// The authorities in a PEM file.
fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let failed = |error| TlsError::of(path, "certificate", &error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        let added = roots.add(certificate.map_err(failed)?);
        added.map_err(|_| TlsError::Authorities { path: path.to_owned() })?;
    }
    if roots.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(roots)
}

/// When the certificate expires.
fn expiry(certificate: &CertificateDer<'_>) -> Option<DateTime<Utc>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
}

fn stamps(files: &TlsFiles, authorities: Option<&Path>) -> Stamps {
    // Follows links: their target counts.
    let stamp = |path: &Path| {
        std::fs::metadata(path).ok().map(|found| Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    };
    [stamp(&files.certificate), stamp(&files.key), authorities.and_then(stamp)]
}

impl TlsError {
    fn of(path: &Path, expected: &'static str, error: &pem::Error) -> Self {
        match error {
            pem::Error::Io(error) => Self::Unreadable {
                path: path.to_owned(),
                kind: error.kind(),
            },
            // The enum is non-exhaustive; any other finding means that the file cannot be used.
            _ => Self::Empty {
                path: path.to_owned(),
                expected,
            },
        }
    }
}
