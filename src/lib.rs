//! Claviger: a REST gateway that normalises wrap, unwrap, rotate and audit calls across
//! key-management services, and keeps their data keys only as long as it must.
//!
//! `docs/architecture.md` is the map.

pub mod access;
pub mod audit;
pub mod broker;
pub mod cache;
pub mod duration;
pub mod envelope;
pub mod keys;
pub mod store;
