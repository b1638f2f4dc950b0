//! The form of the document's schemas. The types in Rust give names, members and texts; generated clients are better for
//! a few things that their schemas say in another way:
//!
//! - an object is one schema, not one that consists of others;
//! - a member that may be left out is not nullable as well: for the gateway, null is the same there;
//! - text that may be null is a text that may be null, not a choice of two schemas.

use serde_json::{Map, Value, json};

use super::extensible::WORDS;

/// Says of an optional member that null means something else than leaving it out.
const NULL_REMOVES: &str = "x-null-removes";

/// Brings all schemas into their form.
pub(super) fn finish(schemas: &mut Map<String, Value>) {
    let before = schemas.clone();
    for schema in schemas.values_mut() {
        if schema["allOf"].is_array() {
            *schema = merged(schema, &before);
        }
        finish_schema(schema, &before);
    }
}

/// The name of the schema that a reference leads to.
pub(super) fn referred(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/components/schemas/")
}

/// The object that consists of others, as one.
fn merged(schema: &Value, all: &Map<String, Value>) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in schema["allOf"].as_array().into_iter().flatten() {
        let part = referred(part).and_then(|name| all.get(name)).unwrap_or(part);
        properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
        required.extend(part["required"].as_array().cloned().unwrap_or_default());
    }
    json!({"type": "object", "description": schema["description"], "properties": properties, "required": required})
}

fn finish_schema(schema: &mut Value, all: &Map<String, Value>) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let required = |name: &str| required.as_array().into_iter().flatten().any(|known| known == name);
    let Some(object) = schema.as_object_mut() else { return };
    // It only says that names are texts.
    object.remove("propertyNames");
    if let Some(example) = object.remove("example") {
        object.insert("examples".to_owned(), json!([example]));
    }
    let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, member) in properties {
        if let Some(member) = member.as_object_mut() {
            member.remove("propertyNames");
        }
        if !required(name) && member.get(NULL_REMOVES).is_none() {
            without_null(member);
        } else if let Some(text) = nullable_text(member, all) {
            *member = text;
        }
    }
}

/// What a choice between null and a schema leaves.
pub(super) fn beside_null(member: &Value) -> Option<Value> {
    let choices = member.get("oneOf")?.as_array()?;
    let is_null = |choice: &&Value| choice["type"] == "null";
    let others: Vec<&Value> = choices.iter().filter(|choice| !is_null(choice)).collect();
    match (others.as_slice(), choices.len()) {
        ([other], 2) => Some((*other).clone()),
        _ => None,
    }
}

fn without_null(member: &mut Value) {
    if let Some(other) = beside_null(member) {
        *member = other;
    }
    let kinds = member["type"].as_array().into_iter().flatten();
    let kinds: Vec<Value> = kinds.filter(|kind| *kind != "null").cloned().collect();
    if let [kind] = kinds.as_slice() {
        member["type"] = kind.clone();
    }
}

/// The schema of a member that is a text by a name of its own, or null.
fn nullable_text(member: &Value, all: &Map<String, Value>) -> Option<Value> {
    let other = beside_null(member)?;
    let text = all.get(referred(&other)?)?;
    if text["type"] != "string" || text.get("enum").is_some() {
        return None;
    }
    let mut text = text.clone();
    text["type"] = json!(["string", "null"]);
    text["description"] = other["description"].clone();
    if let Some(example) = text.as_object_mut()?.remove("example") {
        text["examples"] = json!([example]);
    }
    // A list of codes belongs to the schema of its own.
    text.as_object_mut()?.remove(WORDS);
    Some(text)
}
