//! The OpenAPI document: the same as the router, the same as the file that is checked in.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use claviger::protocols::rest::{document, endpoints, route};
use serde_json::Value;

use crate::support::Api;

/// The document that the gateway serves.
fn the_document() -> Value {
    serde_json::from_str(document()).unwrap()
}

const HOW: &str = "run `cargo run -- openapi > openapi/claviger.json` and look at the difference";

fn checked_in(name: &str) -> String {
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
fn the_document_that_is_checked_in_is_what_the_command_prints() {
    let printed = Command::new(crate::BINARY).arg("openapi").output().unwrap();
    assert!(printed.status.success());
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(checked_in("claviger.json") == printed, "openapi/claviger.json differs: {HOW}");
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
    for name in schemas.keys().filter(|name| *name != "Empty") {
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
            } else if row.path.starts_with("/v1/declared/") {
                // Many things in one act, as a batch.
                (route::DATA, route::BATCH_TIME)
            } else {
                (route::DATA, route::REQUEST)
            }
        );
    }
}
