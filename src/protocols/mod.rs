//! The APIs that the gateway serves. Each protocol is a module of its own and uses no other.

pub mod rest;
