//! The REST face.

pub mod server;
