//! What clients that are generated from the document need of it. The rules are held against the file that is checked
//! in, which is what the gateway serves.

use std::collections::{BTreeMap, BTreeSet};

use claviger::broker::Code;
use claviger::envelope::MAX_TEXT;
use serde_json::{Value, json};

use crate::document::{checked_in, schemas_of};

pub fn the_file() -> Value {
    serde_json::from_str(&checked_in("claviger.json")).unwrap()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Each operation by its id, with its path.
pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, methods) in members(&document["paths"]) {
        for (_, operation) in members(methods) {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            all.push((id, path.clone(), operation.clone()));
        }
    }
    assert!(all.len() > 40);
    all
}

/// Calls `with` for a schema and each one in it, with their places.
pub fn each_schema(place: &str, schema: &Value, with: &mut impl FnMut(&str, &Value)) {
    with(place, schema);
    for (name, member) in members(&schema["properties"]) {
        each_schema(&format!("{place}.{name}"), member, with);
    }
    for within in ["items", "additionalProperties"] {
        if schema[within].is_object() {
            each_schema(&format!("{place}/{within}"), &schema[within], with);
        }
    }
    for choice in ["oneOf", "anyOf", "allOf"] {
        for (at, one) in items(&schema[choice]).enumerate() {
            each_schema(&format!("{place}/{choice}/{at}"), one, with);
        }
    }
}

/// Calls `with` for each schema of the document, with its place.
fn every_schema(document: &Value, with: &mut impl FnMut(&str, &Value)) {
    for (name, schema) in members(&document["components"]["schemas"]) {
        each_schema(name, schema, with);
    }
    let mut left = vec![("", &document["paths"])];
    left.extend(
        members(&document["components"])
            .filter(|(name, _)| *name != "schemas")
            .map(|(_, part)| ("", part)),
    );
    while let Some((name, value)) = left.pop() {
        match value {
            Value::Object(_) if name == "schema" => each_schema("(inline)", value, with),
            Value::Object(inner) => left.extend(inner.iter().map(|(name, value)| (name.as_str(), value))),
            Value::Array(inner) => left.extend(inner.iter().map(|value| ("", value))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn is_null(schema: &Value) -> bool {
    schema["type"] == "null"
}

#[test]
fn there_are_servers_and_each_operation_has_one_tag() {
    let document = the_file();
    assert_eq!(document["servers"][0]["url"], "/");
    assert!(items(&document["servers"]).all(|server| server["description"].is_string()));
    let tags: Vec<&str> = items(&document["tags"]).map(|tag| tag["name"].as_str().unwrap()).collect();
    assert_eq!(tags.iter().collect::<BTreeSet<_>>().len(), tags.len(), "{tags:?}");
    for (id, _, operation) in operations(&document) {
        let of_it: Vec<&str> = items(&operation["tags"]).map(|tag| tag.as_str().unwrap()).collect();
        assert!(of_it.len() == 1 && tags.contains(&of_it[0]), "{id}: {of_it:?}");
    }
}

#[test]
fn every_failure_is_the_one_default_response() {
    let document = the_file();
    for (id, path, operation) in operations(&document) {
        let responses = &operation["responses"];
        assert_eq!(responses["default"]["$ref"], "#/components/responses/Problem", "{id}");
        for (status, response) in members(responses).filter(|(status, _)| *status != "default") {
            // The one answer that is no success and not always a problem.
            let unready = path == "/readyz" && status == "503";
            assert!(status.starts_with('2') || unready, "{id}: {status}");
            assert_eq!(
                response["content"]["application/problem+json"].is_object(),
                unready,
                "{id}: {status}"
            );
        }
    }
    let problem = &document["components"]["responses"]["Problem"];
    assert!(problem["headers"]["Retry-After"].is_object());
    assert_eq!(
        problem["content"]["application/problem+json"]["schema"]["$ref"],
        "#/components/schemas/Problem"
    );
}

#[test]
fn headers_are_shared() {
    let document = the_file();
    let parameters = &document["components"]["parameters"];
    for (id, path, operation) in operations(&document) {
        let mut headers = Vec::new();
        for parameter in items(&operation["parameters"]) {
            match parameter["$ref"].as_str() {
                Some(reference) => headers.push(reference.rsplit('/').next().unwrap().to_owned()),
                // A filter of one list.
                None => assert_eq!(parameter["in"], "query", "{id}: {parameter}"),
            }
        }
        if path.starts_with("/v1/") {
            for name in ["Claviger-Tenant", "Claviger-Timeout", "Claviger-Justification"] {
                assert!(headers.iter().any(|known| known == name), "{id}: {name}");
                assert_eq!(parameters[name]["in"], "header");
                assert_eq!(parameters[name]["name"], name);
            }
        }
        for (status, response) in members(&operation["responses"]) {
            assert!(
                members(&response["headers"]).all(|(_, header)| header["$ref"].is_string()),
                "{id}: {status}"
            );
        }
    }
}

/// Operations that a client must not send again by itself when it lost the response: the second attempt fails because of
/// the first one, or does something at a provider again.
const NEVER_REPEATED: [&str; 6] = [
    "applyDeclared",
    "checkConnection",
    "deleteConnection",
    "deleteKey",
    "updateConnection",
    "updateKey",
];

#[test]
fn each_operation_says_whether_it_may_be_repeated() {
    let mut never = BTreeSet::new();
    for (id, path, operation) in operations(&the_file()) {
        let by_key = items(&operation["parameters"]).any(|parameter| parameter["$ref"] == "#/components/parameters/Idempotency-Key");
        let expected = operation["x-idempotency"].as_str().unwrap();
        assert!(["always", "key", "never"].contains(&expected), "{id}: {expected}");
        assert_eq!(by_key, expected == "key", "{id}: {expected}");
        // A GET changes nothing, and a revocation is carried out each time.
        let revokes = ["/disable", "/sever", "/suspend"].iter().any(|end| path.ends_with(end));
        if id.starts_with("get") || id.starts_with("list") || revokes {
            assert_eq!(expected, "always", "{id}");
        }
        if expected == "never" {
            never.insert(id);
        }
    }
    assert_eq!(never, NEVER_REPEATED.map(str::to_owned).into());
}

#[test]
fn limits_are_in_the_schemas() {
    let document = the_file();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["DataKeyBytes"]["enum"], json!([16, 24, 32, 48, 64]));
    let base64 = |bytes: u64| bytes.div_ceil(3) * 4;
    for name in ["WrapRequest", "WrapItem"] {
        let plaintext = &schemas[name]["properties"]["plaintext"];
        assert_eq!(
            (&plaintext["minLength"], &plaintext["maxLength"]),
            (&json!(4), &json!(base64(4096)))
        );
    }
    for name in ["UnwrapRequest", "UnwrapItem", "RewrapRequest", "RewrapItem"] {
        assert_eq!(schemas[name]["properties"]["wrapped"]["maxLength"], MAX_TEXT, "{name}");
    }
    let context = &schemas["ContextPairs"];
    let limits = json!({"name_bytes": 128, "value_bytes": 1024, "total_bytes": 2048, "reserved_prefix": "claviger:"});
    assert_eq!((&context["maxProperties"], &context["x-limits"]), (&json!(16), &limits));
    let labels = json!({"pairs": 64, "name_bytes": 63, "value_bytes": 256});
    assert_eq!(schemas["LabelMap"]["x-limits"], labels);
    for (id, path, operation) in operations(&document) {
        let body = operation["requestBody"].is_object();
        let most = if path.starts_with("/v1/batch/") { 16 << 20 } else { 64 << 10 };
        let expected = if body { json!({"body_bytes": most}) } else { Value::Null };
        assert_eq!(operation["x-limits"], expected, "{id}");
    }
    let page = &document["components"]["parameters"]["page_size"]["schema"];
    assert_eq!((&page["minimum"], &page["maximum"]), (&json!(1), &json!(1000)));
}

/// An object with members, a list of words or a choice that has no name: clients would have to invent one.
#[test]
fn every_model_has_a_name() {
    let mut unnamed = Vec::new();
    let is_named = |place: &str| !place.contains(['.', '/', '(']);
    every_schema(&the_file(), &mut |place, schema| {
        let choices = items(&schema["oneOf"]);
        // A schema with a name, and what is said of it beside.
        let parts = schema["allOf"]
            .as_array()
            .is_some_and(|parts| parts.len() > 1 || parts[0]["$ref"].is_null());
        let model = !schema["properties"].is_null()
            || !schema["enum"].is_null()
            || parts
            || !schema["anyOf"].is_null()
            || choices.filter(|choice| !is_null(choice)).count() > 1;
        if model && !is_named(place) {
            unnamed.push(place.to_owned());
        }
    });
    assert!(unnamed.is_empty(), "{unnamed:#?}");
}

/// A client that has to choose between schemas reads one member, and does not try them one after the other.
#[test]
fn a_choice_has_a_discriminator() {
    let document = the_file();
    let mut choices = 0;
    every_schema(&document, &mut |place, schema| {
        if items(&schema["oneOf"]).filter(|choice| !is_null(choice)).count() > 1 {
            choices += 1;
            let mapping = &schema["discriminator"]["mapping"];
            assert_eq!(members(mapping).count(), items(&schema["oneOf"]).count(), "{place}");
            let member = schema["discriminator"]["propertyName"].as_str().unwrap();
            for (value, reference) in members(mapping) {
                let one = document.pointer(reference.as_str().unwrap().trim_start_matches('#')).unwrap();
                let member = &one["properties"][member];
                assert_eq!(
                    (&member["type"], &member["const"]),
                    (&"string".into(), &value.as_str().into()),
                    "{reference}"
                );
            }
        }
        assert!(schema["anyOf"].is_null(), "{place}");
    });
    assert_eq!(choices, 1);
}

#[test]
fn an_item_of_a_batch_says_what_a_success_has() {
    let document = the_file();
    let schemas = &document["components"]["schemas"];
    for (item, single) in [
        ("GenerateItemResult", "DataKey"),
        ("WrapItemResult", "WrapResult"),
        ("UnwrapItemResult", "UnwrapResult"),
        ("RewrapItemResult", "RewrapResult"),
    ] {
        let (item, single) = (&schemas[item], &schemas[single]);
        assert_eq!(item["x-required-without-error"], single["required"]);
        assert!(item["required"].is_null(), "{item}");
        let names = |schema: &Value| {
            members(&schema["properties"])
                .map(|(name, _)| name.clone())
                .collect::<BTreeSet<_>>()
        };
        let own = ["audit_index", "error"].map(str::to_owned).into();
        assert_eq!(names(item), &names(single) | &own);
    }
}

/// Generators name what an operation returns after the operation, such as oapi-codegen: status, headers and body of `wrap`
/// are a `WrapResponse`.
#[test]
fn no_schema_has_the_name_of_an_operation_s_response() {
    let document = the_file();
    let names: Vec<String> = members(&document["components"]["schemas"])
        .map(|(name, _)| name.to_lowercase())
        .collect();
    for (id, _, _) in operations(&document) {
        let taken = format!("{id}Response").to_lowercase();
        assert!(!names.contains(&taken), "{id}");
    }
    assert!(names.iter().all(|name| !name.ends_with("response")), "{names:?}");
}

/// Members that are always there, and whose value is null instead of an object or a word.
const OBJECT_OR_NULL: [&str; 4] = [
    "Connection.problem",
    "JobStatus.last_error",
    "Recipient.provider",
    "SpecCapabilities.rotation",
];

/// Members that a request may leave out, where null means something else.
const NULL_REMOVES: [&str; 2] = ["NetworkSettings.ca", "NetworkSettings.proxy"];

#[test]
fn what_may_be_left_out_is_not_nullable_too() {
    let (mut choices, mut removes) = (BTreeSet::new(), BTreeSet::new());
    every_schema(&the_file(), &mut |place, schema| {
        for (name, member) in members(&schema["properties"]) {
            let place = format!("{place}.{name}");
            if items(&member["oneOf"]).any(is_null) {
                choices.insert(place.clone());
            }
            let nullable = items(&member["oneOf"]).any(is_null) || items(&member["type"]).any(|kind| kind == "null");
            if nullable && !items(&schema["required"]).any(|known| known == name) {
                removes.insert(place);
            }
        }
    });
    assert_eq!(choices, OBJECT_OR_NULL.map(str::to_owned).into());
    assert_eq!(removes, NULL_REMOVES.map(str::to_owned).into());
}

/// The words of a schema: a closed list of a request, or those of a response so far.
pub fn words(schema: &Value) -> impl Iterator<Item = &Value> {
    items(&schema["enum"]).chain(items(&schema["x-extensible-enum"]))
}

/// A client of this release's document decodes the responses of later releases, which have more words and members. The
/// gateway refuses unknown ones, so requests have none.
#[test]
fn responses_are_extensible_and_requests_are_not() {
    let document = the_file();
    let of_responses = schemas_of("responses");
    let (mut lists, mut objects) = ([0, 0], [0, 0]);
    for (name, schema) in members(&document["components"]["schemas"]) {
        let in_response = of_responses.contains(name) || ["Problem", "ProblemPlace", "ErrorCode"].contains(&name.as_str());
        if words(schema).next().is_some() {
            lists[usize::from(in_response)] += 1;
            assert_eq!(schema["enum"].is_null(), in_response, "{name}: {schema}");
            let text = schema["description"].as_str().unwrap();
            assert_eq!(text.contains("Later releases may add "), in_response, "{name}: {text}");
        }
        if schema["properties"].is_object() {
            objects[usize::from(in_response)] += 1;
            let expected = if in_response { Value::Null } else { Value::Bool(false) };
            assert_eq!(schema["additionalProperties"], expected, "{name}");
        }
        each_schema(name, schema, &mut |place, inner| {
            assert!(place == name || inner["enum"].is_null(), "{place}: a list without a name");
        });
    }
    assert!(
        lists[0] > 3 && lists[1] > 15 && objects.iter().all(|count| *count > 30),
        "{lists:?} {objects:?}"
    );
}

#[test]
fn words_are_listed_once() {
    let document = the_file();
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut places = BTreeMap::new();
    every_schema(&document, &mut |place, schema| {
        let mut words: Vec<String> = words(schema).map(Value::to_string).collect();
        words.sort();
        if !words.is_empty() {
            lists.entry(words.join(", ")).or_default().push(place.to_owned());
        }
        for (name, member) in members(&schema["properties"]) {
            let member = if member["items"].is_object() { &member["items"] } else { member };
            let member = items(&member["oneOf"]).find(|choice| !is_null(choice)).unwrap_or(member);
            let member = member["allOf"].get(0).unwrap_or(member);
            places.insert(format!("{place}.{name}"), member["$ref"].as_str().unwrap_or_default().to_owned());
        }
    });
    // The same words, and another meaning.
    lists.retain(|_, places| places.len() > 1);
    assert!(lists.is_empty(), "{lists:#?}");
    for (member, schema) in [
        ("provider", "ProviderName"),
        ("spec", "Spec"),
        ("operations", "Operation"),
        ("code", "ErrorCode"),
    ] {
        let with: Vec<_> = places.iter().filter(|(place, _)| place.ends_with(&format!(".{member}"))).collect();
        assert!(with.len() > 1, "{member}");
        for (place, reference) in with {
            // Text of the same form, and null; the one provider of a new connection.
            let of_choice = place.starts_with("Create") && place.ends_with("Connection.provider");
            if place != "CheckResult.code" && !of_choice {
                assert_eq!(*reference, format!("#/components/schemas/{schema}"), "{place}");
            }
        }
    }
}

#[test]
fn a_code_is_a_text_with_its_values_described() {
    let document = the_file();
    let code = &document["components"]["schemas"]["ErrorCode"];
    assert_eq!((code["type"].as_str(), &code["enum"]), (Some("string"), &Value::Null));
    let known: Vec<&str> = items(&code["x-extensible-enum"]).map(|code| code.as_str().unwrap()).collect();
    assert_eq!(known, Code::ALL.map(Code::as_str));
    let text = code["description"].as_str().unwrap();
    let data: Vec<&Value> = items(&code["x-error-codes"]).collect();
    assert_eq!(data.len(), known.len());
    for (data, code) in data.into_iter().zip(known) {
        assert_eq!(data["code"], code);
        let again = if data["retryable"].as_bool().unwrap() { ", retryable" } else { "" };
        let title = data["title"].as_str().unwrap();
        let line = format!("- `{code}`: {title} ({}{again})", data["status"]);
        assert!(text.lines().any(|known| known == line), "{line}");
    }
}

/// Every member that is a secret: bytes first, then text and what contains text.
const SECRETS: [&str; 31] = [
    "DataKey.plaintext",
    "GenerateItemResult.plaintext",
    "UnwrapItemResult.plaintext",
    "UnwrapResult.plaintext",
    "WrapItem.plaintext",
    "WrapRequest.plaintext",
    "AwsAccessKey.access_key_id",
    "AwsAccessKey.secret_access_key",
    "AwsAccessKey.session_token",
    "AzureClientCertificate.certificate",
    "AzureClientCertificate.key",
    "AzureClientSecret.secret",
    "AzureStaticToken.token",
    "AzureWorkloadIdentity.token",
    "ClientCertificate.certificate",
    "ClientCertificate.key",
    "CreatedToken.token",
    "GcpAuth.token",
    "GcpBase.token",
    "GcpServiceAccountKey.private_key",
    "GcpWorkloadIdentity.subject_token",
    "UpdateConnection.secrets",
    "VaultAppRole.secret_id",
    "VaultAuth.token",
    "VaultCertificate.certificate",
    "VaultCertificate.key",
    "VaultJwt.jwt",
    "XksAccessKey.access_key_id",
    "XksAccessKey.secret_access_key",
    "XksSigv4.access_key_id",
    "XksSigv4.secret_access_key",
];

#[test]
fn secrets_say_so() {
    let (mut secrets, mut bytes) = (BTreeSet::new(), BTreeSet::new());
    every_schema(&the_file(), &mut |place, schema| {
        if schema["x-secret"] == true {
            secrets.insert(place.to_owned());
        }
        if schema["format"] == "byte" {
            bytes.insert(place.to_owned());
        }
    });
    assert_eq!(secrets, SECRETS.map(str::to_owned).into());
    // The two other ones are no secrets: what a provider sees, and what it made.
    bytes.retain(|place| !["InspectResult.context_bytes", "Recipient.ciphertext"].contains(&place.as_str()));
    assert_eq!(bytes, SECRETS.map(str::to_owned).into_iter().take(6).collect());
}
