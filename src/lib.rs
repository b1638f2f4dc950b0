//! Claviger: a REST gateway that normalises wrap, unwrap, rotate and audit calls across
//! key-management services, and keeps their data keys only as long as it must.
//!
//! `docs/architecture.md` is the map; [`boot`] puts the parts together.

pub mod access;
pub mod audit;
pub mod boot;
pub mod broker;
pub mod cache;
pub mod cli;
pub mod client;
pub mod config;
pub mod duration;
pub mod envelope;
mod io_reason;
pub mod keys;
pub mod listener;
mod loading_cache;
mod names;
mod parent_folder;
pub mod protocols;
pub mod store;
pub mod telemetry;
