//! Changes of state: what an intent announces, and the five revocations that never wait.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use claviger_provider::{ConnectionId, Id, IdError, KeyId, PrincipalId, TenantId, TokenId};

use super::scalar::Number;
use super::string_enum::string_enum;

string_enum! {
    /// The kinds of object that can be changed.
    Object {
        /// A certificate authority for client certificates.
        ClientCa = "client_ca",
        /// A connection to a provider.
        Connection = "connection",
        /// An OIDC issuer.
        Issuer = "issuer",
        /// A key.
        Key = "key",
        /// A limit.
        Limit = "limit",
        /// A policy.
        Policy = "policy",
        /// A principal.
        Principal = "principal",
        /// A scope.
        Scope = "scope",
        /// A tenant.
        Tenant = "tenant",
        /// An API token.
        Token = "token",
    }
}

string_enum! {
    /// The kind of change.
    Verb {
        /// Adopt a key that the provider already has.
        Adopt = "adopt",
        /// Bind a scope to a key.
        Bind = "bind",
        /// Create an object.
        Create = "create",
        /// Delete an object.
        Delete = "delete",
        /// Detach a key; the provider's key is not changed.
        Detach = "detach",
        /// Stop every use of a key.
        Disable = "disable",
        /// Enable a disabled key.
        Enable = "enable",
        /// Import a customer's key material.
        Import = "import",
        /// Move a key to another provider key by a new primary version.
        Move = "move",
        /// Restore a severed connection.
        Restore = "restore",
        /// Resume a suspended tenant.
        Resume = "resume",
        /// Revoke a token.
        Revoke = "revoke",
        /// Make a new primary version of a key.
        Rotate = "rotate",
        /// Stop every use of a connection.
        Sever = "sever",
        /// Stop every request of a tenant.
        Suspend = "suspend",
        /// Change an object's settings.
        Update = "update",
    }
}

/// The 16-byte id of an object of any kind, written as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId(pub [u8; 16]);

impl ObjectId {
    /// The bytes of that id.
    pub fn of(id: &impl Id) -> Self {
        Self(*id.bytes())
    }
}

impl Serialize for ObjectId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&KeyId::from_bytes(self.0))
    }
}

impl<'de> Deserialize<'de> for ObjectId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <Cow<'de, str>>::deserialize(d)?;
        let id: Result<KeyId, IdError> = text.parse();
        id.map(|id| Self::of(&id)).map_err(de::Error::custom)
    }
}

/// The record's member `change`: what recovery needs to compare store and provider with the
/// log, and to apply a missing [`EmergencyRevocation`] again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateChange {
    /// Whether the provider's object is changed too; left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_provider: bool,
    /// The object's id.
    pub id: ObjectId,
    /// Only for a revocation: how many times the object had been enabled, restored or resumed
    /// before. Absent in other changes, and in records of earlier builds, where it counts as 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifts: Option<Number>,
    /// The kind of object.
    pub object: Object,
    /// The change.
    pub verb: Verb,
}

impl StateChange {
    /// A change in the store that does not change the provider's object.
    pub fn new(verb: Verb, object: Object, id: &impl Id) -> Self {
        Self {
            at_provider: false,
            id: ObjectId::of(id),
            lifts: None,
            object,
            verb,
        }
    }

    /// The same change, also made at the provider.
    #[must_use]
    pub fn at_provider(mut self) -> Self {
        self.at_provider = true;
        self
    }

    /// The revocation, if the change is one of the five that never wait for a healthy log.
    pub fn revocation(&self) -> Option<JournaledRevocation> {
        let lifts = self.lifts.map_or(0, Number::get);
        self.emergency().map(|revocation| revocation.at_lifts(lifts))
    }

    fn emergency(&self) -> Option<EmergencyRevocation> {
        let id = self.id.0;
        let revocations = [
            EmergencyRevocation::Disable(KeyId::from_bytes(id)),
            EmergencyRevocation::Sever(ConnectionId::from_bytes(id)),
            EmergencyRevocation::Revoke(TokenId::from_bytes(id)),
            EmergencyRevocation::Suspend(TenantId::from_bytes(id)),
            EmergencyRevocation::DeletePrincipal(PrincipalId::from_bytes(id)),
        ];
        revocations.into_iter().find(|revocation| {
            let change = Self::from(revocation.at_lifts(0));
            (change.verb, change.object) == (self.verb, self.object)
        })
    }
}

/// The five changes that take a right away. They never wait for a healthy log, may use the disk
/// reserve, and are applied again at start if the store has lost them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum EmergencyRevocation {
    /// Disable a key.
    Disable(KeyId),
    /// Sever a connection.
    Sever(ConnectionId),
    /// Revoke a token.
    Revoke(TokenId),
    /// Suspend a tenant.
    Suspend(TenantId),
    /// Delete a principal, which ends its tokens.
    DeletePrincipal(PrincipalId),
}

impl EmergencyRevocation {
    /// The revocation as the audit log and the kill file contain it, for an object whose
    /// revocations had been lifted this many times.
    pub const fn at_lifts(self, lifts: u64) -> JournaledRevocation {
        JournaledRevocation { revocation: self, lifts }
    }
}

/// A revocation as the audit log and the kill file contain it. At a start, the gateway applies it
/// again only if its object was not enabled, restored or resumed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournaledRevocation {
    /// The revocation.
    pub revocation: EmergencyRevocation,
    /// How many times the object had been enabled, restored or resumed before this revocation.
    pub lifts: u64,
}

impl From<JournaledRevocation> for StateChange {
    fn from(journaled: JournaledRevocation) -> Self {
        let change = match journaled.revocation {
            EmergencyRevocation::Disable(id) => Self::new(Verb::Disable, Object::Key, &id),
            EmergencyRevocation::Sever(id) => Self::new(Verb::Sever, Object::Connection, &id),
            EmergencyRevocation::Revoke(id) => Self::new(Verb::Revoke, Object::Token, &id),
            EmergencyRevocation::Suspend(id) => Self::new(Verb::Suspend, Object::Tenant, &id),
            EmergencyRevocation::DeletePrincipal(id) => Self::new(Verb::Delete, Object::Principal, &id),
        };
        Self {
            lifts: Some(Number::saturating(journaled.lifts)),
            ..change
        }
    }
}

impl fmt::Debug for EmergencyRevocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disable(id) => write!(f, "disable {id:?}"),
            Self::Sever(id) => write!(f, "sever {id:?}"),
            Self::Revoke(id) => write!(f, "revoke {id:?}"),
            Self::Suspend(id) => write!(f, "suspend {id:?}"),
            Self::DeletePrincipal(id) => write!(f, "delete {id:?}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_survives_its_change_and_no_other_change_is_one() {
        let revocations = [
            EmergencyRevocation::Disable(KeyId::random()),
            EmergencyRevocation::Sever(ConnectionId::random()),
            EmergencyRevocation::Revoke(TokenId::random()),
            EmergencyRevocation::Suspend(TenantId::random()),
            EmergencyRevocation::DeletePrincipal(PrincipalId::random()),
        ];
        for revocation in revocations {
            let revocation = revocation.at_lifts(3);
            let change = StateChange::from(revocation).at_provider();
            let json = serde_json::to_string(&change).unwrap();
            assert_eq!(serde_json::from_str::<StateChange>(&json).unwrap(), change);
            assert_eq!(change.revocation(), Some(revocation));
            // As earlier builds wrote it.
            let before = json.replace("\"lifts\":3,", "");
            assert_ne!(before, json);
            let before: StateChange = serde_json::from_str(&before).unwrap();
            assert_eq!(before.revocation(), Some(revocation.revocation.at_lifts(0)));
        }
        let id = KeyId::random();
        let all = Verb::ALL.iter().flat_map(|verb| Object::ALL.iter().map(|object| (*verb, *object)));
        let revoking = all.filter(|(verb, object)| StateChange::new(*verb, *object, &id).revocation().is_some());
        assert_eq!(revoking.count(), 5);
    }
}
