//! Claviger: a REST gateway that normalises wrap, unwrap, rotate and audit calls across
//! key-management services, and keeps their data keys only as long as it must.
//!
//! `docs/architecture.md` is the map; [`boot`] puts the parts together.

pub mod envelope;
pub mod store;
