//! The REST API over HTTP, against the real binary.

mod way;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
