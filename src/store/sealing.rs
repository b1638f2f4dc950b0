//! The root key, the keys derived from it, and the encryption ("sealing") of single values in the
//! store.
//!
//! `boot` loads the [`RootKey`]; only implementations of the store seal and open values. A sealed
//! value is one byte of format version and the output of XAES-256-GCM. The associated data contains
//! installation, table, tenant, row, column and format version, so a value that was copied to another
//! place does not open there.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::{hkdf, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger_provider::xaes::{XaesError, XaesKey};
use claviger_provider::{Id, InstallationId, Secret, TenantId};
use zeroize::Zeroizing;

/// Length of the root key in bytes.
const ROOT_KEY_LEN: usize = 32;
/// Prefix of a root key's text.
const PREFIX: &str = "clvroot1:";
/// Maximum length of a root key file in bytes: prefix, 43 characters, LF or CRLF.
const MAX_TEXT: usize = PREFIX.len() + 43 + 2;
/// File name of the systemd credential in `$CREDENTIALS_DIRECTORY` (systemd.exec(5)).
const CREDENTIAL: &str = "claviger-root-key";
/// Format version of sealed values. This release reads and writes no other.
const FORMAT: u8 = 1;

/// Why the root key could not be loaded or created.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// There is no such file.
    #[error(
        "the root key file {0} does not exist. Put the copy there that is kept elsewhere: no other key opens the store. For a new gateway, \
         claviger init creates it"
    )]
    Missing(PathBuf),
    /// Users other than the owner can read the file.
    #[error("the root key file {path} has mode {mode:04o}: others than its owner can reach it; run `chmod 600 {path}`")]
    TooWide {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error("the root key file {path} belongs to user {owner}, not to the user {user} that the gateway runs as")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// User id of the file's owner.
        owner: u32,
        /// Effective user id of this process.
        user: u32,
    },
    /// The path is a device, a pipe or a directory.
    #[error("the root key file {0} is not a regular file")]
    NotAFile(PathBuf),
    /// Not `clvroot1:` and 43 characters of base64url.
    #[error("the root key is not of the form `{PREFIX}` and 43 characters of base64url")]
    Malformed,
    /// systemd passed no credentials to this process: `$CREDENTIALS_DIRECTORY` is not set.
    #[error("systemd passes credentials to the service alone, and did not start this process as one: CREDENTIALS_DIRECTORY is not set")]
    NoService,
    /// systemd passed credentials, and not this one.
    #[error("systemd provides no credential named {CREDENTIAL}: see LoadCredentialEncrypted= in systemd.exec(5)")]
    NoCredential,
    /// The file system failed.
    #[error("the root key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: std::io::Error,
    },
}

/// The key of 32 bytes that protects all sealed values in the store. It only derives other keys
/// (HKDF-SHA-256, RFC 5869), one for each purpose.
pub struct RootKey(Secret);

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey")
    }
}

impl RootKey {
    /// Reads the root key from a file that this process's user owns and that nobody else can access
    /// (mode 0600 or stricter).
    ///
    /// # Errors
    /// Every [`RootKeyError`]. None contains any of the file's content.
    pub fn from_file(path: &Path) -> Result<Self, RootKeyError> {
        let (file, metadata) = open_regular(path)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o177 != 0 {
            return Err(RootKeyError::TooWide {
                path: path.to_owned(),
                mode,
            });
        }
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            return Err(RootKeyError::Foreign {
                path: path.to_owned(),
                owner,
                user,
            });
        }
        Self::read(path, file)
    }

    /// Reads the systemd credential `claviger-root-key` from `$CREDENTIALS_DIRECTORY`.
    ///
    /// # Errors
    /// [`RootKeyError::NoService`] where systemd did not start this process as a service with credentials,
    /// [`RootKeyError::NoCredential`], and those of [`RootKey::from_credentials`].
    pub fn from_systemd() -> Result<Self, RootKeyError> {
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or(RootKeyError::NoService)?;
        Self::from_credentials(Path::new(&directory))?.ok_or(RootKeyError::NoCredential)
    }

    /// Reads the credential from this directory; `None` if it does not exist.
    ///
    /// systemd gives an unprivileged service access through an ACL on a file that root owns. The ACL's
    /// mask appears as group permissions, so only permissions for all users are refused.
    ///
    /// # Errors
    /// Every [`RootKeyError`] except `Foreign`.
    pub fn from_credentials(directory: &Path) -> Result<Option<Self>, RootKeyError> {
        let path = directory.join(CREDENTIAL);
        let (file, metadata) = match open_regular(&path) {
            Ok(opened) => opened,
            Err(RootKeyError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mode = metadata.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(RootKeyError::TooWide { path, mode });
        }
        Self::read(&path, file).map(Some)
    }

    /// Generates a new root key.
    pub fn draw() -> Self {
        Self(Secret::random(ROOT_KEY_LEN))
    }

    /// Parses a root key's text, with at most one line break at its end. Only `claviger dev` may pass
    /// a text from an environment variable: child processes inherit the environment, and every process
    /// of the same user can read it.
    ///
    /// # Errors
    /// [`RootKeyError::Malformed`].
    pub fn from_text(text: &str) -> Result<Self, RootKeyError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let digits = text
            .strip_suffix('\r')
            .unwrap_or(text)
            .strip_prefix(PREFIX)
            .ok_or(RootKeyError::Malformed)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(digits)
            .map(Secret::new)
            .map_err(|_| RootKeyError::Malformed)?;
        if bytes.len() != ROOT_KEY_LEN {
            return Err(RootKeyError::Malformed);
        }
        Ok(Self(bytes))
    }

    /// Generates a new root key and writes it to a new file of mode 0600, atomically. The file is on
    /// stable storage when this returns.
    ///
    /// # Errors
    /// [`RootKeyError::Io`], also if the file exists already.
    pub fn generate_to_file(path: &Path) -> Result<Self, RootKeyError> {
        let failed = |source| RootKeyError::Io {
            path: path.to_owned(),
            source,
        };
        let root = Self::draw();
        let text = root.to_text();
        super::write_new_file(path, &[text.expose(), b"\n"]).map_err(failed)?;
        Ok(root)
    }

    /// The text that [`RootKey::from_text`] parses.
    pub fn to_text(&self) -> Secret {
        let mut text = String::with_capacity(MAX_TEXT);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(self.0.expose(), &mut text);
        Secret::new(text.into_bytes())
    }

    /// The HMAC key that authenticates the stored fingerprints of request bodies, for `Idempotency-Key`.
    pub fn idempotency_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.derive("claviger/idempotency/v1").expose())
    }

    /// The key under which the cursors of lists are sealed.
    pub fn cursor_key(&self) -> XaesKey {
        #[allow(clippy::expect_used, reason = "the cipher takes every key of 32 bytes")]
        XaesKey::new(&self.derive("claviger/cursor/v1")).expect("a key of 32 bytes")
    }

    fn read(path: &Path, file: File) -> Result<Self, RootKeyError> {
        // Read one byte more than allowed, to detect a longer file. Reserve the capacity first: a
        // buffer that grows would leave a copy of the key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_TEXT + 64));
        file.take(MAX_TEXT as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| RootKeyError::Io {
                path: path.to_owned(),
                source,
            })?;
        Self::from_text(std::str::from_utf8(&bytes).map_err(|_| RootKeyError::Malformed)?)
    }

    fn derive(&self, label: &str) -> Secret {
        let mut key = vec![0; ROOT_KEY_LEN];
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"claviger/root-key/v1").extract(self.0.expose());
        #[allow(
            clippy::expect_used,
            reason = "HKDF-SHA-256 gives up to 255 * 32 bytes; 32 are asked for, into a buffer of 32"
        )]
        prk.expand(&[label.as_bytes()], hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .expect("HKDF gives 32 bytes");
        Secret::new(key)
    }
}

/// Opens a regular file. Does not block on a pipe without a writer, and checks the opened file
/// instead of the path, which could change in between.
fn open_regular(path: &Path) -> Result<(File, std::fs::Metadata), RootKeyError> {
    let failed = |source| RootKeyError::Io {
        path: path.to_owned(),
        source,
    };
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(RootKeyError::Missing(path.to_owned())),
        opened => opened.map_err(failed)?,
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(RootKeyError::NotAFile(path.to_owned()));
    }
    Ok((file, metadata))
}

/// A value could not be sealed or opened: another key, another place, or damage. The error does not
/// tell which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open")]
pub(super) struct SealError;

impl From<XaesError> for SealError {
    fn from(XaesError: XaesError) -> Self {
        Self
    }
}

/// The place of a sealed value in the store. Its encryption is bound to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The row's tenant.
    pub tenant: TenantId,
    /// The row's id.
    pub row: &'a str,
    /// The column.
    pub column: &'a str,
}

/// Seals and opens values of one installation.
pub(super) struct Sealer {
    key: XaesKey,
    installation: InstallationId,
}

impl Sealer {
    /// A sealer with the sealing key that the root key derives.
    ///
    /// # Errors
    /// [`SealError`] if the cipher refuses the derived key.
    pub(super) fn new(root: &RootKey, installation: InstallationId) -> Result<Self, SealError> {
        let key = XaesKey::new(&root.derive("claviger/store/sealing/v1"))?;
        Ok(Self { key, installation })
    }

    /// Seals a value for its place.
    pub(super) fn seal(&self, place: Place<'_>, plaintext: &Secret) -> Result<Vec<u8>, SealError> {
        let mut sealed = vec![FORMAT];
        sealed.extend(self.key.seal(&self.associated_data(place)?, plaintext.expose())?);
        Ok(sealed)
    }

    /// Opens a value that was sealed for this place.
    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret, SealError> {
        match sealed {
            [FORMAT, sealed @ ..] => Ok(self.key.open(&self.associated_data(place)?, sealed)?),
            [] | [_, ..] => Err(SealError),
        }
    }

    /// The parts of the place, each after its length (u32, big-endian): no two places have the same
    /// encoding.
    fn associated_data(&self, place: Place<'_>) -> Result<Vec<u8>, SealError> {
        let parts: [&[u8]; 6] = [
            self.installation.bytes(),
            place.table.as_bytes(),
            place.tenant.bytes(),
            place.row.as_bytes(),
            place.column.as_bytes(),
            &[FORMAT],
        ];
        let mut data = Vec::new();
        for part in parts {
            data.extend(u32::try_from(part.len()).map_err(|_| SealError)?.to_be_bytes());
            data.extend(part);
        }
        Ok(data)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn sealer(root: &RootKey) -> Sealer {
        Sealer::new(root, InstallationId::from_bytes([7; 16])).unwrap()
    }

    fn root() -> RootKey {
        RootKey(Secret::copy_from(&[1; 32]))
    }

    const PLACE: Place<'static> = Place {
        table: "t",
        tenant: TenantId::INSTALLATION,
        row: "r",
        column: "c",
    };

    #[test]
    fn a_value_opens_only_in_its_place() {
        let sealer = sealer(&root());
        let secret = Secret::copy_from(b"material");
        let sealed = sealer.seal(PLACE, &secret).unwrap();
        assert_eq!(sealer.open(PLACE, &sealed).unwrap(), secret);
        let elsewhere = [
            Place { table: "tr", ..PLACE },
            Place {
                tenant: TenantId::from_bytes([1; 16]),
                ..PLACE
            },
            Place {
                row: "rc",
                column: "",
                ..PLACE
            },
            Place { row: "x", ..PLACE },
            Place { column: "x", ..PLACE },
        ];
        for place in elsewhere {
            assert_eq!(sealer.open(place, &sealed), Err(SealError), "{place:?}");
        }
        let other = Sealer::new(&root(), InstallationId::from_bytes([8; 16])).unwrap();
        assert_eq!(other.open(PLACE, &sealed), Err(SealError));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let sealer = sealer(&root());
        let sealed = sealer.seal(PLACE, &Secret::copy_from(b"m")).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sealer.open(PLACE, &flipped), Err(SealError), "bit {bit}");
        }
        for len in 0..sealed.len() {
            assert_eq!(sealer.open(PLACE, &sealed[..len]), Err(SealError), "length {len}");
        }
    }

    #[test]
    fn derived_keys_differ_by_purpose() {
        let root = root();
        assert_ne!(root.derive("a"), root.derive("b"));
        assert_ne!(root.derive("a"), root.0);
    }

    #[test]
    fn text_is_taken_strictly() {
        let good = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([1; 32]));
        assert_eq!(RootKey::from_text(&good).unwrap().0, root().0);
        assert_eq!(RootKey::from_text(&format!("{good}\n")).unwrap().0, root().0);
        let short = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([1; 31]));
        let stray = format!("{}B", &good[..good.len() - 1]);
        for bad in [
            "",
            PREFIX,
            &short,
            &stray,
            &format!("{good}="),
            &format!("{good}\n\n"),
            &format!(" {good}"),
            &good[9..],
        ] {
            assert!(matches!(RootKey::from_text(bad), Err(RootKeyError::Malformed)), "{bad:?}");
        }
    }
}
