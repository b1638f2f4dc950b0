//! The REST face (`docs/api.md`).
//!
//! [`api`] is the whole API on one page. A request goes [`exchange`] (id, deadline,
//! caller, body) -> handler (one file per resource) -> `broker` -> [`answer`]. This module
//! uses `broker` and `access`; nobody but `boot` uses it.

pub mod answer;
mod ask;
mod batch;
mod capabilities;
mod connections;
mod data_keys;
mod declared;
mod errors;
pub mod exchange;
mod gateway;
mod handler;
mod header;
mod inspect;
mod json;
mod key_shown;
mod keys;
mod leaving;
mod openapi;
mod page;
mod principals;
mod reply;
pub mod router;
pub mod row;
pub mod server;
mod service;
mod starting;
mod tenants;
mod to_the_end;
mod tokens;
mod wire;

pub use capabilities::rows as capability_rows;
pub use gateway::{Gateway, ServiceState};
pub use router::{api, document, service_alone};
pub use starting::{Progress, Step, starting};
