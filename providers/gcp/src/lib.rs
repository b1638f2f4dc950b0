//! Google Cloud KMS: symmetric and RSA keys of one key ring. The crate's `README.md` lists what is
//! supported.

mod auth;
mod checksum;
mod client;
mod codes;
mod credentials;
mod errors;
mod factory;
mod keys;
mod library;
mod lifecycle;
mod look_ups;
mod names;
mod offline_decrypt;
mod policy;
mod probe;
mod provider;
mod refused_decryption;
mod session;
mod settings;
mod wrapping;

pub use factory::{Endpoints, GcpFactory};
pub use provider::GcpProvider;
