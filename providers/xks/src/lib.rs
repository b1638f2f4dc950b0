//! External key managers behind an XKS proxy: AWS's External Key Store Proxy API, version 1.
//!
//! The proxy's owner keeps the key. The gateway sends each data key to `/keys/{id}/encrypt` or `decrypt`, signed
//! with SigV4, and names tenant, principal, key and operation, by which the owner can refuse. `README.md` shows the
//! settings, and what this adapter does and does not do.

mod api;
mod auth;
mod client;
mod codes;
mod errors;
mod external_keys;
mod factory;
mod health;
mod keys;
mod names;
mod offline_decrypt;
mod policy;
mod probe;
mod provider;
mod session;
mod settings;
mod signature;

pub use factory::XksFactory;
pub use provider::XksProvider;
