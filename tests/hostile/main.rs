//! Attacks of a hostile tenant on the real binary, over HTTP. In each, two honest tenants work on:
//! none of their calls may be refused. Each file is a kind of attack, each test an attack by name.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

mod abandoned_work;
mod cache_crowding;
mod claimed;
mod crowd;
mod cuts;
mod declared;
mod every_route;
mod floods;
mod full;
#[cfg(feature = "testkit")]
mod full_disk;
mod half_sent;
mod hanging_service;
#[cfg(feature = "testkit")]
mod held;
#[cfg(feature = "testkit")]
mod key_service;
mod large;
mod names;
mod never_reads;
mod one_key;
#[cfg(feature = "testkit")]
mod only_says_so;
mod others_names;
mod own_service;
mod proxied;
mod recalled;
mod repeated;
mod revoked;
mod routes;
mod service_pages;
mod soak;
mod store_load;
mod suspended;
mod table;
mod transit;
mod unread;
mod unread_lists;
mod windows;
mod world;

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
