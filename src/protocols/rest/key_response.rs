//! Keys and their versions in responses.

use claviger_provider::KeySpec;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::key_warnings::{KeyWarning, warnings};
use super::list::{List, Listed};
use super::provider_name::ProviderName;
use super::response::etag;
use super::types::{CacheRules, LabelMap, Timestamp};
use crate::broker;
use crate::store::model;

/// Algorithm and length of a key.
///
/// - `aes-256`: AES, 256 bits
/// - `rsa-3072`: RSA, 3072 bits
/// - `rsa-4096`: RSA, 4096 bits
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

/// The gateway's own state of a key or of a version. Treat a word that you do not know as unusable.
///
/// - `enabled`: wraps and unwraps
/// - `decrypt_only`: unwraps only
/// - `disabled`: can be read only; it can be enabled again
/// - `archived`: is kept for later and not usable
/// - `pending_deletion`: its deletion is scheduled; not usable
/// - `destroying`: its deletion has begun; not usable
/// - `destroyed`: its material is gone
/// - `unrecognized`: a newer release wrote a state that this release does not know; not usable
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum KeyState {
    Enabled,
    DecryptOnly,
    Disabled,
    Archived,
    PendingDeletion,
    Destroying,
    Destroyed,
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
///
/// - `enabled`: usable
/// - `decrypt_only`: it unwraps, and wraps nothing more
/// - `disabled`: disabled; it can be enabled again
/// - `pending_import`: its material is not imported yet
/// - `pending_deletion`: its deletion is scheduled
/// - `destroyed`: its material is destroyed
/// - `failed`: the provider could not create it
/// - `unfit`: its key is of another type there, or has not the usages that the gateway needs; it wraps nothing
/// - `unknown`: the provider did not describe it
/// - `unrecognized`: a newer release wrote a state that this release does not know; not usable
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum ProviderState {
    Enabled,
    DecryptOnly,
    Disabled,
    PendingImport,
    PendingDeletion,
    Destroyed,
    Failed,
    Unfit,
    Unknown,
    Unrecognized,
}

impl From<model::ProviderState> for ProviderState {
    fn from(state: model::ProviderState) -> Self {
        match state {
            model::ProviderState::Enabled => Self::Enabled,
            model::ProviderState::DecryptOnly => Self::DecryptOnly,
            model::ProviderState::Disabled => Self::Disabled,
            model::ProviderState::PendingImport => Self::PendingImport,
            model::ProviderState::PendingDeletion => Self::PendingDeletion,
            model::ProviderState::Destroyed => Self::Destroyed,
            model::ProviderState::Failed => Self::Failed,
            model::ProviderState::Unfit => Self::Unfit,
            // Of such a version the provider describes nothing; its warnings say why.
            model::ProviderState::Replaced | model::ProviderState::Unproven | model::ProviderState::Unknown => Self::Unknown,
            model::ProviderState::Unrecognized => Self::Unrecognized,
        }
    }
}

/// Where the key material was generated.
///
/// - `provider`: by the provider
/// - `imported`: by the customer, who imported it into the provider
/// - `external`: by an external key manager, where it stays
/// - `unrecognized`: a newer release wrote a word that this release does not know
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum Material {
    Provider,
    Imported,
    External,
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
///
/// - `provider`: the provider
/// - `external`: an external key manager, outside the provider; without `allow_export` no data key leaves it
/// - `unrecognized`: a newer release wrote a word that this release does not know; the rules of `external` apply
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum Custody {
    Provider,
    External,
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

/// How far the key's rotation is.
///
/// - `idle`: no rotation is under way
/// - `in_progress`: the provider has accepted the request and not finished; the primary version is still the old one
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum RotationState {
    Idle,
    InProgress,
}

/// The key's rotation.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct RotationStatus {
    /// How far the rotation is.
    pub state: RotationState,
}

/// A logical key.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// Immutable: 32 lower-case hex digits.
    pub id: String,
    /// Unique in the tenant.
    pub name: String,
    /// The tenant's id.
    pub tenant: String,
    /// The name of the primary version's connection; empty if the key is detached and the connection was deleted.
    pub connection: String,
    /// The kind of provider of the primary version.
    #[schema(value_type = ProviderName)]
    pub provider: String,
    /// The primary version's key at the provider, as the provider names it.
    pub provider_key: String,
    /// Algorithm and length of the primary version.
    pub spec: Spec,
    /// Whether the key is usable. An operation also needs a version whose own state permits it.
    pub state: KeyState,
    /// Who holds the primary version's key material.
    pub custody: Custody,
    /// Whether a rewrap may take data keys from external custody to another key, and whether a rotation may leave
    /// external custody.
    pub allow_export: bool,
    /// The number of the version that wraps new data keys.
    pub primary_version: u32,
    /// The key's rotation.
    pub rotation: RotationStatus,
    /// The key's own cache rules.
    pub cache: CacheRules,
    /// Labels.
    #[schema(value_type = LabelMap)]
    pub labels: model::Labels,
    /// `config` if the operator's configuration declares the key; null otherwise.
    #[schema(required)]
    pub managed_by: Option<String>,
    /// When the key was created or adopted.
    pub created: Timestamp,
    /// When the key was last changed.
    pub updated: Timestamp,
    /// The key's etag, for `If-Match`.
    pub etag: String,
    /// When the key was detached. Only detached keys have this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detached_at: Option<Timestamp>,
    /// The body of the `POST /v1/keys` that brings the key back under its id. Only detached keys have this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reattach: Option<Reattach>,
    /// Of an enable or a disable with `at_provider`: what became of it there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_provider: Option<AtProvider>,
    /// What weakens the primary version's provider key, as its provider last described it. Absent if nothing does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<KeyWarning>,
}

/// What became of a change of the key's state at the providers of its versions.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AtProvider {
    /// The result for all of them; where they differ, the last one of this list.
    pub result: AtProviderResult,
    /// What could not be done, by connection; null if everything was done.
    #[schema(required)]
    pub detail: Option<String>,
}

/// How far a change of the key's state came at the providers of its versions.
///
/// - `done`: every provider key has the state
/// - `unsupported`: a provider does not enable or disable keys, or the connection of a version was deleted
/// - `denied`: a provider refused
/// - `pending`: a provider could not be asked or did not answer, or a connection is severed; repeat the request
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the words are described above, where the API's document shows it")]
pub enum AtProviderResult {
    Done,
    Unsupported,
    Denied,
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

impl From<AtProvider> for broker::AtProvider {
    fn from(at_provider: AtProvider) -> Self {
        Self {
            result: match at_provider.result {
                AtProviderResult::Done => broker::AtProviderResult::Done,
                AtProviderResult::Unsupported => broker::AtProviderResult::Unsupported,
                AtProviderResult::Denied => broker::AtProviderResult::Denied,
                AtProviderResult::Pending => broker::AtProviderResult::Pending,
            },
            detail: at_provider.detail,
        }
    }
}

/// What a stored response to an enable, as JSON text, says of the providers; `None` also for one that cannot be read.
pub fn told_first(response: &str) -> Option<broker::AtProvider> {
    #[derive(Deserialize)]
    struct First {
        at_provider: Option<AtProvider>,
    }
    serde_json::from_str::<First>(response).ok()?.at_provider.map(Into::into)
}

/// The body of the `POST /v1/keys` that brings a detached key back under its id. Its wrapped keys then open again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Reattach {
    /// The name that the key had. Another name works, too.
    pub name: String,
    /// The connection that the key was used through; null if that was deleted. Another connection to
    /// the same provider works, too.
    #[schema(required)]
    pub connection: Option<String>,
    /// The key at the provider, as the provider names it. The gateway finds the id by it.
    pub provider_key: String,
    /// Algorithm and length: an adoption that names another specification is refused.
    pub spec: Spec,
}

/// A page of keys.
pub type KeyList = List<Key>;

impl Listed for Key {
    const LIST: &'static str = "KeyList";
    const DESCRIPTION: &'static str = "A page of keys.";
    const ITEMS: &'static str = "The keys, ordered by name; detached ones by id.";
}

/// One version of a key. Each version has its own connection and provider key.
#[derive(Serialize, ToSchema)]
pub struct KeyVersion {
    /// The version's number in this gateway, from 1.
    pub number: u32,
    /// The connection's name; null if the connection was deleted.
    #[schema(required)]
    pub connection: Option<String>,
    /// The kind of provider.
    #[schema(value_type = ProviderName)]
    pub provider: String,
    /// The key at the provider, as the provider names it.
    pub provider_key: String,
    /// The version at the provider, as the provider names it; null if the provider names no versions.
    #[schema(required)]
    pub provider_version: Option<String>,
    /// Algorithm and length.
    pub spec: Spec,
    /// Who holds the key material.
    pub custody: Custody,
    /// The gateway's own state of the version.
    pub state: KeyState,
    /// The version's state at the provider.
    pub provider_state: ProviderState,
    /// Where the key material was generated.
    pub material: Material,
    /// When the key material expires; null if it does not.
    #[schema(required)]
    pub expires: Option<Timestamp>,
    /// When the version was created, as the provider reports it, or else when the gateway learned of it.
    pub created: Timestamp,
    /// What weakens the version at its provider, as that last described it. Absent if nothing does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<KeyWarning>,
}

/// A page of a key's versions.
pub type VersionList = List<KeyVersion>;

impl Listed for KeyVersion {
    const LIST: &'static str = "VersionList";
    const DESCRIPTION: &'static str = "A page of a key's versions.";
    const ITEMS: &'static str = "The versions, oldest first.";
}

/// Converts a stored key. Provider, provider key, spec and custody are those of its primary version.
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
        warnings: warnings(primary),
    }
}

/// A key that was enabled or disabled.
pub fn switched_response(switched: &broker::Switched) -> Key {
    Key {
        at_provider: switched.at_provider.as_ref().map(Into::into),
        ..response(&switched.key)
    }
}

/// Converts a detached key: its members as they were, and what brings it back.
pub fn detached_response(detached: &model::DetachedKey) -> Key {
    Key {
        detached_at: Some(Timestamp(detached.at)),
        reattach: Some(reattach(&detached.key)),
        ..response(&detached.key)
    }
}

/// The request that brings a detached key back.
pub fn reattach(key: &model::Key) -> Reattach {
    Reattach {
        name: key.name.clone(),
        connection: connection_name(&key.primary),
        provider_key: key.primary.provider_key.clone(),
        spec: key.primary.spec.into(),
    }
}

/// Converts a stored version.
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
        warnings: warnings(version),
    }
}

fn connection_name(version: &model::KeyVersion) -> Option<String> {
    version.connection.as_ref().map(|connection| connection.name.clone())
}
