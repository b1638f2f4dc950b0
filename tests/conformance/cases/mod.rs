//! The cases, by what they are about.

mod adopt;
mod cache;
mod capabilities;
mod check;
mod concurrency;
mod context;
mod faults;
mod forged;
mod moves;
mod outage;
mod owner;
mod owners_versions;
mod provider_calls;
mod rewrap;
mod rotate;
mod round_trip;
mod states;
mod tampered;

use crate::{Case, cutoff};

/// Every case of the battery.
pub const MODULES: &[(&str, &[Case])] = &[
    ("round_trip", round_trip::CASES),
    ("context", context::CASES),
    ("tampered", tampered::CASES),
    ("forged", forged::CASES),
    ("rotate", rotate::CASES),
    ("rewrap", rewrap::CASES),
    ("moves", moves::CASES),
    ("states", states::CASES),
    ("owners_versions", owners_versions::CASES),
    ("adopt", adopt::CASES),
    ("owner", owner::CASES),
    ("capabilities", capabilities::CASES),
    ("check", check::CASES),
    ("cache", cache::CASES),
    ("concurrency", concurrency::CASES),
    ("faults", faults::CASES),
    ("outage", outage::CASES),
    ("provider_calls", provider_calls::CASES),
    ("cutoff", cutoff::CASES),
];
