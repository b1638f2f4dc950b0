//! The examples of the document, from one table (`examples.json`). An example of an object is put together from those of
//! its required members, and of the optional ones that the table has for it.
//!
//! A line of the table is for a member of any schema (`etag`), for a member of one schema (`Key.etag`), or for a schema
//! (`Key`): there an object's members that differ from those lines, or that are not required.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::extensible::WORDS;
use super::schemas::referred;

static TABLE: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    // A test finds what has no example.
    serde_json::from_str(include_str!("examples.json")).unwrap_or_default()
});

/// Adds examples to all schemas and their members.
pub(super) fn add(schemas: &mut Map<String, Value>) {
    let all = schemas.clone();
    for (name, schema) in schemas {
        if let Some(example) = of_schema(name, &all) {
            schema["examples"] = json!([example]);
        }
        let members = schema.get_mut("properties").and_then(Value::as_object_mut);
        for (member, within) in members.into_iter().flatten() {
            if let Some(example) = of_member(name, member, within, &all) {
                within["examples"] = json!([example]);
            }
        }
    }
}

/// Adds examples to the bodies of an operation or a response: of the schemas that they refer to.
pub(super) fn add_to_bodies(value: &mut Value, schemas: &Map<String, Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match name.as_str() {
                    "application/json" | "application/problem+json" => of_body(member, schemas),
                    _ => add_to_bodies(member, schemas),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| add_to_bodies(item, schemas)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn of_body(body: &mut Value, schemas: &Map<String, Value>) {
    let Some(name) = referred(&body["schema"]).map(str::to_owned) else {
        return;
    };
    match schemas.get(&name).and_then(|schema| schema["discriminator"]["mapping"].as_object()) {
        // One of each kind.
        Some(mapping) => {
            let examples = mapping.iter().filter_map(|(kind, reference)| {
                let schema = json!({"$ref": reference});
                Some((kind.clone(), json!({"value": of_schema(referred(&schema)?, schemas)?})))
            });
            body["examples"] = Value::Object(examples.collect());
        }
        None => {
            if let Some(example) = of_schema(&name, schemas) {
                body["example"] = example;
            }
        }
    }
}

fn of_schema(name: &str, all: &Map<String, Value>) -> Option<Value> {
    let schema = all.get(name)?;
    let given = TABLE.get(name);
    let Some(members) = schema["properties"].as_object() else {
        return given.cloned().or_else(|| of_form(schema, all));
    };
    let mut object = Map::new();
    let required = schema["required"].as_array();
    for (member, within) in members {
        let value = match given.and_then(|given| given.get(member)) {
            Some(value) => value.clone(),
            None if required.is_some_and(|names| names.iter().any(|known| known == member)) => of_member(name, member, within, all)?,
            None => continue,
        };
        object.insert(member.clone(), value);
    }
    Some(object.into())
}

fn of_member(schema: &str, member: &str, within: &Value, all: &Map<String, Value>) -> Option<Value> {
    let in_object = TABLE.get(schema).and_then(|given| given.get(member));
    let given = TABLE.get(&format!("{schema}.{member}"));
    if let Some(value) = given.or(in_object.filter(|value| !value.is_null())) {
        return Some(value.clone());
    }
    // What a name means is in the table, unless the member's own schema says more.
    match referred(within).filter(|name| *name != "Name") {
        Some(_) => of_form(within, all),
        None => TABLE.get(member).cloned().or_else(|| of_form(within, all)),
    }
}

/// An example that follows from a schema alone.
fn of_form(schema: &Value, all: &Map<String, Value>) -> Option<Value> {
    if let Some(value) = schema
        .get("const")
        .or_else(|| schema["enum"].get(0))
        .or_else(|| schema["examples"].get(0))
        .or_else(|| schema[WORDS].get(0))
    {
        return Some(value.clone());
    }
    if let Some(name) = referred(schema) {
        return of_schema(name, all);
    }
    if let Some(choice) = schema["oneOf"].get(0) {
        return of_form(choice, all);
    }
    match schema["type"].as_str()? {
        "array" => Some(json!([of_form(&schema["items"], all)?])),
        "boolean" => Some(json!(false)),
        _ => None,
    }
}
