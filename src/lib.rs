//! Claviger.

pub mod audit;
