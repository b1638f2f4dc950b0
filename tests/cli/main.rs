//! The command line end to end: the real binary as client of the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

mod commands;
mod completions;
mod data;
mod declared;
mod exits;
mod files;
mod members;
mod providers;
mod released;
mod secret_files;
mod secrets;
mod start;
mod support;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
