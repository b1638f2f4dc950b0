//! The client against a real gateway, and against a server that answers badly.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

mod acme;
mod bad_input;
mod files;
mod gateway;
mod generated;
mod stub;
mod support;
mod tls;
mod tokens;
