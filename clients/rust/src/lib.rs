//! Client of a [Claviger](https://github.com/claviger/claviger) gateway, which wraps and unwraps data keys with keys that
//! cloud key-management services, Vault and HSMs hold.
//!
//! ```no_run
//! # async fn example() -> claviger_client::Result<()> {
//! use claviger_client::Client;
//!
//! let claviger = Client::from_env()?;
//! let data_key = claviger.generate_data_key("documents").context([("table", "orders")]).await?;
//! // Encrypt with data_key.plaintext, store data_key.wrapped beside the result, and later:
//! let again = claviger.unwrap(&data_key.wrapped).context([("table", "orders")]).await?;
//! # Ok(())
//! # }
//! ```
//!
//! It runs on Tokio. [`Client`] has a method for each operation, [`requests`] is what those methods return, and [`models`] is
//! what the gateway returns. The README says what the client does for you: tokens, retries, deadlines, lists, batches.

mod batch;
mod call;
mod client;
mod connect;
mod encode;
mod endpoint;
mod error;
mod files;
mod generated;
mod items;
mod lost;
mod pages;
mod random;
mod response;
mod secret;
mod string_enum;
mod tls;
mod token;
mod transport;
mod values;

#[cfg(test)]
mod tests;

pub use batch::{Batch, ItemResult};
pub use call::Pending;
pub use client::{Client, ClientBuilder};
pub use error::{Error, ErrorKind, Place, Result};
pub use files::{DecryptFile, DecryptStream, EncryptFile, EncryptStream};
pub use generated::{models, requests, settings};
pub use items::Items;
pub use models::ErrorCode;
pub use secret::{Secret, SecretText};
pub use token::BoxError;
pub use values::{Change, Extra, Meta, SecretJson};

pub use chrono;
pub use serde_json;
