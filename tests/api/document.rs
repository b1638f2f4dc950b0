//! The OpenAPI document: the same as the router, the same as the file that is checked in.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use claviger::protocols::rest::{document, endpoints, route};
use serde_json::Value;

use crate::document_rules::words;
use crate::support::Api;

/// The document that the gateway serves.
fn the_document() -> Value {
    serde_json::from_str(document()).unwrap()
}

const HOW: &str = "run what CONTRIBUTING.md says under `Checks`, and look at the difference";

pub fn checked_in(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("openapi").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("openapi/{name}: {error}: {HOW}"))
}

/// Method, path and operationId of everything that is documented.
fn operations() -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for (path, methods) in the_document()["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_default();
            all.push((method.to_ascii_uppercase(), path.clone(), id.to_owned()));
        }
    }
    all
}

#[test]
fn the_document_and_the_router_name_the_same_operations() {
    let documented: BTreeSet<(String, String)> = operations().into_iter().map(|(method, path, _)| (method, path)).collect();
    let mut routed: BTreeSet<(String, String)> = endpoints::routes()
        .iter()
        .map(|row| (row.method.to_string(), row.path.to_owned()))
        .collect();
    assert_eq!(routed.len(), endpoints::routes().len(), "a row stands twice");
    for service in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        routed.insert(("GET".to_owned(), service.to_owned()));
    }
    assert_eq!(documented, routed);
}

#[test]
fn operation_ids_are_distinct_and_the_ones_that_sdks_know() {
    let all = operations();
    let ids: BTreeSet<&str> = all.iter().map(|(_, _, id)| id.as_str()).collect();
    assert_eq!(ids.len(), all.len(), "an operationId stands twice");
    let mut lines: Vec<String> = all.iter().map(|(method, path, id)| format!("{id} {method} {path}\n")).collect();
    lines.sort();
    assert_eq!(
        checked_in("operation-ids.txt"),
        lines.concat(),
        "operationIds are method names of SDKs: one that stands in openapi/operation-ids.txt is never changed or taken away; add new ones there"
    );
}

#[test]
fn the_documents_that_are_checked_in_are_what_the_command_prints() {
    for (name, arguments) in [
        ("claviger.json", &["openapi"][..]),
        ("claviger-3.0.json", &["openapi", "--version", "3.0"]),
    ] {
        let printed = Command::new(crate::BINARY).args(arguments).output().unwrap();
        assert!(printed.status.success());
        let printed = String::from_utf8(printed.stdout).unwrap();
        assert!(checked_in(name) == printed, "openapi/{name} differs: {HOW}");
    }
}

#[tokio::test]
async fn the_document_that_is_served_is_the_same() {
    let api = Api::start().await;
    assert_eq!(api.client.get("/openapi.json").await.text, checked_in("claviger.json"));
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    let document = the_document();
    let mut references = BTreeSet::new();
    collect(&document, &mut references);
    for reference in &references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in schemas.keys() {
        assert!(
            references.contains(&format!("#/components/schemas/{name}")),
            "{name} is used nowhere"
        );
    }
}

fn collect(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get("$ref") {
                into.insert(reference.clone());
            }
            members.values().for_each(|member| collect(member, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_row_has_limits_and_an_operation() {
    for row in endpoints::routes() {
        assert!(!row.needs.is_empty(), "{} {}", row.method, row.path);
        assert!(row.body <= route::BATCH && !row.time.is_zero());
        let batch = row.path.starts_with("/v1/batch/");
        assert_eq!(
            (row.body, row.time),
            if batch {
                (route::BATCH, route::BATCH_TIME)
            } else if row.path.starts_with("/v1/declared/") || row.operation_id == "updateConnection" {
                // Many things in one act, as a batch: other network settings are tried with each key.
                (route::DATA, route::BATCH_TIME)
            } else {
                (route::DATA, route::REQUEST)
            }
        );
    }
}

/// The schemas that a place of every operation leads to: `responses` or `requestBody`.
pub fn schemas_of(place: &str) -> BTreeSet<String> {
    let document = the_document();
    let mut found = BTreeSet::new();
    let mut left: Vec<Value> = document["paths"].as_object().unwrap().values().cloned().collect();
    left = left
        .iter()
        .flat_map(|methods| methods.as_object().unwrap().values())
        .map(|operation| operation[place].clone())
        .collect();
    while let Some(value) = left.pop() {
        let mut references = BTreeSet::new();
        collect(&value, &mut references);
        for reference in references {
            let name = reference.rsplit('/').next().unwrap().to_owned();
            left.push(document["components"]["schemas"][&name].clone());
            if !found.insert(name) {
                left.pop();
            }
        }
    }
    found
}

/// Each object of a schema: its own, or those that it consists of.
fn objects(schema: &Value) -> Vec<&Value> {
    let parts = schema["allOf"].as_array().map(Vec::as_slice).unwrap_or_default();
    std::iter::once(schema)
        .chain(parts)
        .filter(|part| part["properties"].is_object())
        .collect()
}

/// Members that some answers lack; `*` for every list. All others are always there, and may be null.
const MAY_BE_ABSENT: [(&str, &[&str]); 18] = [
    ("CheckedRight", &["what_to_do"]),
    ("CircuitFailure", &["what_to_do"]),
    ("ComponentStatus", &["disk_lasts", "durability"]),
    ("Connection", &["circuit", "circuit_failure", "health", "login"]),
    ("ConnectionHealth", &["code", "what_to_do"]),
    (
        "ConnectionLogin",
        &["code", "failing_since", "next_attempt", "provider_code", "what_to_do"],
    ),
    ("DataKey", &["plaintext"]),
    // What a batch's item has depends on `error`.
    (
        "GenerateItemResult",
        &["audit_index", "error", "key", "plaintext", "version", "wrapped"],
    ),
    ("InspectResult", &["reattach"]),
    ("Key", &["at_provider", "detached_at", "reattach", "warnings"]),
    ("KeyVersion", &["warnings"]),
    (
        "RewrapItemResult",
        &["audit_index", "changed", "error", "inside_provider", "key", "version", "wrapped"],
    ),
    (
        "UnwrapItemResult",
        &["audit_index", "cached", "error", "key", "plaintext", "version"],
    ),
    ("WrapItemResult", &["audit_index", "error", "key", "version", "wrapped"]),
    ("Problem", &["errors", "provider", "provider_message", "what_to_do"]),
    ("Readiness", &["jobs"]),
    // Rules that a request gives are shown as they were given.
    ("CacheRules", &["enabled", "max_age", "max_idle", "max_uses"]),
    ("TimeoutRules", &["attempt"]),
];

#[test]
fn members_that_are_always_there_are_required() {
    let document = the_document();
    let mut absent = BTreeSet::new();
    for name in schemas_of("responses") {
        for object in objects(&document["components"]["schemas"][&name]) {
            let required = object["required"].as_array().map(Vec::as_slice).unwrap_or_default();
            let optional = object["properties"].as_object().unwrap().keys();
            let optional = optional.filter(|member| !required.iter().any(|known| known == *member));
            absent.extend(
                optional
                    .filter(|member| *member != "next_page_token" || !name.ends_with("List"))
                    .map(|member| format!("{name}.{member}")),
            );
        }
    }
    let expected = MAY_BE_ABSENT
        .iter()
        .flat_map(|(name, members)| members.iter().map(move |member| format!("{name}.{member}")));
    assert_eq!(absent, expected.collect::<BTreeSet<_>>());
}

#[test]
fn the_words_of_every_enum_are_described() {
    // Names that say what they are.
    const NAMES: [&str; 7] = [
        "AzureAesAlgorithm",
        "DataKeyBytes",
        "DeclaredObjectKind",
        "Operation",
        "ProviderName",
        "ReleasableKind",
        "VaultKeyType",
    ];
    let document = the_document();
    let mut described = 0;
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let words: Vec<&Value> = words(schema).collect();
        if words.is_empty() || NAMES.contains(&name.as_str()) {
            continue;
        }
        let text = schema["description"].as_str().unwrap_or_default();
        for word in words {
            assert!(
                text.contains(&format!("- `{}`: ", word.as_str().unwrap())),
                "{name} says nothing of {word}: {text}"
            );
        }
        described += 1;
    }
    assert!(described > 10, "{described}");
}

#[test]
fn the_page_on_access_has_each_operation_once() {
    let document = the_document();
    let operations = &document["components"]["schemas"]["Operation"]["x-extensible-enum"];
    let page = include_str!("../../docs/access.md");
    let table = page.split("\n## Operations\n").nth(1).unwrap();
    // The first cell of each row.
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut named: Vec<&str> = cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`')).collect();
    named.sort_unstable();
    let mut all: Vec<&str> = operations.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(named, all);
}
