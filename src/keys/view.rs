//! A key's rows as they were at one moment.

use std::sync::Arc;

use claviger_provider::{Kek, ProviderKeyRef, ProviderKind};

use crate::store::model::{Key, KeyVersion};

/// A key's row and the rows of its versions, as they were at one moment.
#[derive(Debug, Clone)]
pub struct KeyView {
    /// The key's row.
    pub key: Arc<Key>,
    /// Every version, oldest first.
    pub versions: Arc<[KeyVersion]>,
}

impl KeyView {
    /// The version that wraps; `None` only when the store is damaged.
    pub fn primary(&self) -> Option<&KeyVersion> {
        self.version(self.key.primary_version)
    }

    /// The version with this number of ours.
    pub fn version(&self, number: u32) -> Option<&KeyVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The version that wraps, as calls to the provider name it.
    pub fn kek(&self) -> Option<Kek> {
        let version = self.primary()?;
        let mut kek = self.key.kek();
        kek.key.id.clone_from(&version.provider_key);
        kek.key.version.clone_from(&version.provider_version);
        Some(kek)
    }

    /// Every provider key that one of the versions uses, the newest first. There are several
    /// where a rotation makes a new provider key.
    pub fn provider_keys(&self) -> Vec<Kek> {
        let mut keks: Vec<Kek> = Vec::new();
        for version in self.versions.iter().rev() {
            if keks.iter().all(|kek| kek.key.id != version.provider_key) {
                let mut kek = self.key.kek();
                kek.key.id.clone_from(&version.provider_key);
                keks.push(kek);
            }
        }
        keks
    }

    /// The version that a recipient of an envelope names by the provider's own ids. A version
    /// without a provider version matches on the provider key alone.
    pub fn matching(&self, provider: ProviderKind, key: &ProviderKeyRef) -> Option<&KeyVersion> {
        if provider != self.key.provider {
            return None;
        }
        // The newest match: a provider that names no versions has used its current one.
        self.versions.iter().rev().find(|version| {
            version.provider_key == key.id && (version.provider_version.is_empty() || version.provider_version == key.version)
        })
    }
}
