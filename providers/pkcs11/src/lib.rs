//! PKCS#11: keys of a token, by way of its vendor's module. The crate's `README.md` lists what is supported.
//!
//! The module runs in a helper process of the connection's own (`claviger-pkcs11-host`), so that one that hangs
//! or crashes takes down no other connection, and reads no memory of the gateway's.

mod client;
mod codes;
mod errors;
mod factory;
mod health;
mod helper;
mod keys;
mod lifecycle;
mod names;
mod pin_latch;
mod probe;
mod provider;
mod session;
mod settings;
mod wrapping;

pub use factory::Pkcs11Factory;
pub use helper::HelperProgram;
pub use provider::{Pkcs11Provider, capabilities};
