//! Keys and their versions as answers show them.

use claviger_provider::KeySpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{List, Listed};
use super::response::etag;
use super::types::{CacheRules, Timestamp};
use crate::broker::NamedKey;
use crate::store::model;

/// What a key is made of.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
pub enum Spec {
    /// AES, 256 bits.
    #[default]
    #[serde(rename = "aes-256")]
    Aes256,
    /// RSA, 3072 bits.
    #[serde(rename = "rsa-3072")]
    Rsa3072,
    /// RSA, 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

impl From<Spec> for KeySpec {
    fn from(spec: Spec) -> Self {
        match spec {
            Spec::Aes256 => Self::Aes256,
            Spec::Rsa3072 => Self::Rsa3072,
            Spec::Rsa4096 => Self::Rsa4096,
        }
    }
}

impl From<KeySpec> for Spec {
    fn from(spec: KeySpec) -> Self {
        match spec {
            KeySpec::Aes256 => Self::Aes256,
            KeySpec::Rsa3072 => Self::Rsa3072,
            KeySpec::Rsa4096 => Self::Rsa4096,
        }
    }
}

/// Whether a key is usable.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Usable.
    Enabled,
    /// Nothing but reading it is possible.
    Disabled,
}

/// Who holds the key material.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Custody {
    /// The provider.
    Provider,
    /// An external key manager.
    External,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotationState {
    /// No rotation is under way.
    Idle,
    /// The provider has taken the request and has not finished; the primary version is still
    /// the old one.
    InProgress,
}

/// The key's rotation.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct RotationStatus {
    /// How far it is.
    pub state: RotationState,
}

/// A logical key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// The name.
    pub name: String,
    /// The tenant's id.
    pub tenant: String,
    /// The connection's name.
    pub connection: String,
    /// The provider's family.
    pub provider: String,
    /// The provider's name of the key.
    pub provider_key: String,
    /// What it is made of.
    pub spec: Spec,
    /// Whether it is usable.
    pub state: KeyState,
    /// Who holds the material.
    pub custody: Custody,
    /// Whether a rewrap may lead out of external custody.
    pub allow_export: bool,
    /// The version that wraps.
    pub primary_version: u32,
    /// The rotation.
    pub rotation: RotationStatus,
    /// Cache rules.
    pub cache: CacheRules,
    /// The user's labels.
    pub labels: model::Labels,
    /// `config` when it comes from the operator's file.
    pub managed_by: Option<String>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// For `If-Match`.
    pub etag: String,
}

/// A page of keys.
pub type KeyList = List<Key>;

impl Listed for Key {
    const LIST: &'static str = "KeyList";
    const DESCRIPTION: &'static str = "A page of keys.";
    const ITEMS: &'static str = "The keys, by name.";
}

/// One version of a key.
#[derive(Serialize, ToSchema)]
pub struct KeyVersion {
    /// Ours, from 1.
    pub number: u32,
    /// The provider's name of the key behind this version.
    pub provider_key: String,
    /// The provider's version id; null when it tells none.
    pub provider_version: Option<String>,
    /// Whether it still unwraps.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
}

/// A page of a key's versions.
pub type VersionList = List<KeyVersion>;

impl Listed for KeyVersion {
    const LIST: &'static str = "VersionList";
    const DESCRIPTION: &'static str = "A page of a key's versions.";
    const ITEMS: &'static str = "Oldest first.";
}

/// A key as answers show it.
pub fn response(named: &NamedKey) -> Key {
    let NamedKey { key, connection } = named;
    Key {
        id: key.id.to_string(),
        name: key.name.clone(),
        tenant: key.tenant.to_string(),
        connection: connection.clone(),
        provider: key.provider.to_string(),
        provider_key: key.provider_key.clone(),
        spec: key.spec.into(),
        state: if key.disabled { KeyState::Disabled } else { KeyState::Enabled },
        custody: if key.provider.external_custody() {
            Custody::External
        } else {
            Custody::Provider
        },
        allow_export: key.allow_export,
        primary_version: key.primary_version,
        rotation: RotationStatus {
            state: match key.rotating {
                None => RotationState::Idle,
                Some(_) => RotationState::InProgress,
            },
        },
        cache: key.cache.into(),
        labels: key.labels.clone(),
        managed_by: key.managed_by.clone(),
        created: Timestamp(key.created),
        updated: Timestamp(key.updated),
        etag: etag(key.revision),
    }
}

/// A version as answers show it.
pub fn version_response(version: &model::KeyVersion) -> KeyVersion {
    KeyVersion {
        number: version.number,
        provider_key: version.provider_key.clone(),
        provider_version: (!version.provider_version.is_empty()).then(|| version.provider_version.clone()),
        state: if version.enabled { KeyState::Enabled } else { KeyState::Disabled },
        created: Timestamp(version.created),
    }
}
