//! Tokens of SoftHSM and Kryoptic. Only the configuration declares connections to them, so the tenants of all cases are
//! declared.

use std::path::Path;

use claviger_test_support::Tune;
use claviger_test_support::softhsm::{self, Module, PIN};
use serde_json::Value;

use crate::bench::CONNECTION;
use crate::cases::MODULES;
use crate::entries::{Entry, Start};
use crate::external::EXTERNAL;

/// The name of a case's second connection, and of its other tenant.
const SECOND: &str = "second";
const RIVAL: &str = "rival";

/// The longest name of a tenant.
const MAX_NAME: usize = 63;

/// SoftHSM.
pub const SOFTHSM: Entry = Entry {
    name: "softhsm",
    provider: "pkcs11",
    absent: || {
        let absent = softhsm::SOFTHSM.is_absent();
        absent.then_some("CLAVIGER_TEST_SOFTHSM_MODULE and _TOOL name no token")
    },
    start: Start::Token(&softhsm::SOFTHSM),
    settings: || Value::Null,
    spec: "aes-256",
    inside: false,
    differences: EXTERNAL,
};

/// Kryoptic.
pub const KRYOPTIC: Entry = Entry {
    name: "kryoptic",
    absent: || {
        let absent = softhsm::KRYOPTIC.is_absent();
        absent.then_some("CLAVIGER_TEST_KRYOPTIC_MODULE and CLAVIGER_TEST_SOFTHSM_TOOL name no token")
    },
    start: Start::Token(&softhsm::KRYOPTIC),
    ..SOFTHSM
};

impl Entry {
    /// Whether the configuration declares its tenants and connections.
    pub const fn is_declared(&self) -> bool {
        matches!(self.start, Start::Token(_))
    }
}

/// How the gateway is started, with a token of this module in this folder.
pub fn tune(module: &Module, folder: &Path) -> Tune {
    let cases = MODULES
        .iter()
        .flat_map(|(module, cases)| cases.iter().map(move |(name, _, _)| format!("{module}.{name}")));
    let tenants: Vec<String> = cases.flat_map(|case| [format!("{case}.{RIVAL}"), case]).collect();
    // The cases with another tenant have short names.
    let tenants: Vec<&str> = tenants.iter().map(String::as_str).filter(|name| name.len() <= MAX_NAME).collect();
    Tune {
        arguments: module.declared(folder, &tenants, &[CONNECTION, SECOND], PIN).arguments,
        ..SOFTHSM.tune()
    }
    // A token makes an RSA key of 4096 bits in seconds, and in many on a busy machine.
    .set("CLAVIGER_SERVER__REQUEST_DEADLINE", "60s")
}
