//! What responses contain is extensible: later releases add words and members, and clients that are generated from this
//! release's document must decode them. Requests are not: the gateway refuses words and members that it does not know.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::schemas::referred;

/// The documented values of a string that may have others.
pub(super) const WORDS: &str = "x-extensible-enum";
const LATER: &str = " Later releases may add words.";

/// Makes each schema that `responses` refer to extensible, also one that requests share with them, and closes the others.
pub(super) fn extend(schemas: &mut Map<String, Value>, responses: &[&Value]) {
    let of_responses = referenced(schemas, responses);
    for (name, schema) in schemas {
        let open = of_responses.contains(name);
        let Some(object) = schema.as_object_mut() else { continue };
        if open && let Some(words) = object.remove("enum") {
            object.insert(WORDS.to_owned(), words);
            let text = object.get("description").and_then(Value::as_str).unwrap_or_default();
            let text = match text.split_once("\n\n") {
                Some((about, words)) => format!("{about}{LATER}\n\n{words}"),
                None => format!("{text}{LATER}"),
            };
            object.insert("description".to_owned(), json!(text));
        }
        if object.get("properties").is_some_and(Value::is_object) {
            match open {
                true => object.remove("additionalProperties"),
                false => object.insert("additionalProperties".to_owned(), json!(false)),
            };
        }
    }
}

/// The names of the schemas that these values refer to, directly or through other schemas.
fn referenced(schemas: &Map<String, Value>, from: &[&Value]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut left = from.to_vec();
    while let Some(value) = left.pop() {
        if let Some(name) = referred(value)
            && names.insert(name.to_owned())
        {
            left.extend(schemas.get(name));
        }
        match value {
            Value::Object(members) => left.extend(members.values()),
            Value::Array(items) => left.extend(items),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    names
}
