//! Key managers that speak KMIP 1.4 or 2.0. `README.md` beside this crate lists what is supported and what is not.
//! Named by `boot` only.

mod api;
mod attributes;
mod client;
mod codes;
mod connection;
mod dial;
mod errors;
mod factory;
mod fuzz;
mod health;
mod key_manager;
mod keys;
mod lifecycle;
mod message;
mod names;
mod pool;
mod probe;
mod provider;
mod settings;
mod tags;
pub mod ttlv;
mod wrapping;

pub use factory::KmipFactory;
pub use fuzz::reads_as_response;
pub use provider::KmipProvider;
