//! Responses of AWS that no emulator gives, or not correctly: throttling with status 400, external
//! key stores, malformed bodies, redirects, a session that is revoked during a call, dry runs, slow
//! rotations, key policies. And the requests that are sent.
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
#[path = "answers/logins.rs"]
mod logins;
#[path = "answers/refusals.rs"]
mod refusals;
#[path = "answers/rotations.rs"]
mod rotations;
#[path = "answers/sessions.rs"]
mod sessions;
#[path = "answers/severed.rs"]
mod severed;
#[path = "answers/traces.rs"]
mod traces;
