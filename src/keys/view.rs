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
    /// The version that wraps.
    pub fn primary(&self) -> &KeyVersion {
        &self.key.primary
    }

    /// The version that wraps, as calls to the provider name it.
    pub fn kek(&self) -> Kek {
        self.key.primary.kek(self.key.id)
    }

    /// Every provider key that one of the versions uses, the newest first. There are several
    /// where a rotation makes a new provider key.
    pub fn provider_keys(&self) -> Vec<Kek> {
        let mut keks: Vec<Kek> = Vec::new();
        for version in self.versions.iter().rev() {
            if keks.iter().all(|kek| kek.key.id != version.provider_key) {
                keks.push(version.whole_kek(self.key.id));
            }
        }
        keks
    }

    /// The version that a recipient of an envelope names by the provider's own ids. A version
    /// without a provider version matches on the provider key alone.
    pub fn matching(&self, provider: ProviderKind, key: &ProviderKeyRef) -> Option<&KeyVersion> {
        // The newest match: a provider that names no versions has used its current one.
        self.versions.iter().rev().find(|version| {
            version.provider == provider
                && version.provider_key == key.id
                && (version.provider_version.is_empty() || version.provider_version == key.version)
        })
    }
}
