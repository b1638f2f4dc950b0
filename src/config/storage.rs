//! `[storage]`: the data folder, and the root key that seals the secrets in it.

use std::path::PathBuf;

use claviger_provider::{KeySpec, ProviderKind};

use super::declared::{PROVIDERS, SPECS, Settings, settings};
use super::reader::Section;
use super::values::{FilePath, ShortText, Switch, Word};

/// Settings of `[storage]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Storage {
    /// Folder of the database and the audit log. Only one process at a time uses it.
    pub data_dir: PathBuf,
    /// Source of the root key.
    pub root_key: RootKey,
}

/// Source of the root key. There is no default, because a root key stored beside the database does
/// not protect against someone who copies the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootKey {
    /// A file that only its owner may read (mode 0600 or less).
    File(PathBuf),
    /// The systemd credential named [`RootKey::CREDENTIAL`] (`LoadCredentialEncrypted=`).
    SystemdCredential,
    /// A file that a provider unwraps at each startup.
    Wrapped(WrappedRootKey),
}

/// A wrapped root key, and the connection that unwraps it. The connection belongs to no tenant and is
/// used for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedRootKey {
    /// File with the wrapped root key, in the same format as wrapped keys of the API. Not secret.
    pub file: PathBuf,
    /// Provider that unwraps it. Not the embedded one, because the root key seals its keys.
    pub provider: ProviderKind,
    /// The provider's name of the key, like `provider_key` of an adopted key.
    pub key: String,
    /// Algorithm and length of that key.
    pub spec: KeySpec,
    /// Settings of the provider.
    pub settings: Settings,
}

impl RootKey {
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
                    "`storage.root_key` does not name exactly one source",
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
            "`storage.root_key.provider` is the embedded provider, whose keys the root key seals",
            "another provider",
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
    /// `None` if the source of the root key is missing or wrong, which is reported.
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let data_dir = section.setting_or("data_dir", &FilePath, PathBuf::from("/var/lib/claviger"));
        let root_key = section.table("root_key", RootKey::read)?;
        Some(Self { data_dir, root_key })
    }
}
