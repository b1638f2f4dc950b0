//! AWS KMS: symmetric and RSA keys of one account and region. `README.md` beside this crate
//! lists what is supported and what is not. Named by `boot` only.

mod auth;
mod client;
mod codes;
mod credentials;
mod custom_egress;
mod errors;
mod factory;
mod http;
mod keys;
mod lifecycle;
mod names;
mod offline_decrypt;
mod ownership;
mod policy;
mod probe;
mod provider;
mod session;
mod settings;

pub use factory::{AwsFactory, Endpoints};
pub use provider::AwsProvider;
