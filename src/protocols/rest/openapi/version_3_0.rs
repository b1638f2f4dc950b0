//! The document in OpenAPI 3.0.3, for tools that read no 3.1. It says the same, as far as 3.0 can.

use serde_json::{Map, Value, json};

use super::schemas::{beside_null, referred};

/// Converts the document.
pub(super) fn convert(mut document: Value) -> Value {
    document["openapi"] = json!("3.0.3");
    if let Some(license) = document["info"]["license"].as_object_mut() {
        license.remove("identifier");
        license.insert("url".to_owned(), json!("https://www.apache.org/licenses/LICENSE-2.0"));
    }
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    if let Some(converted) = document["components"]["schemas"].as_object_mut() {
        converted.values_mut().for_each(|schema| convert_schema(schema, &schemas));
    }
    for path in document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        for operation in path.as_object_mut().into_iter().flat_map(Map::values_mut) {
            name_failures(&mut operation["responses"]);
        }
    }
    convert_within(&mut document["paths"], &schemas);
    for part in ["parameters", "headers", "responses"] {
        convert_within(&mut document["components"][part], &schemas);
    }
    document
}

/// Replaces `default` by the statuses of failures, and `application/json` beside problems by `application/*`, which says the
/// same: progenitor, which reads 3.0 only, takes `default` for a success as well, and has one type for all successes of an
/// operation and one for its failures. It knows only the type of an `application/json`; problems are bytes to it.
fn name_failures(responses: &mut Value) {
    let Some(responses) = responses.as_object_mut() else { return };
    if let Some(failure) = responses.remove("default") {
        responses.insert("4XX".to_owned(), failure.clone());
        responses.insert("5XX".to_owned(), failure);
    }
    for response in responses.values_mut() {
        let Some(content) = response.get_mut("content").and_then(Value::as_object_mut) else {
            continue;
        };
        if content.contains_key("application/problem+json")
            && let Some(body) = content.remove("application/json")
        {
            content.insert("application/*".to_owned(), body);
        }
    }
}

/// Converts the schemas outside of the components.
fn convert_within(value: &mut Value, all: &Map<String, Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "schema" => convert_schema(member, all),
                    // Values, not schemas.
                    "example" | "examples" => {}
                    _ => convert_within(member, all),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| convert_within(item, all)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn convert_schema(schema: &mut Value, all: &Map<String, Value>) {
    let or_null = beside_null(schema);
    let Some(object) = schema.as_object_mut() else { return };
    for member in object.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        convert_schema(member.1, all);
    }
    for within in ["items", "additionalProperties"] {
        if let Some(inner) = object.get_mut(within) {
            convert_schema(inner, all);
        }
    }
    for choice in object.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
        convert_schema(choice, all);
    }
    if let Some(Value::Array(examples)) = object.remove("examples")
        && let Some(example) = examples.into_iter().next()
    {
        object.insert("example".to_owned(), example);
    }
    // 3.0 has no list of types, and no type null.
    if let Some(Value::Array(kinds)) = object.get("type").cloned() {
        let kind = kinds.into_iter().find(|kind| kind != "null").unwrap_or_default();
        object.insert("type".to_owned(), kind);
        object.insert("nullable".to_owned(), json!(true));
    }
    if let Some(one) = &or_null {
        object.remove("oneOf");
        object.extend(one.as_object().cloned().unwrap_or_default());
        object.insert("nullable".to_owned(), json!(true));
        // Without a type beside it `nullable` means nothing.
        let kind = referred(one).and_then(|name| all.get(name)).map(|schema| schema["type"].clone());
        object.insert("type".to_owned(), kind.unwrap_or_default());
    }
    if let Some(value) = object.remove("const") {
        object.insert("enum".to_owned(), json!([value]));
    }
    // Beside a reference 3.0 ignores everything.
    if object.len() > 1
        && let Some(reference) = object.remove("$ref")
    {
        object.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
}
