//! What every implementation of the store has to keep.

mod changes;
mod claims;
mod connections;
mod creations;
mod credentials;
mod keys;
mod lists;
mod moves;
mod network;
mod nodes;
mod principals;
mod quotas;
mod sealed;
mod tenants;
mod versions;

use crate::{Case, PairCase};

/// The cases by module.
pub const MODULES: &[(&str, &[Case])] = &[
    ("tenants", tenants::CASES),
    ("principals", principals::CASES),
    ("connections", connections::CASES),
    ("keys", keys::CASES),
    ("claims", claims::CASES),
    ("lists", lists::CASES),
    ("moves", moves::CASES),
    ("network", network::CASES),
    ("versions", versions::CASES),
    ("changes", changes::CASES),
    ("creations", creations::CASES),
    ("credentials", credentials::CASES),
    ("quotas", quotas::CASES),
    ("sealed", sealed::CASES),
];

/// The cases with two nodes on one database, by module.
pub const PAIRS: &[(&str, &[PairCase])] = &[("nodes", nodes::CASES)];
