//! The APIs that the gateway serves, and what they have in common: [`exchange`] brings a request from
//! its head to its answer, the same way for each [`exchange::Protocol`]. Protocols never use each other.

pub mod admission;
mod body;
pub mod exchange;
mod request_id;
pub mod response;
pub mod rest;
mod run_to_completion;
mod turns;

pub use request_id::RequestId;
