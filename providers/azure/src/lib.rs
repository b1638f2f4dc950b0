//! Azure Key Vault and Managed HSM: RSA and AES keys of one vault. The crate's `README.md` lists
//! what is supported.

mod assertion;
mod attempts;
mod auth;
mod challenge;
mod client;
mod cloud;
mod codes;
mod credentials;
mod errors;
mod factory;
mod http;
mod installation;
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
mod wrap_algorithm;
mod wrapping;

pub use factory::AzureFactory;
pub use installation::{Application, Installation};
pub use provider::AzureProvider;
