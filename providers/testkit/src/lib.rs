//! For tests: a fake key-management service, and the test suite that every provider must pass.
//! Part of the gateway's binary only with the feature `testkit`, and usable there only in
//! `claviger dev`.
//!
//! - [`battery`]: the test cases that any [`claviger_provider::Provider`] must pass.
//! - [`connection`]: a connection for an adapter's own tests, and [`values`]: what its calls take.
//! - [`FakeProvider`] on a [`FakeServer`]: a provider with real AES that injects
//!   [`Faults`], also on command of another process ([`control`]).
//! - [`MemoryStore`]: a sealed store in memory for the embedded provider.

pub mod battery;
mod config;
pub mod connection;
pub mod control;
mod factory;
mod faults;
mod provider;
mod server;
mod store;
pub mod values;

pub use config::FakeConfig;
pub use factory::FakeFactory;
pub use faults::{Fault, Faults, Journal, Plan};
pub use provider::FakeProvider;
pub use server::FakeServer;
pub use store::MemoryStore;
