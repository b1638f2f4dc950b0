//! Keys and connections in memory: their rows, the gates that answers pass, and the pipelines to
//! the providers. Bounded, loaded at the first use, least recently used entries first out.
//!
//! Used by `broker` alone. The store has the authoritative rows. Requests read memory, so their
//! cost does not depend on how many keys exist. There is at most one open gate for a key at any
//! time. With two, a disable could close one of them while responses pass the other.

mod connections;
mod directory;
mod entry;
mod errors;
#[cfg(test)]
pub(crate) mod fixture;
mod gates;
mod in_use;
mod looks;
mod names;
mod places;
mod tenants;
mod unstored;
mod unusable;
mod view;
mod wraps;

pub use connections::Factories;
pub use directory::{Capacity, Directory, Reserved};
pub use entry::{ConnectionEntry, ConnectionView, Gone, KeyEntry, MayAsk, Trial};
pub use errors::LoadError;
pub use gates::{EpochGuard, with_gates_held};
pub use in_use::{Allowance, KeyUse};
pub use looks::LOOK_EVERY;
pub use tenants::TenantSecrets;
pub use view::KeyView;
pub use wraps::{ReservedWraps, TakenWrap};
