//! Logical keys and their versions.

use std::collections::BTreeSet;

use claviger_provider::{ConnectionId, Exposure, Kek, KeyId, KeySpec, ProviderKeyRef, ProviderKind, Secret, TenantId};
use serde::{Deserialize, Serialize};

use super::states::{Custody, KeyState, Material, ProviderState};
use super::{Connection, Labels};

/// A key's own rules for its entries in the DEK cache; `None` means the installation's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSettings {
    /// Whether unwrapped data keys are kept at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Absolute age in seconds, at most 300.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u32>,
    /// Idle time in seconds, at most the age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_idle_s: Option<u32>,
    /// How often one entry may be used, at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u32>,
}

impl CacheSettings {
    /// These rules, and where one is not set, that of `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            enabled: self.enabled.or(other.enabled),
            max_age_s: self.max_age_s.or(other.max_age_s),
            max_idle_s: self.max_idle_s.or(other.max_idle_s),
            max_uses: self.max_uses.or(other.max_uses),
        }
    }
}

/// One logical key (KEK).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Immutable; every wrapped key names it.
    pub id: KeyId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Unique in the tenant among those that are not detached.
    pub name: String,
    /// Only an enabled key is used; a disabled one can be read and enabled.
    pub state: KeyState,
    /// The time since which the material counts as compromised; `None` while it does not.
    pub compromised_since: Option<i64>,
    /// Whether enabling it needs the permission `Restore` as well: it was detached while its
    /// connection was severed.
    pub needs_restore: bool,
    /// Whether a rewrap may move data keys out of external custody.
    pub allow_export: bool,
    /// The version that wraps. What is shown of the key (connection, provider, provider key,
    /// specification, custody) is what is stored of this version.
    pub primary: KeyVersion,
    /// The start of a rotation that the provider has not finished; `None` when there is none. Negative
    /// where its response was lost, so that the provider may not have begun it.
    pub rotating: Option<i64>,
    /// Cache rules.
    pub cache: CacheSettings,
    /// The user's labels.
    pub labels: Labels,
    /// `config` if the operator's configuration declares it.
    pub managed_by: Option<String>,
    /// Grows with each enable, disable, detach and change of cache rules; part of the DEK cache's keys.
    pub epoch: u64,
    /// Grows with each enable, so that a revocation recorded before it is not applied again after it.
    pub lifts: u64,
    /// Grows with each change; the etag.
    pub revision: u64,
    /// The time of creation.
    pub created: i64,
    /// The time of the last change.
    pub updated: i64,
}

/// The changes of a PATCH; `None` leaves a value as it is.
#[derive(Debug, Clone, Default)]
pub struct KeyPatch {
    /// The revision that the caller saw.
    pub expected_revision: u64,
    /// A new name.
    pub name: Option<String>,
    /// The new labels; they replace all old ones.
    pub labels: Option<Labels>,
    /// The new cache rules; they replace all old ones.
    pub cache: Option<CacheSettings>,
    /// Whether a rewrap may move data keys out of external custody.
    pub allow_export: Option<bool>,
    /// The time of the change.
    pub at: i64,
}

/// A version's connection: its id, and its name, which never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionRef {
    /// The connection's id.
    pub id: ConnectionId,
    /// The connection's name.
    pub name: String,
}

impl From<&Connection> for ConnectionRef {
    fn from(connection: &Connection) -> Self {
        Self {
            id: connection.id,
            name: connection.name.clone(),
        }
    }
}

/// One version of a key. Each has its own connection and provider key, so a key moves to another
/// provider by a new version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyVersion {
    /// The version's number in this gateway, from 1.
    pub number: u32,
    /// The connection to its provider; `None` once that was deleted, which only a detached key
    /// survives.
    pub connection: Option<ConnectionRef>,
    /// The connection's provider family.
    pub provider: ProviderKind,
    /// The provider key id that envelopes carry.
    pub provider_key: String,
    /// The provider's version id; empty if the provider names no versions.
    pub provider_version: String,
    /// The algorithm and size.
    pub spec: KeySpec,
    /// Who holds the material.
    pub custody: Custody,
    /// The gateway's own state of the version.
    pub state: KeyState,
    /// The version's state at its provider. Both states must permit a use.
    pub provider_state: ProviderState,
    /// Where the material was generated.
    pub material: Material,
    /// The time at which the material expires; `None` if it does not.
    pub expires: Option<i64>,
    /// The time since which the material counts as compromised; `None` while it does not.
    pub compromised_since: Option<i64>,
    /// How the material can leave the provider, as the provider last described it.
    pub exposure: Exposure,
    /// The time of creation: the provider's, which is a whole second, or the gateway's, which hardly ever is.
    pub created: i64,
}

/// What a provider says of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenVersion {
    /// The version's number in this gateway.
    pub number: u32,
    /// Its state there.
    pub state: ProviderState,
    /// How its material can leave; `None` if the provider does not say.
    pub exposure: Option<Exposure>,
    /// When it was created there, in Unix seconds; `None` to keep what is stored.
    pub created: Option<i64>,
}

impl SeenVersion {
    /// A version in this state, of which nothing else is said.
    pub const fn in_state(number: u32, state: ProviderState) -> Self {
        Self {
            number,
            state,
            exposure: None,
            created: None,
        }
    }

    /// Puts what is said into the version's row. Returns whether that changed it.
    pub fn apply(&self, version: &mut KeyVersion) -> bool {
        let exposure = self.exposure.unwrap_or(version.exposure);
        let created = self.created.map_or(version.created, |seconds| seconds.saturating_mul(1_000_000));
        let before = (version.provider_state, version.exposure, version.created);
        (version.provider_state, version.exposure, version.created) = (self.state, exposure, created);
        before != (self.state, exposure, created)
    }
}

impl KeyVersion {
    /// Whether both of its states permit to unwrap.
    pub const fn unwraps(&self) -> bool {
        self.state.unwraps() && self.provider_state.unwraps()
    }

    /// Whether its provider may unwrap something with it. Under a key that was replaced, that is what the other key
    /// wrapped before the gateway noticed it.
    pub const fn may_unwrap(&self) -> bool {
        self.state.unwraps() && (self.provider_state.unwraps() || matches!(self.provider_state, ProviderState::Replaced))
    }

    /// Whether another key has the version's names at the provider. Where names are reused, a key never changes its type:
    /// one that does not fit is another one.
    pub const fn is_replaced(&self) -> bool {
        matches!(self.provider_state, ProviderState::Replaced)
            || (matches!(self.provider_state, ProviderState::Unfit) && self.provider.reuses_names())
    }

    /// When the version was created, in Unix seconds, if its provider said so when it was stored.
    pub const fn created_at_provider(&self) -> Option<i64> {
        match self.created % 1_000_000 {
            0 => Some(self.created / 1_000_000),
            _ => None,
        }
    }

    /// Whether the version has this provider, provider key and provider version.
    pub fn is(&self, provider: ProviderKind, provider_key: &str, provider_version: &str) -> bool {
        self.provider == provider && self.provider_key == provider_key && self.provider_version == provider_version
    }

    /// The connection's id, if there is one.
    pub fn connection_id(&self) -> Option<ConnectionId> {
        self.connection.as_ref().map(|connection| connection.id)
    }

    /// This version of the key `key`, as calls to its provider name it.
    pub fn kek(&self, key: KeyId) -> Kek {
        Kek {
            key: ProviderKeyRef {
                id: self.provider_key.clone(),
                version: self.provider_version.clone(),
            },
            spec: self.spec,
            id: key,
        }
    }

    /// The provider's key as a whole, without a version, as calls to its provider name it.
    pub fn whole_kek(&self, key: KeyId) -> Kek {
        let mut kek = self.kek(key);
        kek.key.version.clear();
        kek
    }
}

/// A version that is reached through a connection, with its canary.
pub struct VersionCanary {
    /// The key's id.
    pub key: KeyId,
    /// The key's name.
    pub name: String,
    /// Whether it is the key's primary version.
    pub is_primary: bool,
    /// The version.
    pub version: KeyVersion,
    /// The canary; `None` if none was made.
    pub canary: Option<Secret>,
}

/// The answer to a reservation of wraps of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapsReserved {
    /// How many were reserved; 0 at the limit.
    pub granted: u64,
    /// How many of the version were ever reserved, with these. It only grows.
    pub total: u64,
}

/// A claim on a provider key: within its span, no other attached key is based on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The provider family.
    pub provider: ProviderKind,
    /// The provider key id.
    pub provider_key: String,
    /// The span: a tenant, or [`TenantId::INSTALLATION`].
    pub span: TenantId,
    /// For the installation, the service within which provider key ids are unique. Within a tenant empty or, where
    /// another key has the id at another server, the id of the key that claims.
    pub service: String,
}

/// The most keys of a tenant, detached ones among them, that are based on provider keys of one id, and one more.
pub const MAX_HOLDERS: u32 = 17;

/// A detached key. Its versions keep the provider keys that it was based on, for an adoption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachedKey {
    /// The key's row. The primary version's connection is `None` if it was deleted since.
    pub key: Key,
    /// When it was detached.
    pub at: i64,
}

/// The row that already has a new key's id, as far as an adoption needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Whether the key of this row was detached.
    pub detached: bool,
    /// Its state.
    pub state: KeyState,
    /// The time since which its material counts as compromised.
    pub compromised_since: Option<i64>,
    /// Whether enabling it needs the permission `Restore` as well.
    pub needs_restore: bool,
    /// Its cache rules.
    pub cache: CacheSettings,
    /// Whether a connection of one of its versions is severed now.
    pub severed: bool,
    /// Its epoch.
    pub epoch: u64,
    /// How often it was enabled.
    pub lifts: u64,
    /// Its revision.
    pub revision: u64,
}

/// How a key is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySelector<'a> {
    /// By its id.
    Id(KeyId),
    /// By its name in the tenant.
    Name(&'a str),
    /// By its name, of these keys alone. Only they are read, so what it costs does not depend on other keys.
    NameAmong(&'a str, &'a BTreeSet<KeyId>),
}

/// A key and all of its versions, read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySnapshot {
    /// The key's row.
    pub key: Key,
    /// Every version, oldest first.
    pub versions: Vec<KeyVersion>,
}

/// Which keys a list contains; a key must match every filter that is set.
#[derive(Debug, Clone, Default)]
pub struct KeyFilter {
    /// Only keys whose primary version is reached through this connection.
    pub connection: Option<ConnectionId>,
    /// Only keys in this state.
    pub state: Option<KeyState>,
    /// Only keys with this label and value.
    pub label: Option<(String, String)>,
    /// Only these keys; `None` for all. They are looked up by id, however many keys the tenant has.
    pub only: Option<BTreeSet<KeyId>>,
}

impl KeyFilter {
    /// Whether no index is in the order of the list for these filters together, so that a page may
    /// pass over rows.
    pub const fn passes_over_rows(&self) -> bool {
        self.only.is_none() && self.label.is_some() && (self.connection.is_some() || self.state.is_some())
    }
}

/// Which detached keys a list contains; a key must match every filter that is set.
#[derive(Debug, Clone, Default)]
pub struct DetachedFilter {
    /// Only keys whose primary version was reached through this connection.
    pub connection: Option<ConnectionId>,
    /// Only these keys; `None` for all.
    pub only: Option<BTreeSet<KeyId>>,
}
