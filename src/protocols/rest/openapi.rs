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
        description = "One REST API to wrap, unwrap and rotate data keys with AWS KMS, Google Cloud KMS, Azure Key Vault, Vault and an embedded provider. Every request is recorded in the audit log.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "connections", description = "Connections to key providers: settings and credentials."),
        (name = "keys", description = "Logical keys, which wrap data keys. Each has versions at its provider."),
        (name = "data keys", description = "Generate, wrap, unwrap and rewrap data keys."),
        (name = "batch", description = "Up to 1000 data-key operations in one request."),
        (name = "access", description = "Tenants, principals and their tokens."),
        (name = "service", description = "The installation: its declared objects, health, metrics and this document.")
    ),
    components(schemas(Problem, Readiness, super::types::Empty))
)]
struct Document;

/// The OpenAPI document as JSON text, for `/openapi.json` and `claviger openapi`.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // Serialising a JSON value cannot fail.
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
            "For platform operators: the name of the tenant to act for.",
        ),
        header(
            "Claviger-Timeout",
            json!({"type": "string", "pattern": "^([1-9][0-9]{2,6}ms|[1-9][0-9]{0,3}s)$"}),
            "A shorter deadline than the default, such as 800ms; at least 100ms.",
        ),
        header(
            "Claviger-Justification",
            json!({"type": "string", "maxLength": 256, "pattern": "^[ -~]*$"}),
            "The reason for the request, for the audit record.",
        ),
    ]);
    if route.repeatable {
        all.push(header(
            "Idempotency-Key",
            json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
            "For 24 hours, a repeated request with the same key gets the response to the first one.",
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
                "X-Request-Id": {"schema": {"type": "string"}, "description": "The request's id, generated by the gateway."},
                "Claviger-Audit-Index": {"schema": {"type": "string"}, "description": "The place of the request's record in the audit log. In a batch, each item has an `audit_index` instead."}
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

/// The statuses of failures that an operation can return, with descriptions.
fn failures(route: &Route) -> Vec<(u16, &'static str)> {
    let method = &route.method;
    let mut statuses = vec![
        (400, "The request is malformed or has an invalid value."),
        (401, "No valid credential."),
        (403, "The credential does not allow this."),
        (404, "The object does not exist. Callers without permission get 403 instead."),
        (413, "The body is too large."),
        (429, "Too many requests, at the gateway or at the provider."),
        (500, "Internal error, or a connection that is configured wrongly."),
        (503, "The gateway, its audit log or the provider is unavailable."),
        (504, "The deadline passed before the request was finished."),
    ];
    if *method != Method::GET {
        statuses.extend([
            (409, "The object's state does not allow this."),
            (424, "The provider or the external key manager denied the call."),
            (501, "The provider does not support this."),
            (502, "The provider's response is malformed."),
        ]);
    }
    if [Method::POST, Method::PATCH].contains(method) {
        statuses.push((415, "The body is not application/json."));
    }
    if *method == Method::PATCH {
        statuses.push((412, "The object has changed since the etag in `If-Match`."));
    }
    if route.can_lose {
        statuses.push((412, "A change that arrived meanwhile stands."));
    }
    if route.opens_wrapped_keys {
        statuses.push((422, "The wrapped key does not open with this key and context."));
    }
    statuses
}

fn service_paths(document: &mut Value) {
    let operation = |id: &str, summary: &str, responses: Value| json!({"get": {"operationId": id, "summary": summary, "tags": ["service"], "security": [], "responses": responses}});
    let ok = |kind: &str, schema: Value| json!({"description": "The current state.", "content": {kind: {"schema": schema}}});
    let readiness = json!({"$ref": "#/components/schemas/Readiness"});
    let paths = &mut document["paths"];
    paths["/healthz"] = operation(
        "getHealth",
        "Check whether the process runs.",
        json!({"200": ok("application/json", json!({"type": "object"}))}),
    );
    paths["/readyz"] = operation(
        "getReadiness",
        "Check whether the gateway serves requests, and the state of its parts.",
        json!({"200": ok("application/json", readiness.clone()), "503": ok("application/json", readiness)}),
    );
    paths["/metrics"] = operation(
        "getMetrics",
        "Get metrics in the Prometheus text format.",
        json!({"200": ok("text/plain", json!({"type": "string"}))}),
    );
    paths["/metrics"]["get"]["description"] = json!(
        "Beside the API it requires a platform operator's credential. On a separate listener for the service endpoints it requires none."
    );
    paths["/metrics"]["get"]["security"] = json!([{"bearer": []}, {}]);
    let problem =
        |description: &str| json!({"description": description, "content": {"application/problem+json": {"schema": reference("Problem")}}});
    paths["/metrics"]["get"]["responses"]["401"] = problem("No valid credential.");
    paths["/metrics"]["get"]["responses"]["403"] = problem("The credential is not a platform operator's.");
    paths["/openapi.json"] = operation(
        "getOpenapi",
        "Get this document.",
        json!({"200": ok("application/json", json!({"type": "object"}))}),
    );
}
