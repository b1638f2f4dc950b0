//! Logical keys as they live in memory: state, versions, gate and epoch, and the provider
//! pipeline of their connection.
//!
//! Used by `broker` alone. The store is the truth; this is what every request looks at, so
//! that the cost of a request does not depend on how many keys there are. There is at most
//! one [`KeyEntry`] for a key at any time: its gate would be worth nothing otherwise.

mod connections;
mod directory;
mod entry;
#[cfg(test)]
pub(crate) mod fixture;
mod loading_cache;
mod tenants;

pub use connections::Factories;
pub use directory::{Directory, LoadError};
pub use entry::{ConnectionEntry, ConnectionView, EpochGuard, Gone, KeyEntry, KeyView, with_gates_held};
pub use tenants::TenantSecrets;
