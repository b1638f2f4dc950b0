//! What no stand-in shows, or shows wrongly: throttling with the status 400, external key
//! stores, broken answers, redirects, a session that dies in mid-flight, dry runs, rotations
//! that take their time, key policies. And what is sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops where an expectation fails"
)]

#[path = "answers/calls.rs"]
mod calls;
#[path = "answers/check.rs"]
mod check;
#[path = "answers/custom_egress.rs"]
mod custom_egress;
#[path = "answers/fixture.rs"]
mod fixture;
#[path = "answers/keys.rs"]
mod keys;
#[path = "answers/refusals.rs"]
mod refusals;
#[path = "answers/sessions.rs"]
mod sessions;
#[path = "answers/traces.rs"]
mod traces;
