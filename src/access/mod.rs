//! Who calls, and whether they may: credential -> [`Caller`] -> [`Permit`].
//!
//! Used by `http` (to authenticate, and to ask for permits by name) and by `broker`, whose
//! use cases consume permits. Nobody else can make a [`Permit`], so a use case that takes
//! one cannot be reached without a decision.
//!
//! Today a token's own operations and keys decide (policy `builtin/token`, version 1);
//! policies that a tenant writes will be asked at the same place and can only narrow it.

mod authenticate;
mod caller;
mod decide;
mod grants;
mod permit;
mod token;

pub use crate::audit::Action;
pub use authenticate::{Authenticator, Unauthenticated};
pub use caller::{Caller, Credential};
pub use decide::{AccessError, Target, decide};
pub use grants::{ActionSet, Grants, GrantsError, KeySet};
pub use permit::{Operation, Permit, PolicyRef, op};
pub use token::{ApiToken, NewToken, TokenFormatError};
