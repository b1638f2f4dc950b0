//! What a well-behaved Google never answers, or not on request: on a server that plays it as a
//! test tells.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

#[path = "answers/checksums.rs"]
mod checksums;
#[path = "answers/fixture.rs"]
mod fixture;
#[path = "answers/machine.rs"]
mod machine;
#[path = "answers/refusals.rs"]
mod refusals;
