//! The adapter on the fake of Azure, with what a well-behaved vault never does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

#[path = "battery/bench.rs"]
mod bench;
#[path = "answers/check.rs"]
mod check;
#[path = "answers/fixture.rs"]
mod fixture;
#[path = "answers/keys.rs"]
mod keys;
#[path = "answers/logins.rs"]
mod logins;
#[path = "answers/refusals.rs"]
mod refusals;
