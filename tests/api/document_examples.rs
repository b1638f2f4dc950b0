//! Everything in the document has a description and an example, and the examples are what the gateway takes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::document_rules::{each_schema, operations, the_file};
use crate::support::Api;

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn has_text(value: &Value) -> bool {
    value["description"].as_str().is_some_and(|text| text.len() > 3)
}

/// A body or a parameter has one or several examples, a schema a list of them.
fn has_example(value: &Value) -> bool {
    let several = match &value["examples"] {
        Value::Array(examples) => !examples.is_empty(),
        Value::Object(examples) => !examples.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    several || value.get("example").is_some_and(|example| !example.is_null())
}

#[test]
fn every_schema_and_member_has_a_description_and_an_example() {
    let document = the_file();
    let mut lacking = Vec::new();
    for (name, schema) in members(&document["components"]["schemas"]) {
        if !has_text(schema) || !has_example(schema) {
            lacking.push(name.clone());
        }
        each_schema(name, schema, &mut |place, schema| {
            for (member, within) in members(&schema["properties"]) {
                // The description of a choice between an object and null is the object's.
                let described = has_text(within) || has_text(&within["oneOf"][0]) || has_text(&within["oneOf"][1]);
                if !described || !has_example(within) {
                    lacking.push(format!("{place}.{member}"));
                }
            }
        });
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
}

#[test]
fn every_operation_body_parameter_and_header_has_a_description_and_an_example() {
    let document = the_file();
    let mut lacking = Vec::new();
    let mut check = |place: String, fits: bool| {
        if !fits {
            lacking.push(place);
        }
    };
    for part in ["parameters", "headers"] {
        for (name, shared) in members(&document["components"][part]) {
            check(format!("{part}/{name}"), has_text(shared) && has_example(shared));
        }
    }
    let problem = &document["components"]["responses"]["Problem"];
    check("Problem".to_owned(), has_text(problem));
    check(
        "Problem's body".to_owned(),
        has_example(&problem["content"]["application/problem+json"]),
    );
    for (id, _, operation) in operations(&document) {
        check(id.clone(), has_text(&operation) && operation["summary"].is_string());
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let shared = parameter["$ref"].is_string();
            check(
                format!("{id}: {parameter}"),
                shared || (has_text(parameter) && has_example(parameter)),
            );
        }
        let body = &operation["requestBody"];
        check(format!("{id}: body"), body.is_null() || has_text(body));
        let bodies = members(&body["content"]).chain(
            members(&operation["responses"])
                .filter(|(status, _)| *status != "default")
                .flat_map(|(_, response)| members(&response["content"])),
        );
        for (kind, body) in bodies {
            check(format!("{id}: {kind}"), has_example(body));
        }
        for (status, response) in members(&operation["responses"]).filter(|(status, _)| *status != "default") {
            check(format!("{id}: {status}"), has_text(response));
        }
    }
    assert!(lacking.is_empty(), "{lacking:#?}");
}

/// One of each provider that this release includes, with an example of its settings.
fn connections(document: &Value) -> Vec<(String, Value, Value)> {
    let create = &document["components"]["schemas"]["CreateConnection"];
    assert_eq!(create["discriminator"]["propertyName"], "provider");
    let mapping = members(&create["discriminator"]["mapping"]);
    let all = mapping.map(|(provider, reference)| {
        assert!(
            create["oneOf"].as_array().unwrap().contains(&json!({"$ref": reference})),
            "{reference}"
        );
        let schema = document.pointer(reference.as_str().unwrap().trim_start_matches('#')).unwrap();
        assert_eq!(schema["properties"]["provider"]["const"], provider.as_str());
        let settings = schema["properties"]["settings"]["$ref"].as_str().unwrap();
        let settings = document.pointer(settings.trim_start_matches('#')).unwrap();
        (provider.clone(), schema["examples"][0].clone(), settings.clone())
    });
    all.collect()
}

#[tokio::test]
async fn each_provider_has_typed_settings_and_takes_no_others() {
    let document = the_file();
    let api = Api::start().await;
    let all = connections(&document);
    assert_eq!(all.len(), 7);
    for (provider, example, settings) in all {
        assert_eq!(settings["additionalProperties"], false, "{provider}");
        let refused = async |member: &str, value: Value| {
            let mut body = example.clone();
            body["settings"][member] = value;
            let answer = api.client.post("/v1/connections", &body).await;
            answer.expect_problem(400, "invalid_request")["errors"].clone()
        };
        let of = |errors: &Value, member: &str| {
            let pointer = format!("/settings/{member}");
            let found = errors.as_array().unwrap().iter();
            let found: Vec<Value> = found
                .filter(|error| error["pointer"] == pointer)
                .map(|error| error["expected"].clone())
                .collect();
            found
        };
        // A member that the document has is refused for its value, another one for its name.
        let unknown = of(&refused("surprise", json!([])).await, "surprise");
        for (member, _) in members(&settings["properties"]) {
            let wrong = refused(member, json!([])).await;
            let expected = of(&wrong, member);
            assert!(!expected.is_empty() && expected != unknown, "{provider}.{member}: {wrong}");
        }
        for member in settings["required"].as_array().into_iter().flatten() {
            let mut body = example.clone();
            body["settings"].as_object_mut().unwrap().remove(member.as_str().unwrap());
            let answer = api.client.post("/v1/connections", &body).await;
            answer.expect_problem(400, "invalid_request");
        }
    }
}

#[tokio::test]
async fn the_examples_of_settings_make_connections() {
    let document = the_file();
    let api = Api::start().await;
    for (provider, example, _) in connections(&document) {
        let answer = api.client.post("/v1/connections", &example).await;
        match provider.as_str() {
            // `embedded` exists.
            "local" => answer.expect_problem(409, "already_exists"),
            // Its keys and certificates are no real ones, and its hosts do not exist: nothing else is wrong.
            _ if answer.status == 400 => {
                for error in answer.body["errors"].as_array().unwrap() {
                    let pointer = error["pointer"].as_str().unwrap();
                    let known = ["/certificate", "/key", "/private_key"];
                    assert!(known.iter().any(|end| pointer.ends_with(end)), "{provider}: {error}");
                }
                answer.body
            }
            _ => answer.expect_status(201),
        };
    }
}

#[tokio::test]
async fn examples_of_bodies_are_taken() {
    let document = the_file();
    let api = Api::with_key().await;
    api.client
        .post("/v1/principals", &json!({"name": "indexer"}))
        .await
        .expect_status(201);
    for (id, path, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"]["example"];
        if body.is_null() {
            continue;
        }
        let places = [("{key}", "orders"), ("{connection}", "embedded"), ("{principal}", "indexer")];
        let path = places.iter().fold(path, |path, (place, name)| path.replace(place, name));
        let method = if id.starts_with("update") { Method::PATCH } else { Method::POST };
        let request = api.client.request(method, &path).header("if-match", "*").json(body);
        let answer = api.client.send(request).await;
        // What it says may be wrong here; how it says that is not.
        assert_ne!(answer.body["code"], "invalid_request", "{id}: {}", answer.text);
    }
}
