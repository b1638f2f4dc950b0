//! Vault and OpenBao: keys of a Transit secrets engine. `README.md` beside this crate says
//! what is done and what is not. Named by `boot` only.

mod api;
mod errors;
mod factory;
mod kind;
mod login;
mod names;
mod offline_decrypt;
mod probe;
mod provider;
mod rights;
mod session;
mod settings;
mod transit;

pub use factory::VaultFactory;
pub use provider::VaultProvider;
