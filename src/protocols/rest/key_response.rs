//! Keys and their versions as answers show them.

use claviger_provider::KeySpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::list::{List, Listed};
use super::response::etag;
use super::types::{CacheRules, Timestamp};
use crate::broker;
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

/// The gateway's own state of a key or version. Treat a word that you do not know as unusable.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It wraps and unwraps.
    Enabled,
    /// It unwraps only.
    DecryptOnly,
    /// Nothing but reading it is possible.
    Disabled,
    /// It is kept for later and not usable.
    Archived,
    /// Its deletion is scheduled.
    PendingDeletion,
    /// Its deletion has begun.
    Destroying,
    /// Its material is gone.
    Destroyed,
    /// A newer release wrote a state that this one does not know; not usable.
    Unrecognized,
}

impl From<model::KeyState> for KeyState {
    fn from(state: model::KeyState) -> Self {
        match state {
            model::KeyState::Enabled => Self::Enabled,
            model::KeyState::DecryptOnly => Self::DecryptOnly,
            model::KeyState::Disabled => Self::Disabled,
            model::KeyState::Archived => Self::Archived,
            model::KeyState::PendingDeletion => Self::PendingDeletion,
            model::KeyState::Destroying => Self::Destroying,
            model::KeyState::Destroyed => Self::Destroyed,
            model::KeyState::Unrecognized => Self::Unrecognized,
        }
    }
}

/// A version's state at its provider, as the provider last described it. A version is usable if
/// this is `enabled` or `unknown`, and its own state permits it.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderState {
    /// Usable.
    Enabled,
    /// Disabled; it can be enabled again.
    Disabled,
    /// Its material is not imported yet.
    PendingImport,
    /// Scheduled for deletion.
    PendingDeletion,
    /// Its material is destroyed.
    Destroyed,
    /// The provider could not make it.
    Failed,
    /// The provider did not describe it.
    Unknown,
    /// A newer release wrote a state that this one does not know; not usable.
    Unrecognized,
}

impl From<model::ProviderState> for ProviderState {
    fn from(state: model::ProviderState) -> Self {
        match state {
            model::ProviderState::Enabled => Self::Enabled,
            model::ProviderState::Disabled => Self::Disabled,
            model::ProviderState::PendingImport => Self::PendingImport,
            model::ProviderState::PendingDeletion => Self::PendingDeletion,
            model::ProviderState::Destroyed => Self::Destroyed,
            model::ProviderState::Failed => Self::Failed,
            model::ProviderState::Unknown => Self::Unknown,
            model::ProviderState::Unrecognized => Self::Unrecognized,
        }
    }
}

/// Who made the key material.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Material {
    /// The provider.
    Provider,
    /// The customer, who imported it.
    Imported,
    /// An external key manager, which holds it.
    External,
    /// A newer release wrote another one.
    Unrecognized,
}

impl From<model::Material> for Material {
    fn from(material: model::Material) -> Self {
        match material {
            model::Material::Provider => Self::Provider,
            model::Material::Imported => Self::Imported,
            model::Material::External => Self::External,
            model::Material::Unrecognized => Self::Unrecognized,
        }
    }
}

/// Who holds the key material.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Custody {
    /// The provider.
    Provider,
    /// An external key manager.
    External,
    /// A newer release wrote another one; the rules of external custody apply.
    Unrecognized,
}

impl From<model::Custody> for Custody {
    fn from(custody: model::Custody) -> Self {
        match custody {
            model::Custody::Provider => Self::Provider,
            model::Custody::External => Self::External,
            model::Custody::Unrecognized => Self::Unrecognized,
        }
    }
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
    /// The connection's name; empty if the key is detached and the connection was deleted.
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
    /// When the key was detached; absent of an attached one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detached_at: Option<Timestamp>,
    /// Of a detached key: what to say to `POST /v1/keys` to bring it back under its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reattach: Option<Reattach>,
    /// Of an enable or a disable with `at_provider`: what became of it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_provider: Option<AtProvider>,
}

/// What became of a change of the key's state at the providers of its versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct AtProvider {
    /// The result for all of them; where they differ, the last one of this list.
    pub result: AtProviderResult,
    /// What could not be done, by connection; null if everything was done.
    pub detail: Option<String>,
}

/// How far a change of the key's state came at the providers.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtProviderResult {
    /// Every provider key has the state.
    Done,
    /// A provider does not enable or disable keys, or the connection of a version was deleted.
    Unsupported,
    /// A provider refused.
    Denied,
    /// A provider could not be asked or did not answer, or a connection is severed. Repeat the request.
    Pending,
}

impl From<&broker::AtProvider> for AtProvider {
    fn from(at_provider: &broker::AtProvider) -> Self {
        Self {
            result: match at_provider.result {
                broker::AtProviderResult::Done => AtProviderResult::Done,
                broker::AtProviderResult::Unsupported => AtProviderResult::Unsupported,
                broker::AtProviderResult::Denied => AtProviderResult::Denied,
                broker::AtProviderResult::Pending => AtProviderResult::Pending,
            },
            detail: at_provider.detail.clone(),
        }
    }
}

/// What brings a detached key back under its id, so that its wrapped keys open again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reattach {
    /// The name that it had; another one will do.
    pub name: String,
    /// The connection that it was reached through; null if that was deleted. Another one to the
    /// same provider will do.
    pub connection: Option<String>,
    /// The provider's own name of the key, by which the id is found.
    pub provider_key: String,
}

/// A page of keys.
pub type KeyList = List<Key>;

impl Listed for Key {
    const LIST: &'static str = "KeyList";
    const DESCRIPTION: &'static str = "A page of keys.";
    const ITEMS: &'static str = "The keys, by name; detached ones by id.";
}

/// One version of a key, with a custodian of its own.
#[derive(Serialize, ToSchema)]
pub struct KeyVersion {
    /// Ours, from 1.
    pub number: u32,
    /// The connection's name; null when it was deleted.
    pub connection: Option<String>,
    /// The provider's family.
    pub provider: String,
    /// The provider's name of the key behind this version.
    pub provider_key: String,
    /// The provider's version id; null when it names none.
    pub provider_version: Option<String>,
    /// What it is made of.
    pub spec: Spec,
    /// Who holds the material.
    pub custody: Custody,
    /// The gateway's own state of it.
    pub state: KeyState,
    /// Its state at the provider.
    pub provider_state: ProviderState,
    /// Who made the material.
    pub material: Material,
    /// When the material expires; null if it does not.
    pub expires: Option<Timestamp>,
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

/// A key as answers show it: what belongs to its primary version beside its own.
pub fn response(key: &model::Key) -> Key {
    let primary = &key.primary;
    Key {
        id: key.id.to_string(),
        name: key.name.clone(),
        tenant: key.tenant.to_string(),
        connection: connection_name(primary).unwrap_or_default(),
        provider: primary.provider.to_string(),
        provider_key: primary.provider_key.clone(),
        spec: primary.spec.into(),
        state: key.state.into(),
        custody: primary.custody.into(),
        allow_export: key.allow_export,
        primary_version: primary.number,
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
        detached_at: None,
        reattach: None,
        at_provider: None,
    }
}

/// A key that was enabled or disabled.
pub fn switched_response(switched: &broker::Switched) -> Key {
    Key {
        at_provider: switched.at_provider.as_ref().map(Into::into),
        ..response(&switched.key)
    }
}

/// A detached key as lists show it: as it was, with what brings it back.
pub fn detached_response(detached: &model::DetachedKey) -> Key {
    Key {
        detached_at: Some(Timestamp(detached.at)),
        reattach: Some(reattach(&detached.key)),
        ..response(&detached.key)
    }
}

/// What brings a detached key back.
pub fn reattach(key: &model::Key) -> Reattach {
    Reattach {
        name: key.name.clone(),
        connection: connection_name(&key.primary),
        provider_key: key.primary.provider_key.clone(),
    }
}

/// A version as answers show it.
pub fn version_response(version: &model::KeyVersion) -> KeyVersion {
    KeyVersion {
        number: version.number,
        connection: connection_name(version),
        provider: version.provider.to_string(),
        provider_key: version.provider_key.clone(),
        provider_version: (!version.provider_version.is_empty()).then(|| version.provider_version.clone()),
        spec: version.spec.into(),
        custody: version.custody.into(),
        state: version.state.into(),
        provider_state: version.provider_state.into(),
        material: version.material.into(),
        expires: version.expires.map(Timestamp),
        created: Timestamp(version.created),
    }
}

fn connection_name(version: &model::KeyVersion) -> Option<String> {
    version.connection.as_ref().map(|connection| connection.name.clone())
}
