//! Revoked credentials and suspended tenants that the rows do not show as such yet, because the store could not take it.
//!
//! Who authenticates asks it, and so does the transaction of a change: it must not find a credential in force whose
//! revocation was answered.

use std::sync::atomic::{AtomicBool, Ordering};

use claviger_provider::{PrincipalId, TenantId, TokenId};
use dashmap::DashSet;

/// What is refused whatever the rows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// A token, and all that descend from it.
    Token(TokenId),
    /// A principal's tokens, and all that descend from them.
    Principal(PrincipalId),
    /// A suspended tenant's tokens, and what an operator asks for in it.
    Tenant(TenantId),
}

/// All that is refused.
#[derive(Debug, Default)]
pub struct Refusals {
    refused: DashSet<Refused>,
    /// Whether anything was ever in `refused`: nearly always false, and cheaper to ask than the set.
    any: AtomicBool,
}

impl Refusals {
    /// Adds one.
    pub fn add(&self, refused: Refused) {
        self.refused.insert(refused);
        self.any.store(true, Ordering::SeqCst);
    }

    /// Removes one: the rows show it, or it was lifted.
    pub fn remove(&self, refused: Refused) {
        self.refused.remove(&refused);
    }

    /// Whether anything was ever refused.
    pub fn is_used(&self) -> bool {
        self.any.load(Ordering::SeqCst)
    }

    /// Whether a token of this principal is refused; those above it are not looked at.
    pub fn has_token(&self, token: TokenId, principal: PrincipalId) -> bool {
        self.is_used() && (self.refused.contains(&Refused::Token(token)) || self.refused.contains(&Refused::Principal(principal)))
    }

    /// Whether a tenant is refused.
    pub fn has_tenant(&self, tenant: TenantId) -> bool {
        self.is_used() && self.refused.contains(&Refused::Tenant(tenant))
    }
}
