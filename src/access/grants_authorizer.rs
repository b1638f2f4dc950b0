//! Decides by the grants of the caller's token: a set of operations and a set of keys.

use std::borrow::Cow;

use claviger_provider::TenantId;

use super::{AccessRequest, Authorizer, Caller, Credential, Deciding, Decision, Grants, PolicyRef, Resource};
use crate::audit::Action;

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

/// Allows what the caller's grants name, and nothing else.
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
            Resource::Installation => caller.is_operator(),
            Resource::Tenant => true,
            Resource::NewConnection { .. } | Resource::Connection(_) => acts_for_tenant,
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

    fn decide<'a>(&'a self, request: AccessRequest<'a>) -> Deciding<'a> {
        let AccessRequest {
            caller, action, resource, ..
        } = request;
        Deciding::Now(if Self::allows(caller, action, resource) {
            Decision::Allow(match caller.credential {
                Credential::Token(_) => TOKEN_GRANTS,
                Credential::Configuration => CONFIGURATION,
            })
        } else {
            Decision::Deny
        })
    }

    fn may_issue(&self, caller: &Caller, grants: &Grants) -> bool {
        caller.grants.covers(grants)
    }
}

#[cfg(test)]
mod tests;
