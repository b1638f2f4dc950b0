//! The provider on a small server of the tests', which gives the answers that no real server gives on request.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "answers/budget.rs"]
mod budget;
#[path = "answers/check.rs"]
mod check;
#[path = "answers/circuits.rs"]
mod circuits;
#[path = "answers/faults.rs"]
mod faults;
#[path = "answers/health.rs"]
mod health;
#[path = "answers/lifecycle.rs"]
mod lifecycle;
#[path = "answers/mixed_up.rs"]
mod mixed_up;
#[path = "answers/places.rs"]
mod places;
#[path = "answers/responses.rs"]
mod responses;
#[path = "answers/server.rs"]
mod server;
#[path = "answers/severed.rs"]
mod severed;
#[path = "answers/versions.rs"]
mod versions;
