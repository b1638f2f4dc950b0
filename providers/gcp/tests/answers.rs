//! Responses that a well-behaved Google never sends, or not on request: from a server that
//! responds as a test says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

#[path = "answers/calls.rs"]
mod calls;
#[path = "answers/checksums.rs"]
mod checksums;
#[path = "answers/fixture.rs"]
mod fixture;
#[path = "answers/logins.rs"]
mod logins;
#[path = "answers/machine.rs"]
mod machine;
#[path = "answers/refusals.rs"]
mod refusals;
#[path = "answers/severed.rs"]
mod severed;
