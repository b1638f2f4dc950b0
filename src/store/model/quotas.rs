//! Quotas: how many objects of each kind a tenant may have, and how many it has.

use std::collections::BTreeMap;

/// A kind of object that a tenant's quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Keys, detached ones included.
    Keys,
    /// Versions of all keys, detached ones included.
    Versions,
    /// Connections.
    Connections,
    /// Principals.
    Principals,
    /// Tokens, until their rows are deleted.
    Tokens,
    /// Stored responses of requests with an `Idempotency-Key`.
    IdempotencyKeys,
}

impl Resource {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Keys,
        Self::Versions,
        Self::Connections,
        Self::Principals,
        Self::Tokens,
        Self::IdempotencyKeys,
    ];

    /// The name in the store, and of the setting in `[quotas]`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Versions => "versions",
            Self::Connections => "connections",
            Self::Principals => "principals",
            Self::Tokens => "tokens",
            Self::IdempotencyKeys => "idempotency_keys",
        }
    }
}

impl std::str::FromStr for Resource {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|resource| resource.as_str() == text).ok_or(())
    }
}

/// The most objects of each kind that one tenant may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Of [`Resource::Keys`].
    pub keys: u32,
    /// Of [`Resource::Versions`].
    pub versions: u32,
    /// Of [`Resource::Connections`].
    pub connections: u32,
    /// Of [`Resource::Principals`].
    pub principals: u32,
    /// Of [`Resource::Tokens`].
    pub tokens: u32,
    /// Of [`Resource::IdempotencyKeys`].
    pub idempotency_keys: u32,
}

impl Quotas {
    /// The quota of a kind.
    pub const fn of(&self, resource: Resource) -> u32 {
        match resource {
            Resource::Keys => self.keys,
            Resource::Versions => self.versions,
            Resource::Connections => self.connections,
            Resource::Principals => self.principals,
            Resource::Tokens => self.tokens,
            Resource::IdempotencyKeys => self.idempotency_keys,
        }
    }
}

/// How many objects of each kind a tenant has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage(pub BTreeMap<Resource, u64>);

impl Usage {
    /// The number of a kind.
    pub fn of(&self, resource: Resource) -> u64 {
        self.0.get(&resource).copied().unwrap_or(0)
    }
}
