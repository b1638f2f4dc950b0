//! Creations of provider keys that have begun.

use claviger_provider::{ConnectionId, KeyId, KeySpec, TenantId};
use serde::{Deserialize, Serialize};

use super::{CacheSettings, Labels};

/// A credential, as a transaction looks it up again.
///
/// Today it is an API token. What else a caller's rights depend on, such as a client certificate or
/// the version of a policy, is to be named here, so that the transaction compares it, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRef {
    /// The public id of the token.
    pub public_id: String,
    /// A tenant beside the token's own that must not be suspended.
    pub acting: Option<TenantId>,
}

/// A provider key that a provider was asked to create, until a version has it, or it is known that none
/// was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// The tenant.
    pub tenant: TenantId,
    /// The id that the provider key is created under; unique in the tenant.
    pub made_as: KeyId,
    /// The logical key that it is for.
    pub key: KeyId,
    /// The connection to the provider.
    pub connection: ConnectionId,
    /// The specification of the provider key.
    pub spec: KeySpec,
    /// What the request wanted it for.
    pub wanted: Wanted,
    /// The credential that asked for it, which must still be in force when it is finished without its request.
    /// `None` for the gateway's own work.
    pub asked_by: Option<CredentialRef>,
    /// When it began, in Unix microseconds.
    pub begun: i64,
    /// When the provider is asked for the key next, in Unix microseconds.
    pub due: i64,
}

impl Creation {
    /// The most unfinished creations that a tenant has. Beyond them, the oldest are forgotten.
    pub const MOST: u32 = 1000;
    /// How long after now one may be due at the latest, in microseconds: 25 hours. One that is due later was noted by a
    /// clock that was set back since, and is due now.
    pub const LATEST: i64 = 25 * 3_600_000_000;

    /// Whether it is due at this time, in Unix microseconds.
    pub const fn is_due(&self, now: i64) -> bool {
        self.due <= now || self.due > now.saturating_add(Self::LATEST)
    }
}

/// What a provider key is created for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wanted {
    /// A new key.
    Key(WantedKey),
    /// A new primary version of an existing key, whose primary version has this number: a move.
    VersionAfter(u32),
}

/// A key as its creation asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WantedKey {
    /// Unique in the tenant.
    pub name: String,
    /// Labels.
    pub labels: Labels,
    /// Cache rules.
    pub cache: CacheSettings,
    /// Whether the operator's configuration declares it.
    pub declared: bool,
}
