//! The copy of the document in OpenAPI 3.0.3 has nothing that 3.0 does not know, and says the same.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::document::checked_in;
use crate::document_rules::{each_schema, operations, the_file};

#[test]
fn it_has_the_same_operations_and_schemas() {
    let (document, copy) = (the_file(), copy());
    assert_eq!(copy["openapi"], "3.0.3");
    let ids = |document: &Value| operations(document).into_iter().map(|(id, path, _)| (id, path)).collect::<Vec<_>>();
    assert_eq!(ids(&document), ids(&copy));
    let names = |document: &Value, part: &str| {
        document["components"][part]
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    for part in ["schemas", "parameters", "headers", "responses"] {
        assert_eq!(names(&document, part), names(&copy, part));
    }
}

#[test]
fn it_has_nothing_that_3_0_does_not_know() {
    let copy = copy();
    let mut unknown = Vec::new();
    for (name, schema) in copy["components"]["schemas"].as_object().unwrap() {
        each_schema(name, schema, &mut |place, schema| {
            let object = schema.as_object().unwrap();
            let words = ["const", "examples", "propertyNames", "patternProperties", "contentEncoding"];
            let beside_reference = object.contains_key("$ref") && object.len() > 1;
            let nullable_without = object.contains_key("nullable") && !object.contains_key("type");
            let no_type = object.get("type").is_some_and(|kind| !kind.is_string() || kind == "null");
            if words.iter().any(|word| object.contains_key(*word)) || beside_reference || nullable_without || no_type {
                unknown.push(place.to_owned());
            }
        });
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert!(copy["info"]["license"]["identifier"].is_null());
}

#[test]
fn what_may_be_null_may_be_null_in_both() {
    let nullable = |document: &Value| {
        let mut found = Vec::new();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            each_schema(name, schema, &mut |place, schema| {
                let null = |kinds: &Value| {
                    kinds
                        .as_array()
                        .into_iter()
                        .flatten()
                        .any(|kind| kind == "null" || kind["type"] == "null")
                };
                if schema["nullable"] == true || null(&schema["type"]) || null(&schema["oneOf"]) {
                    found.push(place.to_owned());
                }
            });
        }
        found
    };
    let of_document = nullable(&the_file());
    assert!(of_document.len() > 10);
    assert_eq!(of_document, nullable(&copy()));
}

/// progenitor takes `default` for a success, too, and has one type for the successes of an operation and one for its
/// failures. To it, what is not `application/json` is bytes.
#[test]
fn each_operation_has_one_type_of_success_and_one_of_failure() {
    let copy = copy();
    for (id, _, operation) in operations(&copy) {
        let responses = operation["responses"].as_object().unwrap();
        let of = |first: &[char]| {
            let found = responses.iter().filter(|(status, _)| status.starts_with(first));
            let kinds = found.map(|(_, response)| {
                let referred = response["$ref"].as_str().map(|reference| &reference[1..]);
                let content = &referred.map_or(response, |pointer| copy.pointer(pointer).unwrap())["content"];
                match &content["application/json"]["schema"] {
                    Value::Null if content.is_null() => "none".to_owned(),
                    Value::Null => "bytes".to_owned(),
                    typed => typed.to_string(),
                }
            });
            kinds.collect::<BTreeSet<_>>()
        };
        assert_eq!(of(&['2']).len(), 1, "{id}");
        assert_eq!(of(&['4', '5']), ["bytes".to_owned()].into(), "{id}");
        assert!(
            responses.contains_key("4XX") && responses.contains_key("5XX") && !responses.contains_key("default"),
            "{id}"
        );
    }
}

fn copy() -> Value {
    serde_json::from_str(&checked_in("claviger-3.0.json")).unwrap()
}
