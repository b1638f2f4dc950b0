//! The KMIP servers that `tests/backends/kmip/start` starts.

use serde_json::{Value, json};

use crate::entries::{Entry, Start};
use crate::external::EXTERNAL;

/// PyKMIP.
pub const PYKMIP: Entry = Entry {
    name: "pykmip",
    provider: "kmip",
    absent: || absent("PYKMIP"),
    start: Start::Serve,
    settings: || settings("PYKMIP"),
    spec: "aes-256",
    inside: false,
    differences: EXTERNAL,
};

/// The small server on kmip-go.
pub const KMIP_GO: Entry = Entry {
    name: "kmip-go",
    absent: || absent("KMIP_GO"),
    settings: || settings("KMIP_GO"),
    ..PYKMIP
};

fn variable(server: &str, name: &str) -> Option<String> {
    std::env::var(format!("CLAVIGER_TEST_{server}_{name}")).ok()
}

fn absent(server: &str) -> Option<&'static str> {
    let there = ["ADDRESS", "FOLDER"].iter().all(|name| variable(server, name).is_some());
    (!there).then_some("CLAVIGER_TEST_PYKMIP_ or CLAVIGER_TEST_KMIP_GO_ADDRESS and _FOLDER name no server")
}

fn settings(server: &str) -> Value {
    let folder = variable(server, "FOLDER").unwrap_or_default();
    let file = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).ok();
    let cert = json!({"certificate": file("client.pem"), "key": file("client.key")});
    // A slow machine must not end a call.
    json!({"address": variable(server, "ADDRESS"), "ca": file("ca.pem"), "auth": {"cert": cert}, "budget_ms": 10_000})
}
