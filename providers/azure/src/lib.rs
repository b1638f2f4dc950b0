//! Azure Key Vault and Managed HSM: RSA and AES keys of one vault. `README.md` beside this crate
//! says what is done and what is not. Named by `boot` only.

mod assertion;
mod auth;
mod challenge;
mod client;
mod cloud;
mod codes;
mod credential;
mod errors;
mod factory;
mod keys;
mod lifecycle;
mod names;
mod offline_decrypt;
mod policy;
mod probe;
mod provider;
mod session;
mod settings;
mod transport;
mod way;

pub use factory::{Application, AzureFactory, Installation};
pub use provider::AzureProvider;
