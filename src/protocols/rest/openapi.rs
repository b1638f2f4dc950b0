//! The OpenAPI 3.1 document, generated from the routes' entries. What every operation has in common
//! (credential, request headers, failures) is added here.

use std::sync::LazyLock;

use http::Method;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::endpoints::routes;
use super::errors::Problem;
use super::readiness::Readiness;
use super::route::{Route, reference};

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
    components(schemas(Problem, Readiness, super::types::Empty))
)]
struct Document;

/// The OpenAPI document as JSON text: what `/openapi.json` and `claviger openapi` give out.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // A JSON value can always be written.
        let mut text = serde_json::to_string_pretty(&value()).unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}

fn value() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["security"] = json!([{"bearer": []}]);
    document["components"]["securitySchemes"] =
        json!({"bearer": {"type": "http", "scheme": "bearer", "description": "An API token (clv_...)."}});
    for route in routes() {
        let schemas = document["components"]["schemas"].as_object_mut();
        let operation = operation(route, schemas.unwrap_or(&mut Map::new()));
        document["paths"][route.path][route.method.as_str().to_ascii_lowercase()] = operation;
    }
    service_paths(&mut document);
    document
}

fn operation(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut operation = json!({
        "operationId": route.operation_id,
        "tags": [route.tag],
        "summary": route.summary,
        "parameters": parameters(route),
        "responses": responses(route, schemas),
    });
    if let Some(body) = route.request {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": (body.schema)(schemas)}}});
        if body.required {
            operation["requestBody"]["required"] = json!(true);
        }
    }
    operation
}

fn parameters(route: &Route) -> Vec<Value> {
    let parameter = |name: &str, place: &str, required: bool, schema: Value, description: &str| json!({"name": name, "in": place, "required": required, "schema": schema, "description": description});
    let header = |name: &str, schema: Value, description: &str| parameter(name, "header", false, schema, description);
    let names = route
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = names
        .map(|name| match name {
            "token" => parameter(
                name,
                "path",
                true,
                json!({"type": "string", "pattern": "^[0-9a-f]{32}$"}),
                "The token's id.",
            ),
            name => parameter(name, "path", true, reference("Name"), &format!("The {name}'s name.")),
        })
        .collect();
    all.extend(
        route
            .if_match
            .map(|description| parameter("If-Match", "header", true, json!({"type": "string"}), description)),
    );
    let query = route.query.iter();
    all.extend(query.map(|param| parameter(param.name, "query", false, (param.schema)(), param.description)));
    all.extend([
        header(
            "Claviger-Tenant",
            json!({"type": "string"}),
            "Platform operators only: the tenant to act for.",
        ),
        header(
            "Claviger-Timeout",
            json!({"type": "string", "pattern": "^([1-9][0-9]{2,6}ms|[1-9][0-9]{0,3}s)$"}),
            "Shortens the deadline, for instance 800ms; at least 100ms.",
        ),
        header(
            "Claviger-Justification",
            json!({"type": "string", "maxLength": 256, "pattern": "^[ -~]*$"}),
            "Why, for the record.",
        ),
    ]);
    if route.repeatable {
        all.push(header(
            "Idempotency-Key",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
            "Repeating the request with the same key gives the same answer, for 24 hours.",
        ));
    }
    all
}

fn responses(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut responses = Map::new();
    for response in route.responses.iter().flatten() {
        let mut described = json!({
            "description": response.description,
            "headers": {
                "X-Request-Id": {"schema": {"type": "string"}, "description": "The gateway's id of the request."},
                "Claviger-Audit-Index": {"schema": {"type": "string"}, "description": "The place of its record; on a batch each item has its own."}
            }
        });
        if let Some(schema) = response.schema {
            described["content"] = json!({"application/json": {"schema": schema(schemas)}});
        }
        responses.insert(response.status.to_string(), described);
    }
    for (status, description) in failures(route) {
        responses.insert(
            status.to_string(),
            json!({
                "description": description,
                "content": {"application/problem+json": {"schema": reference("Problem")}}
            }),
        );
    }
    responses.into()
}

/// The failures that an operation can answer, by status.
fn failures(route: &Route) -> Vec<(u16, &'static str)> {
    let method = &route.method;
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
    if route.can_lose {
        statuses.push((412, "A change that arrived meanwhile stands."));
    }
    if route.opens_wrapped_keys {
        statuses.push((422, "The wrapped key does not open here under this key and context."));
    }
    statuses
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
