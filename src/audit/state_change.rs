//! State changes: what an intent is about to do, and the four that never wait.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use claviger_provider::{ConnectionId, Id, IdError, KeyId, TenantId, TokenId};

use super::string_enum::string_enum;

string_enum! {
    /// The kinds of object that have a state.
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
    /// What happens to an object.
    Verb {
        /// Adopt what the provider already has.
        Adopt = "adopt",
        /// Bind a scope to a key.
        Bind = "bind",
        /// Make.
        Create = "create",
        /// Remove.
        Delete = "delete",
        /// Let go of a key; nothing happens at the provider.
        Detach = "detach",
        /// Stop every use of a key.
        Disable = "disable",
        /// Undo a disable.
        Enable = "enable",
        /// Bring a customer's material into a key.
        Import = "import",
        /// Undo a sever.
        Restore = "restore",
        /// Undo a suspension.
        Resume = "resume",
        /// Withdraw a token.
        Revoke = "revoke",
        /// Make a new primary version.
        Rotate = "rotate",
        /// EmergencyRevocation a connection off.
        Sever = "sever",
        /// Stop everything a tenant does.
        Suspend = "suspend",
        /// Change settings.
        Update = "update",
    }
}

/// An object's 16-byte id, of whichever kind; written as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId(pub [u8; 16]);

impl ObjectId {
    /// The same bytes as that id.
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

/// The record's member `change`: enough to compare store and provider with it after a
/// crash, and to apply a missing [`EmergencyRevocation`] again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The effect is wanted at the provider too; absent where it is not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_provider: bool,
    /// The object's id.
    pub id: ObjectId,
    /// The kind of object.
    pub object: Object,
    /// What happens to it.
    pub verb: Verb,
}

impl Change {
    /// A change that takes place in the store alone.
    pub fn new(verb: Verb, object: Object, id: &impl Id) -> Self {
        Self {
            at_provider: false,
            id: ObjectId::of(id),
            object,
            verb,
        }
    }

    /// The same change, wanted at the provider too.
    #[must_use]
    pub fn at_provider(mut self) -> Self {
        self.at_provider = true;
        self
    }

    /// The cut that it is, if it is one of the four that never wait for a healthy log.
    pub fn revocation(&self) -> Option<EmergencyRevocation> {
        let id = self.id.0;
        let cuts = [
            EmergencyRevocation::Disable(KeyId::from_bytes(id)),
            EmergencyRevocation::Sever(ConnectionId::from_bytes(id)),
            EmergencyRevocation::Revoke(TokenId::from_bytes(id)),
            EmergencyRevocation::Suspend(TenantId::from_bytes(id)),
        ];
        cuts.into_iter().find(|cut| {
            let change = Self::from(*cut);
            (change.verb, change.object) == (self.verb, self.object)
        })
    }
}

/// The four changes that take something away at once: they never wait for a healthy log,
/// may use the disk reserve, and are applied again at start where the store lost them.
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
}

impl From<EmergencyRevocation> for Change {
    fn from(cut: EmergencyRevocation) -> Self {
        match cut {
            EmergencyRevocation::Disable(id) => Self::new(Verb::Disable, Object::Key, &id),
            EmergencyRevocation::Sever(id) => Self::new(Verb::Sever, Object::Connection, &id),
            EmergencyRevocation::Revoke(id) => Self::new(Verb::Revoke, Object::Token, &id),
            EmergencyRevocation::Suspend(id) => Self::new(Verb::Suspend, Object::Tenant, &id),
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
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn a_cut_survives_its_change_and_nothing_else_is_a_cut() {
        let cuts = [
            EmergencyRevocation::Disable(KeyId::random()),
            EmergencyRevocation::Sever(ConnectionId::random()),
            EmergencyRevocation::Revoke(TokenId::random()),
            EmergencyRevocation::Suspend(TenantId::random()),
        ];
        for cut in cuts {
            let change = Change::from(cut).at_provider();
            let json = serde_json::to_string(&change).unwrap();
            assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), change);
            assert_eq!(change.revocation(), Some(cut));
        }
        let id = KeyId::random();
        let all = Verb::ALL.iter().flat_map(|verb| Object::ALL.iter().map(|object| (*verb, *object)));
        let cutting = all.filter(|(verb, object)| Change::new(*verb, *object, &id).revocation().is_some());
        assert_eq!(cutting.count(), 4);
    }
}
