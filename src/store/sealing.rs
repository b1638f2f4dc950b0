//! The root key, what is derived from it, and the sealing of single values.
//!
//! [`RootKey`] is loaded by `boot`; the sealing itself is for the implementations of the
//! store alone. A sealed value is one byte of format version, then XAES-256-GCM's output.
//! Its associated data names the installation, the table, the tenant, the row, the column
//! and the format version, so that a value moved elsewhere does not open there.

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

/// Bytes of the root key.
const ROOT_KEY_LEN: usize = 32;
/// What a root key's text begins with.
const PREFIX: &str = "clvroot1:";
/// The longest text read: the prefix, 43 characters, a line end of either kind.
const MAX_TEXT: usize = PREFIX.len() + 43 + 2;
/// The credential's file name under `$CREDENTIALS_DIRECTORY` (systemd.exec(5)).
const CREDENTIAL: &str = "claviger-root-key";
/// The only format of sealed values that this release writes or reads.
const FORMAT: u8 = 1;

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    /// Others than the owner could read it.
    #[error("the root key file {path} has mode {mode:04o}: others than its owner can reach it; run `chmod 600 {path}`")]
    TooWide {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user.
    #[error("the root key file {path} belongs to user {owner}, not to the user {user} that the gateway runs as")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// A device, a pipe or a folder.
    #[error("the root key file {0} is no regular file")]
    NotAFile(PathBuf),
    /// Not `clvroot1:` and 43 characters of base64url.
    #[error("the root key is not of the form `{PREFIX}` and 43 characters of base64url")]
    Malformed,
    /// The file system failed.
    #[error("the root key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The 32 bytes that everything sealed in the store hangs on. They are used only to
/// derive keys (HKDF-SHA-256, RFC 5869), one for each purpose.
pub struct RootKey(Secret);

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootKey")
    }
}

impl RootKey {
    /// Reads a file that belongs to us and that nobody else can reach (0600 or stricter).
    ///
    /// # Errors
    /// Every [`RootKeyError`]; nothing of the file's content stands in one.
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

    /// Reads the systemd credential `claviger-root-key` from `$CREDENTIALS_DIRECTORY`;
    /// `None` when the service manager handed none over.
    ///
    /// # Errors
    /// As [`RootKey::from_credentials`].
    pub fn from_systemd() -> Result<Option<Self>, RootKeyError> {
        match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(directory) => Self::from_credentials(Path::new(&directory)),
            None => Ok(None),
        }
    }

    /// Reads the credential from this folder; `None` when it is not there.
    ///
    /// systemd grants an unprivileged service access by an ACL on a file of root's, whose
    /// mask shows as group bits: so only access by everyone is refused here.
    ///
    /// # Errors
    /// Every [`RootKeyError`] but `Foreign`.
    pub fn from_credentials(directory: &Path) -> Result<Option<Self>, RootKeyError> {
        let path = directory.join(CREDENTIAL);
        let (file, metadata) = match open_regular(&path) {
            Ok(opened) => opened,
            Err(RootKeyError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mode = metadata.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(RootKeyError::TooWide { path, mode });
        }
        Self::read(&path, file).map(Some)
    }

    /// Draws a new root key.
    pub fn draw() -> Self {
        Self(Secret::random(ROOT_KEY_LEN))
    }

    /// Takes a root key's text, one line end behind it or none. Where it comes from is the
    /// caller's business: an environment is readable to every process of the same user and
    /// is inherited, so only `claviger dev` takes it from there.
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

    /// Draws a new root key and writes it to a new file of mode 0600. The file appears
    /// whole or not at all, and is on stable storage when this returns.
    ///
    /// # Errors
    /// [`RootKeyError::Io`], also when the file exists.
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

    /// The root key's text, as [`RootKey::from_text`] takes it.
    pub fn to_text(&self) -> Secret {
        let mut text = String::with_capacity(MAX_TEXT);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(self.0.expose(), &mut text);
        Secret::new(text.into_bytes())
    }

    /// The key under which request bodies are compared for `Idempotency-Key`.
    pub fn idempotency_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.derive("claviger/idempotency/v1").expose())
    }

    fn read(path: &Path, file: File) -> Result<Self, RootKeyError> {
        // One byte more than the longest text, so that a longer file is seen as such; the
        // capacity is fixed beforehand, so that no copy stays behind in a smaller buffer.
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

/// Opens without waiting for a pipe's writer and looks at what was opened, not at the name.
fn open_regular(path: &Path) -> Result<(File, std::fs::Metadata), RootKeyError> {
    let failed = |source| RootKeyError::Io {
        path: path.to_owned(),
        source,
    };
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(RootKeyError::NotAFile(path.to_owned()));
    }
    Ok((file, metadata))
}

/// A value was not sealed, or does not open: another key, another place, or damage. It
/// does not say which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open")]
pub(super) struct SealError;

impl From<XaesError> for SealError {
    fn from(XaesError: XaesError) -> Self {
        Self
    }
}

/// The place of a sealed value, which its encryption is bound to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The row's tenant.
    pub tenant: TenantId,
    /// The row.
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
    /// Derives the sealing key from the root key.
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

    /// Opens what was sealed for this place.
    pub(super) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret, SealError> {
        match sealed {
            [FORMAT, sealed @ ..] => Ok(self.key.open(&self.associated_data(place)?, sealed)?),
            [] | [_, ..] => Err(SealError),
        }
    }

    /// Each part with its length before it (u32, big-endian), so that no two places read alike.
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
