//! Decodes JSON request bodies.
//!
//! Unknown members, duplicate names and trailing bytes are refused. The error contains the place and
//! the expected value, both from the schema in the OpenAPI document. It contains neither the parser's
//! message nor any value of the body, which may be a secret.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

/// A place in a body with an unusable value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// JSON pointer (RFC 6901); empty for the body itself.
    pub pointer: String,
    /// Description of the expected value.
    pub expected: String,
}

impl FieldError {
    /// An unusable value at this place, and the description of the expected one.
    pub fn new(pointer: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            expected: expected.into(),
        }
    }
}

/// Decodes a body.
///
/// # Errors
/// The first place whose value does not match the type. Deeply nested bodies are refused: every body
/// type is flatter than serde_json's limit of 128 levels.
pub fn decode<T: DeserializeOwned + ToSchema>(body: &[u8]) -> Result<T, FieldError> {
    let mut parser = serde_json::Deserializer::from_slice(body);
    match T::deserialize(AsObject(&mut parser)) {
        Ok(value) => match parser.end() {
            Ok(()) => Ok(value),
            Err(_) => Err(FieldError::new("", "one JSON value and nothing after it")),
        },
        Err(_) => Err(locate::<T>(body)),
    }
}

/// Decodes an unusable body a second time to find the place. Tracking the path costs more than the
/// decoding itself, so it is not done for the usual, valid body.
fn locate<T: DeserializeOwned + ToSchema>(body: &[u8]) -> FieldError {
    let mut parser = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    match T::deserialize(AsObject(serde_path_to_error::Deserializer::new(&mut parser, &mut track))) {
        Err(error) => explain::<T>(&track.path(), &error),
        // Unreachable: the same bytes were refused before.
        Ok(_) => FieldError::new("", describe(&Schemas::of::<T>().root)),
    }
}

/// Decodes an optional struct from an object or null only. For serde's `deserialize_with`.
///
/// By default serde also decodes a struct from an array, member by member. [`decode`] prevents that for
/// the body itself; each struct within a body needs this function.
pub fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(d: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(d)?.map(|object| object.0))
}

/// A struct that is decoded from an object only.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        T::deserialize(AsObject(d)).map(Self)
    }
}

/// A deserializer that accepts only an object, whatever type is requested.
struct AsObject<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for AsObject<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

fn explain<T: ToSchema>(path: &serde_path_to_error::Path, error: &serde_json::Error) -> FieldError {
    use serde_json::error::Category;
    match error.classify() {
        Category::Eof | Category::Syntax | Category::Io => FieldError::new("", "well-formed JSON, at most 128 levels deep"),
        Category::Data => {
            let schemas = Schemas::of::<T>();
            let (pointer, place) = schemas.walk(path);
            FieldError {
                pointer,
                expected: describe(place),
            }
        }
    }
}

/// The schema of a body, and the schemas that it refers to by name.
struct Schemas {
    root: Value,
    others: BTreeMap<String, Value>,
}

impl Schemas {
    fn of<T: ToSchema>() -> Self {
        let value = |schema: &RefOr<Schema>| serde_json::to_value(schema).unwrap_or_default();
        let mut others = Vec::new();
        T::schemas(&mut others);
        Self {
            root: value(&T::schema()),
            others: others.iter().map(|(name, schema)| (name.clone(), value(schema))).collect(),
        }
    }

    /// Follows the path as far as the schema has its names. A name that is not in the schema comes from
    /// the caller, so it is not returned.
    fn walk(&self, path: &serde_path_to_error::Path) -> (String, &Value) {
        use serde_path_to_error::Segment;
        let mut pointer = String::new();
        let mut at = self.resolve(&self.root);
        for segment in path {
            let next = match segment {
                Segment::Map { key } => at
                    .get("properties")
                    .and_then(|properties| properties.get(key))
                    .map(|next| (key.clone(), next)),
                Segment::Seq { index } => at.get("items").map(|next| (index.to_string(), next)),
                Segment::Enum { .. } | Segment::Unknown => None,
            };
            let Some((name, schema)) = next else { break };
            pointer.push('/');
            pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
            at = self.resolve(schema);
        }
        (pointer, at)
    }

    /// Follows `$ref`, and `oneOf: [null, X]` to its X.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let mut at = schema;
        // References of the document never nest deeper than its types do.
        for _ in 0..16 {
            if let Some(name) = at.get("$ref").and_then(Value::as_str) {
                match self.others.get(name.trim_start_matches("#/components/schemas/")) {
                    Some(next) => at = next,
                    None => return at,
                }
            } else if let Some(Value::Array(options)) = at.get("oneOf")
                && let Some(next) = options
                    .iter()
                    .find(|option| option.get("type").and_then(Value::as_str) != Some("null"))
                && options.len() == 2
            {
                at = next;
            } else {
                return at;
            }
        }
        at
    }
}

fn describe(schema: &Value) -> String {
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.clone(),
        Some(Value::Array(kinds)) => kinds
            .iter()
            .filter_map(Value::as_str)
            .filter(|kind| *kind != "null")
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "value".to_owned(),
    };
    if let Some(Value::Array(words)) = schema.get("enum") {
        let words: Vec<String> = words
            .iter()
            .filter(|word| !word.is_null())
            .map(|word| word.to_string().trim_matches('"').to_owned())
            .collect();
        return format!("one of {}", words.join(", "));
    }
    if kind == "object" {
        let names = |member: &str| match schema.get(member) {
            Some(Value::Object(properties)) => properties.keys().cloned().collect::<Vec<_>>(),
            Some(Value::Array(required)) => required.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let (all, required) = (names("properties"), names("required"));
        if all.is_empty() {
            return "an object of names and string values, no name twice".to_owned();
        }
        let needed = if required.is_empty() {
            String::new()
        } else {
            format!("; required: {}", required.join(", "))
        };
        return format!("an object with no members but {}, none twice{needed}", all.join(", "));
    }
    match schema
        .get("description")
        .and_then(Value::as_str)
        .and_then(|text| text.lines().next())
    {
        Some(text) => format!("{kind}: {text}"),
        None => kind,
    }
}
