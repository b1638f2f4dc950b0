//! The OpenAPI document, generated from the routes' entries and the types of their bodies. What the types cannot say is
//! added here: what all operations share ([`shared`]), and the form of the schemas ([`schemas`]).

mod create_connection;
mod examples;
mod extensible;
mod operations;
mod schemas;
mod shared;
mod version_3_0;

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::endpoints::routes;
use super::errors::Problem;
use super::keys::KeyStateFilter;
use super::readiness::{Liveness, Readiness};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Claviger",
        description = "One REST API to wrap, unwrap and rotate data keys with AWS KMS, Google Cloud KMS, Azure Key Vault, Vault and an embedded provider. Every request is recorded in the audit log.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers(
        (url = "/", description = "The gateway that serves this document."),
        (
            url = "https://{host}:{port}",
            description = "A gateway at its address.",
            variables(
                ("host" = (default = "localhost", description = "The gateway's name or address.")),
                ("port" = (default = "8420", description = "The port of the API."))
            )
        )
    ),
    tags(
        (name = "connections", description = "Connections to key providers: settings and credentials."),
        (name = "keys", description = "Logical keys, which wrap data keys. Each has versions at its provider."),
        (name = "data keys", description = "Generate, wrap, unwrap and rewrap data keys."),
        (name = "batch", description = "Up to 1000 data-key operations in one request."),
        (name = "access", description = "Tenants, principals and their tokens."),
        (name = "service", description = "The installation: its declared objects, health, metrics and this document.")
    ),
    components(schemas(Problem, Readiness, Liveness, KeyStateFilter))
)]
struct Document;

/// The OpenAPI document as JSON text, for `/openapi.json` and `claviger openapi`.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| text(&value()));
    &TEXT
}

/// The same document in OpenAPI 3.0.3, for `claviger openapi --version 3.0`.
pub fn document_3_0() -> String {
    text(&version_3_0::convert(value()))
}

fn text(document: &Value) -> String {
    // Serialising a JSON value cannot fail.
    let mut text = serde_json::to_string_pretty(document).unwrap_or_default();
    text.push('\n');
    text
}

fn value() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["security"] = json!([{"bearer": []}]);
    let mut components = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    let mut paths = Map::new();
    for route in routes() {
        let operation = operations::operation(route, &mut components);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation;
    }
    paths.append(&mut operations::service());
    create_connection::split(&mut components);
    schemas::finish(&mut components);
    let shared = shared::components();
    let operations = paths.values().filter_map(Value::as_object).flat_map(Map::values);
    let responses: Vec<&Value> = operations
        .map(|operation| &operation["responses"])
        .chain([&shared["responses"]])
        .collect();
    extensible::extend(&mut components, &responses);
    examples::add(&mut components);
    document["components"] = shared;
    document["paths"] = paths.into();
    examples::add_to_bodies(&mut document, &components);
    document["components"]["schemas"] = components.into();
    document
}
