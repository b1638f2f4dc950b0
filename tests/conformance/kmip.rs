//! The KMIP servers that `tests/backends/kmip/start` starts.

use serde_json::{Value, json};

use crate::entries::{Difference, Entry, Start};

// Why external custody, and KMIP, end a case otherwise.
const LEAVE: &str = "as external custody: a data key leaves it for another key only with its owner's leave";
const UNCACHED: &str = "as external custody: no data key is cached unless its owner turns that on";
const UNNAMED: &str = "as KMIP and PKCS#11: a key has no versions, so whether a wrapped key is current is not seen, and it is wrapped anew";

const fn leave(case: &'static str, says: &'static str) -> Difference {
    Difference { case, says, reason: LEAVE }
}

const fn uncached(case: &'static str, says: &'static str) -> Difference {
    Difference {
        case,
        says,
        reason: UNCACHED,
    }
}

const NO_EXPORT: &str = "custody is external and export is not allowed";
const NOT_TRUE: &str = "left: false";

/// Of external custody, and of keys without versions.
pub const DIFFERENCES: &[Difference] = &[
    leave("rewrap::another_key_makes_a_fresh_one", NO_EXPORT),
    leave("rewrap::an_unsealed_source_needs_leave_and_is_sealed", NO_EXPORT),
    leave("rewrap::a_wrong_source_is_refused", NO_EXPORT),
    // The batch's second item is what the first, refused one should have made.
    leave("rewrap::a_context_and_a_batch", "/wrapped"),
    leave("states::a_disabled_key_does_nothing", NO_EXPORT),
    leave("states::a_severed_connection_does_nothing", NO_EXPORT),
    uncached("forged::a_seal_of_another_installation_is_none", "left: Bool(false)"),
    uncached("cache::a_cut_empties_it_and_what_follows_asks_the_provider", NOT_TRUE),
    uncached("cache::uses_are_counted", NOT_TRUE),
    uncached("provider_calls::an_unwrap_has_its_calls", "the second unwrap is not cached"),
    Difference {
        case: "rewrap::what_is_current_stays_as_it_is",
        says: "left: (Bool(true)",
        reason: UNNAMED,
    },
];

/// PyKMIP.
pub const PYKMIP: Entry = Entry {
    name: "pykmip",
    provider: "kmip",
    absent: || absent("PYKMIP"),
    start: Start::Serve,
    settings: || settings("PYKMIP"),
    spec: "aes-256",
    inside: false,
    differences: DIFFERENCES,
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
