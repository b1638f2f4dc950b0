//! Who calls, and what they may do: credential -> [`Caller`], and caller, action and object -> [`Decision`].
//!
//! The exchange of a protocol authenticates. `broker::admit` asks the [`Authorizer`] and makes
//! of an allowed request the value that a use case consumes.
//!
//! Today the grants of a token decide ([`GrantsAuthorizer`], policy `builtin/token`, version 1).
//! Policies that a tenant writes will be another [`Authorizer`], which can only narrow them.

mod authenticate;
mod authorizer;
mod caller;
mod gate;
mod grants;
mod grants_authorizer;
mod token;

pub use crate::audit::Action;
/// Makes the reads of an authentication those of a revocation.
pub use crate::store::for_revocation;
pub use authenticate::{Authenticator, Unauthenticated};
pub use authorizer::{AccessRequest, Authorizer, Deciding, Decision, NewGrant, PolicyRef, Resource};
pub use caller::{Ancestry, Caller, Credential};
pub use gate::Ended;
pub use grants::{ActionSet, Grants, GrantsError, KeySet};
pub use grants_authorizer::GrantsAuthorizer;
pub use token::{ApiToken, NewToken, TokenFormatError};
