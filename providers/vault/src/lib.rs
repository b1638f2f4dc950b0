//! Vault and OpenBao: keys of a Transit secrets engine. `README.md` beside this crate lists what is
//! supported and what is not. Named by `boot` only.

mod auth;
mod client;
mod codes;
mod connector;
mod credentials;
mod errors;
mod factory;
mod health;
mod key_type;
mod keys;
mod lifecycle;
mod names;
mod offline_decrypt;
mod policy;
mod probe;
mod provider;
mod rights;
mod session;
mod settings;
mod transit;

pub use factory::VaultFactory;
pub use provider::VaultProvider;
