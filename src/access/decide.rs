//! Caller + operation + object -> permit, or a refusal that tells nothing.

use std::sync::Arc;

use claviger_provider::{ConnectionId, KeyId, TenantId};

use super::permit::Object;
use super::{Caller, Credential, KeySet, Operation, Permit, PolicyRef};

/// The policy that decides until a tenant writes its own: the token's sets.
const BUILTIN: PolicyRef = PolicyRef {
    id: "builtin/token",
    version: 1,
};

/// The policy under which a start does what the configuration declares.
const CONFIGURATION: PolicyRef = PolicyRef {
    id: "builtin/configuration",
    version: 1,
};

/// What is asked for. A name that leads nowhere is a target too: whether the caller learns
/// that it leads nowhere depends on whether they would have been permitted.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The installation.
    Installation,
    /// The tenant as a whole.
    Tenant,
    /// A key that does not exist yet.
    NewKey,
    /// A key, or a name that no key has.
    Key(Option<KeyId>),
    /// A connection, or a name that no connection has.
    Connection(Option<ConnectionId>),
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Not permitted, whether or not the object exists.
    #[error("not permitted")]
    Denied,
    /// Permitted, had it existed.
    #[error("no such object")]
    NotFound,
}

/// Decides.
///
/// # Errors
/// [`AccessError::Denied`] when the caller lacks the operation or the object is outside
/// the caller's keys; [`AccessError::NotFound`] only for one who would be permitted.
pub fn decide<O: Operation>(caller: &Arc<Caller>, target: Target) -> Result<Permit<O>, AccessError> {
    if !caller.grants.operations().contains(O::ACTION) {
        return Err(AccessError::Denied);
    }
    let object = match target {
        Target::Installation => {
            if !caller.is_operator() {
                return Err(AccessError::Denied);
            }
            Object::Installation
        }
        Target::Tenant => Object::Tenant,
        // An operator who named no tenant has none whose keys and connections it could mean.
        Target::NewKey | Target::Key(_) | Target::Connection(_) if caller.acting == TenantId::INSTALLATION => {
            return Err(AccessError::Denied);
        }
        // A new key is in nobody's set of named keys.
        Target::NewKey => match caller.grants.keys() {
            KeySet::All => Object::Tenant,
            KeySet::Only(_) => return Err(AccessError::Denied),
        },
        Target::Key(Some(key)) if caller.grants.keys().contains(key) => Object::Key(key),
        Target::Key(Some(_)) => return Err(AccessError::Denied),
        Target::Key(None) => return Err(missing(caller)),
        Target::Connection(Some(connection)) => Object::Connection(connection),
        Target::Connection(None) => return Err(AccessError::NotFound),
    };
    let policy = match caller.credential {
        Credential::Token(_) => BUILTIN,
        Credential::Configuration => CONFIGURATION,
    };
    Ok(Permit::new(Arc::clone(caller), object, policy))
}

/// A missing key is told as missing only to one whose set would have held it.
fn missing(caller: &Caller) -> AccessError {
    match caller.grants.keys() {
        KeySet::All => AccessError::NotFound,
        KeySet::Only(_) => AccessError::Denied,
    }
}

#[cfg(test)]
mod tests;
