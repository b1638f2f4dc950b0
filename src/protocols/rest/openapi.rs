//! The OpenAPI 3.1 document, generated from the handlers and the router's table.
//!
//! What every operation has in common (credential, request headers, failures) is added
//! here from the table, so that no handler can forget it.

use http::Method;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::errors::Problem;
use super::route::{BATCH, Route};
use super::service::Readiness;
use super::{batch, capabilities, connections, data_keys, declared, inspect, keys, principals, tenants, tokens};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Claviger",
        description = "One REST API over key-management services: wrap, unwrap, rotate and record alike over all of them.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "connections", description = "How to reach one provider with one set of rights."),
        (name = "keys", description = "Logical keys: what wraps."),
        (name = "data keys", description = "Data keys: what is wrapped."),
        (name = "batch", description = "Up to 1000 data-key operations in one request."),
        (name = "access", description = "Tenants, principals and their tokens."),
        (name = "service", description = "The installation itself: what its configuration declares.")
    ),
    paths(
        connections::create, connections::list, connections::get, connections::update, connections::delete, connections::check,
        capabilities::get, connections::sever, connections::restore,
        keys::create, keys::list, keys::get, keys::update, keys::delete, keys::versions, keys::rotate, keys::enable, keys::disable,
        data_keys::generate, data_keys::wrap, data_keys::unwrap, data_keys::rewrap, data_keys::unwrap_any, inspect::inspect,
        batch::generate, batch::wrap, batch::unwrap, batch::rewrap,
        tenants::create, tenants::list, tenants::get, declared::plan, declared::apply,
        principals::create, principals::list, principals::get, principals::delete,
        tokens::create, tokens::list, tokens::delete,
    ),
    components(schemas(Problem, Readiness, super::types::Empty))
)]
struct Document;

/// The document of these routes.
pub fn document(routes: &[&Route]) -> Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["security"] = json!([{"bearer": []}]);
    document["components"]["securitySchemes"] =
        json!({"bearer": {"type": "http", "scheme": "bearer", "description": "An API token (clv_...)."}});
    for route in routes {
        let method = route.method.as_str().to_ascii_lowercase();
        let Some(operation) = document["paths"][route.path].get_mut(&method).and_then(Value::as_object_mut) else {
            continue;
        };
        plain_body(operation);
        add_headers(operation, &route.method, route.path);
        add_failures(operation, &route.method, route.path, route.body == BATCH);
    }
    service_paths(&mut document);
    document
}

/// A body that may be left out: utoipa also says of it that it may be `null`, which is refused.
fn plain_body(operation: &mut Map<String, Value>) {
    let Some(schema) = operation
        .get_mut("requestBody")
        .and_then(|body| body.pointer_mut("/content/application~1json/schema"))
    else {
        return;
    };
    if let Some(body) = schema.pointer("/oneOf/0").cloned() {
        *schema = body;
    }
}

fn add_headers(operation: &mut Map<String, Value>, method: &Method, path: &str) {
    let text = |name: &str, schema: Value, description: &str| json!({"name": name, "in": "header", "required": false, "schema": schema, "description": description});
    let mut headers = vec![
        text(
            "Claviger-Tenant",
            json!({"type": "string"}),
            "Platform operators only: the tenant to act for.",
        ),
        text(
            "Claviger-Timeout",
            json!({"type": "string", "pattern": "^([1-9][0-9]{2,6}ms|[1-9][0-9]{0,3}s)$"}),
            "Shortens the deadline, for instance 800ms; at least 100ms.",
        ),
        text(
            "Claviger-Justification",
            json!({"type": "string", "maxLength": 256, "pattern": "^[ -~]*$"}),
            "Why, for the record.",
        ),
    ];
    if *method == Method::POST && is_control_plane(path) {
        headers.push(text(
            "Idempotency-Key",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
            "Repeating the request with the same key gives the same answer, for 24 hours.",
        ));
    }
    if let Some(parameters) = operation.entry("parameters").or_insert_with(|| json!([])).as_array_mut() {
        parameters.extend(headers);
    }
}

/// Control-plane POSTs: everything but the data operations, a check, and what is declared,
/// which may be repeated as it is.
fn is_control_plane(path: &str) -> bool {
    const DATA: [&str; 7] = ["/data-keys", "/wrap", "/unwrap", "/rewrap", "/inspect", "/check", "/capabilities"];
    !DATA.iter().any(|end| path.ends_with(end)) && !path.starts_with("/v1/declared/")
}

fn add_failures(operation: &mut Map<String, Value>, method: &Method, path: &str, batch: bool) {
    let mut statuses = vec![
        (400, "The request cannot be used as it is."),
        (401, "No valid credential."),
        (403, "Not permitted."),
        (404, "No such object, told to one who would be permitted."),
        (413, "Too large."),
        (429, "Throttled, here or at the provider."),
        (500, "A fault of the gateway's."),
        (503, "Something that is needed is not available now."),
        (504, "No answer before the deadline."),
    ];
    if *method != Method::GET {
        statuses.extend([
            (409, "The object's state forbids it."),
            (424, "The provider, or the external key manager, refuses."),
            (501, "The provider cannot do this."),
            (502, "The provider's answer makes no sense."),
        ]);
    }
    if [Method::POST, Method::PATCH].contains(method) {
        statuses.push((415, "The body is not application/json."));
    }
    if *method == Method::PATCH {
        statuses.push((412, "The object changed since the given etag."));
    }
    if !batch && ["/unwrap", "/rewrap", "/inspect"].iter().any(|end| path.ends_with(end)) {
        statuses.push((422, "The wrapped key does not open here under this key and context."));
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for (_, response) in responses.iter_mut() {
        response["headers"] = json!({
            "X-Request-Id": {"schema": {"type": "string"}, "description": "The gateway's id of the request."},
            "Claviger-Audit-Index": {"schema": {"type": "string"}, "description": "The place of its record; on a batch each item has its own."}
        });
    }
    for (status, description) in statuses {
        responses.insert(
            status.to_string(),
            json!({
                "description": description,
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            }),
        );
    }
}

fn service_paths(document: &mut Value) {
    let operation = |id: &str, summary: &str, responses: Value| json!({"get": {"operationId": id, "summary": summary, "tags": ["service"], "security": [], "responses": responses}});
    let ok = |kind: &str, schema: Value| json!({"description": "The answer.", "content": {kind: {"schema": schema}}});
    let readiness = json!({"$ref": "#/components/schemas/Readiness"});
    let paths = &mut document["paths"];
    paths["/healthz"] = operation(
        "getHealth",
        "Whether the process is alive.",
        json!({"200": ok("application/json", json!({"type": "object"}))}),
    );
    paths["/readyz"] = operation(
        "getReadiness",
        "Whether requests are served, part by part.",
        json!({"200": ok("application/json", readiness.clone()), "503": ok("application/json", readiness)}),
    );
    paths["/metrics"] = operation(
        "getMetrics",
        "Prometheus metrics.",
        json!({"200": ok("text/plain", json!({"type": "string"}))}),
    );
    paths["/openapi.json"] = operation(
        "getOpenapi",
        "This document.",
        json!({"200": ok("application/json", json!({"type": "object"}))}),
    );
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.push(json!({"name": "service", "description": "Health, metrics and the document."}));
    }
}
