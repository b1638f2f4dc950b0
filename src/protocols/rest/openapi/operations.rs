//! The operations of the document, from the routes' entries.

use http::Method;
use serde_json::{Map, Value, json};

use super::schemas::referred;
use super::shared;
use crate::protocols::rest::route::{Route, reference};

/// The operation of a route. The schemas of its bodies are added to `schemas`.
pub(super) fn operation(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut operation = json!({
        "operationId": route.operation_id,
        "tags": [route.tag],
        "summary": summary(route.summary),
        "description": description(route),
        "parameters": parameters(route),
        "responses": responses(route, schemas),
        "x-idempotency": route.idempotency(),
    });
    if let Some(body) = route.request {
        let schema = (body.schema)(schemas);
        let described = referred(&schema).and_then(|name| schemas.get(name)?["description"].as_str());
        let mut text = described.unwrap_or_default().to_owned();
        if !body.required {
            text.push_str(" It may be left out; `null` and `{}` are the same.");
        }
        operation["requestBody"] = json!({"description": text, "content": {"application/json": {"schema": schema}}});
        if body.required {
            operation["requestBody"]["required"] = json!(true);
        }
        operation["x-limits"] = json!({"body_bytes": route.body});
    }
    operation
}

/// The first sentence, without its full stop.
fn summary(text: &str) -> &str {
    text.split(". ").next().unwrap_or(text).trim_end_matches('.')
}

/// The whole text, and the failures that only some operations have.
fn description(route: &Route) -> String {
    let mut text = route.summary.to_owned();
    if route.opens_wrapped_keys {
        text.push_str("\n\nA wrapped key that does not open with this key and context is 422 `ciphertext_rejected`.");
    }
    if route.method == Method::PATCH {
        text.push_str("\n\nIf the object has changed since the etag in `If-Match`, the answer is 412 `precondition_failed`.");
    }
    if route.can_lose {
        text.push_str("\n\nIf a change that arrived meanwhile stands, the answer is 412 `precondition_failed`.");
    }
    text
}

fn parameters(route: &Route) -> Vec<Value> {
    let placeholders = route
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<Value> = placeholders.map(shared::path_parameter).collect();
    if route.if_match {
        all.push(shared::parameter("If-Match"));
    }
    all.extend(route.query.iter().map(shared::query_parameter));
    all.extend(shared::OF_ALL.map(shared::parameter));
    if route.repeatable {
        all.push(shared::parameter("Idempotency-Key"));
    }
    all
}

fn responses(route: &Route, schemas: &mut Map<String, Value>) -> Value {
    let mut responses = Map::new();
    for response in route.responses.iter().flatten() {
        let mut described = json!({"description": response.description, "headers": shared::response_headers()});
        if let Some(schema) = response.schema {
            described["content"] = json!({"application/json": {"schema": schema(schemas)}});
        }
        responses.insert(response.status.to_string(), described);
    }
    responses.insert("default".to_owned(), shared::failure());
    responses.into()
}

/// The paths of the service endpoints.
pub(super) fn service() -> Map<String, Value> {
    let operation = |id: &str, text: &str, mut responses: Value| {
        responses["default"] = shared::failure();
        json!({"get": {"operationId": id, "summary": summary(text), "description": text, "tags": ["service"], "security": [], "responses": responses, "x-idempotency": "always"}})
    };
    let ok = |kind: &str, schema: Value| json!({"description": "The current state.", "content": {kind: {"schema": schema}}});
    let json = |schema: &str| ok("application/json", reference(schema));
    let mut paths = Map::new();
    paths.insert(
        "/healthz".to_owned(),
        operation("getHealth", "Check whether the process runs.", json!({"200": json("Liveness")})),
    );
    let text = "Check whether the gateway serves requests, and the state of its parts. The status alone says whether it does: while \
                many responses wait to be read, the body is empty.";
    let unready = "The gateway does not serve requests: the state of its parts. While it starts, a listener without the service \
                   endpoints returns a problem.";
    let mut unready = json!({"description": unready, "content": {"application/json": {"schema": reference("Readiness")}}});
    unready["content"]["application/problem+json"] = shared::problem_body();
    paths.insert(
        "/readyz".to_owned(),
        operation("getReadiness", text, json!({"200": json("Readiness"), "503": unready})),
    );
    let text = "Get metrics in the Prometheus text format. Beside the API it requires a platform operator's credential. On a separate \
                listener for the service endpoints it requires none.";
    let mut metrics = operation("getMetrics", text, json!({"200": ok("text/plain", json!({"type": "string"}))}));
    let example = "# TYPE claviger_requests_total counter\nclaviger_requests_total{outcome=\"success\"} 42\n";
    metrics["get"]["responses"]["200"]["content"]["text/plain"]["example"] = json!(example);
    metrics["get"]["security"] = json!([{"bearer": []}, {}]);
    paths.insert("/metrics".to_owned(), metrics);
    let document = json!({"type": "object", "additionalProperties": true});
    let mut openapi = operation("getOpenapi", "Get this document.", json!({"200": ok("application/json", document)}));
    openapi["get"]["responses"]["200"]["content"]["application/json"]["example"] = json!({"openapi": "3.1.0"});
    paths.insert("/openapi.json".to_owned(), openapi);
    paths
}
