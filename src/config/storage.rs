//! `[storage]`: the folder that holds everything, and the key that seals what is secret in it.

use std::path::PathBuf;

use super::reader::Section;
use super::values::{FilePath, Switch};

/// The section's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// The folder of the database and the write-ahead log; one process at a time uses it.
    pub data_dir: PathBuf,
    /// Where the root key comes from.
    pub root_key: RootKey,
}

/// Where the root key comes from. There is no default: a key that lies beside the database
/// by habit protects from nobody who takes the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKey {
    /// A file that only its owner may read (mode 0600 or less).
    File(PathBuf),
    /// The systemd credential named [`RootKey::CREDENTIAL`] (`LoadCredentialEncrypted=`).
    SystemdCredential,
}

impl RootKey {
    /// The credential's name: the file that systemd puts into `$CREDENTIALS_DIRECTORY`.
    pub const CREDENTIAL: &str = "claviger-root-key";
}

impl Storage {
    /// `None` when the root key's source is missing or wrong, which is reported.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let data_dir = section.setting_or("data_dir", &FilePath, PathBuf::from("/var/lib/claviger"));
        let root_key = section.table("root_key", |source| {
            let file = source.setting("file", &FilePath);
            let credential = source.setting("systemd_credential", &Switch);
            match (file, credential) {
                (Some(path), None | Some(false)) => Some(RootKey::File(path)),
                (None, Some(true)) => Some(RootKey::SystemdCredential),
                (Some(_), Some(true)) | (None, Some(false) | None) => {
                    source.require(
                        false,
                        "`storage.root_key` does not name one source",
                        "either `file = \"...\"` or `systemd_credential = true`",
                    );
                    None
                }
            }
        })?;
        Some(Self { data_dir, root_key })
    }
}
