//! Google Cloud KMS: symmetric and RSA keys of one key ring. `README.md` beside this crate says
//! what is done and what is not. Named by `boot` only.

mod checksum;
mod client;
mod codes;
mod errors;
mod factory;
mod identity;
mod keys;
mod lifecycle;
mod login;
mod names;
mod offline_decrypt;
mod policy;
mod probe;
mod provider;
mod settings;

pub use factory::{Endpoints, GcpFactory};
pub use provider::GcpProvider;
