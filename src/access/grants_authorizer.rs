//! Decides by the grants of the caller's token: a set of operations and a set of keys.

use std::borrow::Cow;
use std::collections::BTreeSet;

use claviger_provider::TenantId;

use super::{AccessRequest, Authorizer, Caller, Credential, Deciding, Decision, Grants, KeySet, NewGrant, PolicyRef, Resource};
use crate::audit::Action;
use crate::store::model::TokenKind;

/// The policy that decides until a tenant writes its own: the token's grants.
const TOKEN_GRANTS: PolicyRef = PolicyRef {
    id: Cow::Borrowed("builtin/token"),
    version: 1,
};

/// The policy under which the gateway creates what the operator's configuration declares.
const CONFIGURATION: PolicyRef = PolicyRef {
    id: Cow::Borrowed("builtin/configuration"),
    version: 1,
};

/// The policy under which every token's holder may read and revoke it.
const OWN_TOKEN: PolicyRef = PolicyRef {
    id: Cow::Borrowed("builtin/own-token"),
    version: 1,
};

static NO_KEY: KeySet = KeySet::Only(BTreeSet::new());

/// Allows what the caller's grants name, and nothing else but reading and revoking one's own token.
#[derive(Debug, Clone, Copy, Default)]
pub struct GrantsAuthorizer;

impl GrantsAuthorizer {
    fn allows(caller: &Caller, action: Action, resource: Resource<'_>) -> bool {
        if !caller.grants.operations().contains(action) {
            return false;
        }
        // An operator who named no tenant has no keys and connections.
        let acts_for_tenant = caller.acting != TenantId::INSTALLATION;
        let keys = caller.grants.keys();
        match resource {
            Resource::Installation => caller.is_operator() && keys.is_all(),
            Resource::Tenant | Resource::OwnToken => true,
            // What concerns the whole tenant is no part of a set of named keys.
            Resource::Principals => keys.is_all(),
            Resource::NewConnection { .. } => acts_for_tenant && keys.is_all(),
            Resource::Connection(_) => acts_for_tenant && (keys.is_all() || action == Action::ReadConnection),
            // A set of named keys contains no key that does not exist.
            Resource::NewKey { .. } | Resource::Key(None) => acts_for_tenant && keys.is_all(),
            Resource::Key(Some(key)) => acts_for_tenant && keys.contains(key.id),
        }
    }
}

impl Authorizer for GrantsAuthorizer {
    fn could_allow(&self, caller: &Caller, action: Action) -> bool {
        caller.grants.operations().contains(action)
    }

    fn keys<'a>(&self, caller: &'a Caller, action: Action) -> &'a KeySet {
        let acts_for_tenant = caller.acting != TenantId::INSTALLATION;
        if acts_for_tenant && caller.grants.operations().contains(action) {
            caller.grants.keys()
        } else {
            &NO_KEY
        }
    }

    fn decide<'a>(&'a self, request: AccessRequest<'a>) -> Deciding<'a> {
        let AccessRequest {
            caller, action, resource, ..
        } = request;
        Deciding::Now(match caller.credential {
            _ if !Self::allows(caller, action, resource) => match (resource, action) {
                (Resource::OwnToken, Action::ManageTokens) => Decision::Allow(OWN_TOKEN),
                _ => Decision::Deny,
            },
            Credential::Token(_) => Decision::Allow(TOKEN_GRANTS),
            Credential::Configuration => Decision::Allow(CONFIGURATION),
        })
    }

    fn may_issue(&self, caller: &Caller, new: NewGrant<'_>) -> bool {
        let own = &caller.grants;
        let lasting = match new.kind {
            // Its parent is the caller's token.
            TokenKind::Delegated => matches!(caller.credential, Credential::Token(_)),
            TokenKind::Standing => {
                caller.ancestry.kind == TokenKind::Standing && own.keys().is_all() && own.operations().contains(Action::ManageTokens)
            }
        };
        lasting && own.covers(new.grants)
    }

    fn may_end(&self, caller: &Caller, grants: &Grants) -> bool {
        caller.grants.covers(grants)
    }
}

#[cfg(test)]
mod tests;
