//! The server's side of TLS: rustls on aws-lc, versions 1.2 and 1.3, HTTP/2 and HTTP/1.1, with
//! a certificate that may be exchanged while it serves.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, SecondsFormat, Utc};
use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::server::TlsFiles;
use crate::telemetry::metrics::{certificate_expires, certificate_read};

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

/// What is needed to serve TLS: the certificate and key that are presented now, and the files
/// that they come from.
pub struct Tls {
    listener: &'static str,
    files: TlsFiles,
    presented: RwLock<Presented>,
    /// Whether the files as they are now could not be used.
    refused: AtomicBool,
    /// Held while the files are read; nobody but the reader waits for it.
    seen: Mutex<Seen>,
}

/// What new connections are met with.
struct Presented {
    config: Arc<ServerConfig>,
    /// Absent where the certificate's own words could not be understood; whether it can be
    /// used is rustls' to say.
    expires: Option<DateTime<Utc>>,
}

/// What was last read of the files.
struct Seen {
    stamps: Stamps,
    /// Why they could not be used, if they could not.
    refused: Option<String>,
}

/// Certificate and key: which file each name leads to, and its last change.
type Stamps = [Option<Stamp>; 2];

#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Tls {
    /// Reads certificate chain and key for the listener of this name, which metrics show. Neither compression nor early data is ever
    /// negotiated: the one has told secrets by length, the other can be replayed.
    ///
    /// # Errors
    /// See [`TlsError`]; it names files and never what is in them.
    pub fn load(listener: &'static str, files: &TlsFiles) -> Result<Self, TlsError> {
        // Before the files are read: what changes meanwhile is then read again.
        let stamps = stamps(files);
        let presented = Presented::read(files)?;
        presented.tell(listener);
        Ok(Self {
            listener,
            files: files.clone(),
            presented: RwLock::new(presented),
            refused: AtomicBool::new(false),
            seen: Mutex::new(Seen { stamps, refused: None }),
        })
    }

    /// Reads the files if they look changed. Returns whether they can be used as they are now.
    pub async fn reload_if_changed(self: Arc<Self>) -> bool {
        Arc::clone(&self).look(false).await;
        !self.refused.load(Ordering::Acquire)
    }

    /// Reads the files whether or not they look changed. New connections are met with what
    /// is in them; those that are open live on. What cannot be used changes nothing, and is
    /// logged.
    pub async fn read_again(self: Arc<Self>) {
        self.look(true).await;
    }

    async fn look(self: Arc<Self>, asked: bool) {
        // A file system that does not answer holds up nothing else.
        if let Err(error) = tokio::task::spawn_blocking(move || self.take(asked)).await {
            tracing::warn!(%error, "the certificate could not be looked at");
        }
    }

    fn take(&self, asked: bool) {
        let mut seen = self.seen.lock();
        let stamps = stamps(&self.files);
        // Files that could not be used are tried each time: what was wrong may lie elsewhere.
        if !asked && seen.refused.is_none() && stamps == seen.stamps {
            return;
        }
        seen.stamps = stamps;
        let certificate = self.files.certificate.display();
        match Presented::read(&self.files) {
            Ok(presented) => {
                seen.refused = None;
                self.refused.store(false, Ordering::Release);
                presented.tell(self.listener);
                certificate_read(self.listener, "taken");
                tracing::info!(%certificate, expires = presented.expires(), "new connections get the certificate as it is now");
                *self.presented.write() = presented;
            }
            Err(error) => {
                let said = match &error {
                    TlsError::Refused(cause) => format!("{error}: {cause}"),
                    TlsError::Unreadable { .. } | TlsError::Empty { .. } => error.to_string(),
                };
                if asked || seen.refused.as_ref() != Some(&said) {
                    certificate_read(self.listener, "refused");
                    tracing::warn!(
                        %certificate,
                        reason = said,
                        what_to_do = "put a certificate chain, leaf first, and the leaf's private key into the two files as PEM; they are read again by themselves",
                        "the changed certificate cannot be used; the one before it is still presented"
                    );
                }
                seen.refused = Some(said);
                self.refused.store(true, Ordering::Release);
            }
        }
    }

    /// The state in a few words, for `/readyz`: no path, and nothing of the files' content.
    pub fn state(&self) -> String {
        let mut state = format!("expires {}", self.presented.read().expires());
        if self.refused.load(Ordering::Acquire) {
            state.push_str("; the changed files cannot be used, see the log");
        }
        state
    }

    /// For the next connection. Sessions of a certificate that is no longer presented are
    /// not resumed: they belong to the configuration that it came with.
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
    fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let certificate = |error| TlsError::of(&files.certificate, "certificate", &error);
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
            .map_err(certificate)?
            .collect::<Result<_, _>>()
            .map_err(certificate)?;
        let expires = expiry(chain.first().ok_or_else(|| certificate(pem::Error::NoItemsFound))?);
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
        Ok(Self {
            config: Arc::new(config),
            expires,
        })
    }

    /// As text; "unknown" where the certificate does not say it in a way that is understood.
    fn expires(&self) -> String {
        self.expires
            .map_or_else(|| "unknown".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
    }

    fn tell(&self, listener: &'static str) {
        if let Some(expires) = self.expires {
            certificate_expires(listener, expires.timestamp());
        }
    }
}

/// When the certificate ends.
fn expiry(certificate: &CertificateDer<'_>) -> Option<DateTime<Utc>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
}

fn stamps(files: &TlsFiles) -> Stamps {
    // Links are followed: what counts is where they lead.
    let stamp = |path: &Path| {
        std::fs::metadata(path).ok().map(|found| Stamp {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    };
    [stamp(&files.certificate), stamp(&files.key)]
}

impl TlsError {
    fn of(path: &Path, expected: &'static str, error: &pem::Error) -> Self {
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
