//! The provider on the fake of Azure, with responses that a well-behaved vault never sends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

#[path = "battery/bench.rs"]
mod bench;
#[path = "answers/calls.rs"]
mod calls;
#[path = "answers/check.rs"]
mod check;
#[path = "answers/credentials.rs"]
mod credentials;
#[path = "answers/fixture.rs"]
mod fixture;
#[path = "answers/keys.rs"]
mod keys;
#[path = "answers/logins.rs"]
mod logins;
#[path = "answers/refusals.rs"]
mod refusals;
#[path = "answers/severed.rs"]
mod severed;
