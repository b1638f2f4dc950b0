//! The REST API over HTTP, against the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

mod access;
mod ancestry;
#[cfg(feature = "testkit")]
mod asked_anew;
#[cfg(feature = "testkit")]
mod at_provider;
mod bad_blobs;
mod bad_bodies;
mod bad_credentials;
mod bad_names;
mod bad_wire;
mod batch;
#[cfg(feature = "testkit")]
mod claims;
#[cfg(feature = "testkit")]
mod coalesced;
mod codes;
mod connections;
mod connections_changed;
mod cursors;
mod custody;
mod data_keys;
mod dev;
mod document;
mod document_3_0;
mod document_examples;
mod document_rules;
mod echo;
#[cfg(feature = "testkit")]
mod fake_world;
mod full_disk;
mod headers;
mod idempotency;
mod keys;
mod left_out;
mod memory;
mod moves;
mod names;
mod network;
mod operator_listener;
#[cfg(feature = "testkit")]
mod owners;
#[cfg(feature = "testkit")]
mod owners_versions;
mod paging;
mod principals;
mod provider_message;
#[cfg(feature = "testkit")]
mod provider_states;
mod quotas;
#[cfg(feature = "testkit")]
mod restrictive;
mod rows;
mod service;
mod service_apart;
mod severed;
mod starting;
mod support;
mod suspension;
mod tokens;
#[cfg(feature = "testkit")]
mod under_way;
mod way;
#[cfg(feature = "testkit")]
mod wrap_limit;
#[cfg(feature = "testkit")]
mod young;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
