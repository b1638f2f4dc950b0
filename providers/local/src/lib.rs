//! The embedded provider: AES-256 and RSA keys that the gateway generates itself and stores sealed in
//! its own store. `README.md` beside this crate says how far to trust it. Named by `boot` only.

mod errors;
mod factory;
mod key_cache;
mod keys;
mod opened_key;
mod provider;
mod settings;
mod work;

pub use factory::LocalFactory;
pub use provider::{LocalProvider, MAX_PLAINTEXT, MAX_VERSIONS, capabilities};
pub use settings::Settings;
