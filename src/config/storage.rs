//! `[storage]`: the folder that holds everything, and the key that seals what is secret in it.

use std::path::PathBuf;

use claviger_provider::{KeySpec, ProviderKind};

use super::declared::{PROVIDERS, SPECS, Settings, settings};
use super::reader::Section;
use super::values::{FilePath, ShortText, Switch, Word};

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
    /// A file that only a provider's key opens, asked for at each start.
    Wrapped(WrappedRootKey),
}

/// A root key that lies wrapped beside the gateway, and the connection that unwraps it. The
/// connection is no tenant's and serves nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedRootKey {
    /// The wrapped key: text as callers of the API get it, and no secret.
    pub file: PathBuf,
    /// Which family unwraps it; not the embedded one, whose keys the root key seals.
    pub provider: ProviderKind,
    /// The provider's name of the key, as `provider_key` of an adopted one.
    pub key: String,
    /// What that key is made of.
    pub spec: KeySpec,
    /// The family's own settings.
    pub settings: Settings,
}

impl RootKey {
    /// The credential's name: the file that systemd puts into `$CREDENTIALS_DIRECTORY`.
    pub const CREDENTIAL: &str = "claviger-root-key";

    fn read(source: &mut Section<'_>) -> Option<Self> {
        let file = source.setting("file", &FilePath);
        let credential = source.setting("systemd_credential", &Switch).unwrap_or(false);
        let wrapped = source.setting("wrapped", &FilePath);
        match (file, credential, wrapped) {
            (Some(path), false, None) => Some(Self::File(path)),
            (None, true, None) => Some(Self::SystemdCredential),
            (None, false, Some(path)) => WrappedRootKey::read(source, path).map(Self::Wrapped),
            (Some(_) | None, true | false, Some(_) | None) => {
                source.require(
                    false,
                    "`storage.root_key` does not name one source",
                    "one of `file = \"...\"`, `systemd_credential = true` and `wrapped = \"...\"`",
                );
                None
            }
        }
    }
}

impl WrappedRootKey {
    fn read(source: &mut Section<'_>, file: PathBuf) -> Option<Self> {
        let provider = source.needed("provider", &Word(PROVIDERS));
        let key = source.needed("key", &ShortText { max: 512 });
        let spec = source.setting_or("spec", &Word(SPECS), KeySpec::Aes256);
        let settings = settings(source);
        source.require(
            provider != Some(ProviderKind::Local),
            "`storage.root_key.provider` is the embedded one, whose keys the root key seals",
            "a provider of its own",
        );
        Some(Self {
            file,
            provider: provider.filter(|kind| *kind != ProviderKind::Local)?,
            key: key?,
            spec,
            settings: settings?,
        })
    }
}

impl Storage {
    /// `None` when the root key's source is missing or wrong, which is reported.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let data_dir = section.setting_or("data_dir", &FilePath, PathBuf::from("/var/lib/claviger"));
        let root_key = section.table("root_key", RootKey::read)?;
        Some(Self { data_dir, root_key })
    }
}
