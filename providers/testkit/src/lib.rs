//! For tests only: what stands in for a key-management service, and what every provider is
//! held against. In the gateway's binary only with the feature `testkit`, which is refused
//! outside `claviger dev`.
//!
//! - [`battery`]: named cases that any [`claviger_provider::Provider`] must pass.
//! - [`FakeProvider`] on a [`FakeServer`]: a provider with real AES inside that can be told
//!   to misbehave through [`Faults`], also from another process ([`control`]).
//! - [`MemoryStore`]: a sealed store in memory for the embedded provider.

pub mod battery;
pub mod control;
mod factory;
mod fake;
mod faults;
mod store;

pub use factory::FakeFactory;
pub use fake::{FakeConfig, FakeProvider, FakeServer};
pub use faults::{Fault, Faults, Journal, Plan};
pub use store::MemoryStore;
