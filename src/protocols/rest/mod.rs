//! The REST protocol (`docs/api.md`).
//!
//! [`api`] is the whole API on one page. A request passes [`exchange`] (id, deadline, caller, body),
//! a handler (one file per resource), the use case in `broker`, and [`response`]. Only `boot` uses
//! this module.

mod batch;
mod batch_request;
mod batch_response;
mod capabilities;
mod connections;
mod data_keys;
mod data_responses;
mod declared;
mod errors;
pub mod exchange;
mod handler;
mod header;
mod inspect;
mod json;
mod key_response;
mod keys;
mod list;
mod offline_decrypt;
mod once;
mod openapi;
mod page;
mod principals;
mod reply;
mod request;
pub mod response;
pub mod route;
pub mod router;
mod run_to_completion;
mod service;
mod starting;
mod state;
mod tenants;
mod tokens;
mod types;

pub use capabilities::rows as capability_rows;
pub use router::{api, document, service_alone};
pub use starting::{Progress, Step, starting};
pub use state::{AppState, ServiceState};
