//! Claviger.

pub mod envelope;
