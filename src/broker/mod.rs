//! What can be done with keys: one use case per file.
//!
//! A use case consumes an [`Authorized`] value that only [`Broker::admit`] makes, uses `keys`,
//! `envelope`, `cache` and the provider's pipeline, and returns a [`Guarded`] value. That value
//! reaches a caller only through [`Broker::conclude`], which records the outcome first and checks
//! the gates of key and connection last. Protocols call this module; it calls none of them.

mod admit;
mod adoption;
mod apply;
mod as_revoked;
mod at_provider;
mod batch;
mod canary;
mod check_report;
mod conclude;
mod connection_now;
mod connection_problems;
mod connections;
mod context;
mod create_at_provider;
mod create_key;
mod creations;
mod cursor;
mod data_key;
mod declaration;
mod declare;
mod declare_all;
mod declared_files;
mod degraded;
mod described;
mod detach;
mod disable;
mod enable;
mod export;
mod external_custody;
mod failure;
#[cfg(test)]
mod fixture;
mod follow;
mod idempotency;
mod identity;
mod in_flight;
mod in_force;
mod inspect;
mod keep_log;
mod late_answers;
mod learn;
mod lost_rotations;
mod lost_versions;
mod move_key;
mod network;
mod opening;
mod other_servers;
mod principals;
mod quotas;
mod reach;
mod read;
mod recover;
mod release;
mod revoke;
mod rewrap;
mod rotate;
mod rounds;
mod session_state;
mod sever;
mod shared;
mod slow_connections;
mod store_again;
mod suspend;
mod suspensions;
mod tenants;
mod tokens;
mod turns;
mod unstored;
mod unwrap;
mod update_key;
mod wrap;
mod wrap_limit;
mod wrap_warnings;
mod wrapping;
mod write_ahead;
mod young;

pub use admit::{
    Authorized, ConnectionUpdateNamed, KeyNamed, Names, NewPrimary, NewTokenNamed, Operation, PairNamed, RotateNamed, TokenNamed,
    UpdateNamed, op,
};
pub use apply::{DeclaredKind, Step, Steps};
pub use at_provider::{AtProvider, AtProviderResult, Switched};
pub use batch::{BatchOutcome, MAX_ITEMS};
pub use check_report::CheckReport;
pub use conclude::{HandOver, Unrecorded};
pub use connection_now::{ConnectionNow, FailedCall, ServiceHealth};
pub use connections::{ConnectionChange, NewConnection};
pub use context::{AuditFields, RequestContext, RequestInfo};
pub use create_key::NewKey;
pub use cursor::{CursorScope, Position};
pub use data_key::{DataKey, Generates};
pub use declaration::{Declaration, Declarations, DeclaredConnection, MissingSecret};
pub use declare::{Found, How};
pub use declare_all::ThroughConnection;
pub use failure::{Code, Failure, Place};
pub use idempotency::{Completed, Completion, Keep, Once, Repeat};
pub use inspect::{Inspected, InspectedRecipient, VersionPlace};
pub use keep_log::Settled;
pub use principals::NewPrincipal;
pub use read::{KeyQuery, Page};
pub use recover::{Circumstances, RecoverError, Recovery};
pub use release::ReleaseNamed;
pub use revoke::Revoked;
pub use rewrap::{Rewrapped, scope_unsupported};
pub use session_state::{FailingLogin, SessionState};
pub use shared::{Accepted, Broker, Guarded, Parts, Recall};
pub use tenants::NewTenant;
pub use tokens::{GrantedToken, IssuedToken, WhoAmI};
pub use unstored::UnstoredCounts;
pub use unwrap::Unwrapped;
pub use wrap::{MAX_PLAINTEXT, Wrapped};
