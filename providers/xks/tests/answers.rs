//! What the adapter sends and what it makes of responses, on the fake XKS proxy: signatures and access keys, refusals,
//! the check, the budget, health checks, and mutual TLS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "answers/access_keys.rs"]
mod access_keys;
#[path = "battery/bench.rs"]
mod bench;
#[path = "answers/budget.rs"]
mod budget;
#[path = "answers/calls.rs"]
mod calls;
#[path = "answers/check.rs"]
mod check;
#[path = "answers/fixture.rs"]
mod fixture;
#[path = "answers/health.rs"]
mod health;
#[path = "answers/offline.rs"]
mod offline;
#[path = "answers/refusals.rs"]
mod refusals;
#[path = "answers/severed.rs"]
mod severed;
#[path = "answers/tls.rs"]
mod tls;
