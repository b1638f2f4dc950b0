//! AWS KMS: symmetric and RSA keys of one account and region. `README.md` beside this crate
//! says what is done and what is not. Named by `boot` only.

mod client;
mod codes;
mod errors;
mod factory;
mod http;
mod identity;
mod keys;
mod lifecycle;
mod names;
mod offline_decrypt;
mod own_way;
mod ownership;
mod policy;
mod probe;
mod provider;
mod settings;

pub use factory::{AwsFactory, Endpoints};
pub use provider::AwsProvider;
