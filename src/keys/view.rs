//! A key's rows as they were at one moment.

use std::sync::Arc;

use claviger_provider::{ConnectionId, ProviderKeyRef, ProviderKind};

use crate::store::model::{Key, KeyVersion, ProviderState};

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

    /// The newest version on each provider key that the versions use, the newest first. There are
    /// several where a rotation makes a new provider key, and after a move.
    pub fn provider_keys(&self) -> Vec<&KeyVersion> {
        let mut newest: Vec<&KeyVersion> = Vec::new();
        for version in self.versions.iter().rev() {
            let is_same = |other: &&KeyVersion| other.connection == version.connection && other.provider_key == version.provider_key;
            if !newest.iter().any(is_same) {
                newest.push(version);
            }
        }
        newest
    }

    /// The version that a recipient of an envelope names by the provider's own ids. A version
    /// without a provider version matches on the provider key alone.
    pub fn matching(&self, provider: ProviderKind, key: &ProviderKeyRef) -> Option<&KeyVersion> {
        // Take the newest match, because a provider that names no versions has used its current
        // one. One that was replaced has given its ids up.
        let is_named = |version: &&KeyVersion| {
            version.provider == provider
                && version.provider_key == key.id
                && (version.provider_version.is_empty() || version.provider_version == key.version)
        };
        let mut matching = self.versions.iter().rev().filter(is_named);
        let newest = matching.next()?;
        let in_place = |version: &&KeyVersion| version.provider_state != ProviderState::Replaced;
        Some(std::iter::once(newest).chain(matching).find(in_place).unwrap_or(newest))
    }

    /// As [`KeyView::matching`], of the versions that are reached through this connection: what
    /// its provider names in an answer. None that was replaced is.
    pub fn matching_through(&self, connection: ConnectionId, provider: ProviderKind, key: &ProviderKeyRef) -> Option<&KeyVersion> {
        self.matching(provider, key)
            .filter(|version| version.connection_id() == Some(connection) && version.provider_state != ProviderState::Replaced)
    }
}
