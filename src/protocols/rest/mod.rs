//! The REST protocol (`docs/api.md`).
//!
//! [`endpoints`] is the whole API on one page. A request goes through the exchange (id, deadline,
//! caller, body), the handler (one file per resource) and `broker` to its answer.

mod batch;
mod batch_request;
mod batch_response;
mod capabilities;
mod connection_check;
mod connection_health;
mod connection_login;
mod connection_settings;
mod connections;
mod data_keys;
mod data_responses;
mod declared;
pub mod endpoints;
mod errors;
mod handler;
mod header;
mod host;
mod inspect;
mod json;
mod key_response;
mod key_warnings;
mod keys;
mod list;
mod offline_decrypt;
mod once;
mod openapi;
mod principals;
mod protocol;
mod provider_name;
mod readiness;
mod request;
pub mod response;
pub mod route;
mod route_table;
mod router;
mod service;
mod service_places;
mod starting;
mod state;
mod store_check;
mod tenants;
mod tokens;
mod types;

pub use capabilities::rows as capability_rows;
pub use openapi::{document, document_3_0};
pub use protocol::Rest;
pub use router::{RestService, api, of_operator, service_alone, starting};
pub use starting::{Progress, Step};
pub use state::ServiceState;
