//! The REST routes: which method of the API a request calls, and its response.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use claviger_fake::{Caller, Dialect};
use serde_json::{Value, json};

use crate::call::Call;
use crate::json::EnumStyle;
use crate::names::ResourcePath;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::{control, import, keys, operations, rings, tokens, versions};

/// The longest body of a request, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// Google's responses for throttling and outages.
pub(crate) struct Google;

impl Dialect for Google {
    fn throttled(&self) -> Response {
        Refusal::throttled().into_response()
    }

    fn unavailable(&self) -> Response {
        Refusal::unavailable().into_response()
    }
}

/// The API and the control endpoints of this fake.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    let state = Arc::clone(service);
    let respond = move |request: Request| {
        let service = Arc::clone(&state);
        async move { respond(&service, request).await }
    };
    Router::new().fallback(respond).merge(control::router(Arc::clone(service)))
}

async fn respond(service: &Arc<Service>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Refusal::invalid("Request payload size exceeds the limit.").into_response();
    };
    let now = service.clock.unix();
    let path = parts.uri.path();
    if parts.method == Method::POST && (path == "/token" || path == "/v1/token") {
        return tokens::respond(service, path, &body, now);
    }
    let caller = match service.access.caller(bearer(&parts.headers), now) {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).map(|Query(pairs)| pairs.into_iter().collect());
    let Ok(query) = query else {
        return Refusal::invalid("Invalid query.").into_response();
    };
    let query: BTreeMap<String, String> = query;
    let numbers = ["$alt", "alt"]
        .iter()
        .any(|name| query.get(*name).is_some_and(|alt| alt.contains("enum-encoding=int")));
    let call = Call {
        service,
        caller: &caller,
        now,
        style: if numbers { EnumStyle::Numbers } else { EnumStyle::Names },
        query: &query,
        body: &body,
    };
    let result = match path.strip_prefix("/v1/") {
        Some(rest) => dispatch(&call, &parts.method, rest),
        None => Err(Refusal::not_found("The requested URL", path)),
    };
    let mut response = match result {
        Ok(value) => Json(value).into_response(),
        Err(refusal) => refusal.into_response(),
    };
    response.extensions_mut().insert(Caller(caller));
    response
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

fn dispatch(call: &Call<'_>, method: &Method, path: &str) -> Result<Value, Refusal> {
    if let Some(account) = path.strip_prefix("projects/-/serviceAccounts/") {
        return match (method, account.split_once(':')) {
            (&Method::POST, Some((account, "generateAccessToken"))) => tokens::impersonate(call, account),
            _ => Err(Refusal::unimplemented("such call of IAM")),
        };
    }
    call.service.resources.lock().advance_to(call.now);
    let (resource, verb) = ResourcePath::parse(path)?;
    match (method.as_str(), &resource, verb) {
        ("POST", resource, Some("testIamPermissions")) => test_permissions(call, resource),
        ("GET", ResourcePath::Locations { project }, None) => rings::list_locations(call, project),
        ("GET", ResourcePath::Location(location), None) => Ok(rings::location(location)),
        ("POST", ResourcePath::Location(location), Some("generateRandomBytes")) => operations::random_bytes(call, location),
        ("GET", ResourcePath::Rings { location }, None) => rings::list(call, location),
        ("POST", ResourcePath::Rings { location }, None) => rings::create(call, location),
        ("GET", ResourcePath::Ring(ring), None) => rings::get(call, ring),
        ("GET", ResourcePath::Jobs { ring }, None) => import::list(call, ring),
        ("POST", ResourcePath::Jobs { ring }, None) => import::create(call, ring),
        ("GET", ResourcePath::Job { ring, id }, None) => import::get(call, ring, id),
        ("GET", ResourcePath::Keys { ring }, None) => keys::list(call, ring),
        ("POST", ResourcePath::Keys { ring }, None) => keys::create(call, ring),
        ("GET", ResourcePath::Key(key), None) => keys::get(call, key),
        ("PATCH", ResourcePath::Key(key), None) => keys::update(call, key),
        ("POST", ResourcePath::Key(key), Some("updatePrimaryVersion")) => keys::set_primary(call, key),
        ("POST", ResourcePath::Key(key), Some("encrypt")) => operations::encrypt(call, key, None),
        ("POST", ResourcePath::Key(key), Some("decrypt")) => operations::decrypt(call, key),
        ("GET", ResourcePath::Versions(key), None) => versions::list(call, key),
        ("POST", ResourcePath::Versions(key), None) => versions::create(call, key),
        ("POST", ResourcePath::Versions(key), Some("import")) => import::import(call, key),
        ("GET", ResourcePath::Version(key, number), None) => versions::get(call, key, *number),
        ("PATCH", ResourcePath::Version(key, number), None) => versions::update(call, key, *number),
        ("POST", ResourcePath::Version(key, number), Some("destroy")) => versions::destroy(call, key, *number),
        ("POST", ResourcePath::Version(key, number), Some("restore")) => versions::restore(call, key, *number),
        ("POST", ResourcePath::Version(key, number), Some("encrypt")) => operations::encrypt(call, key, Some(*number)),
        ("POST", ResourcePath::Version(key, number), Some("asymmetricDecrypt")) => operations::asymmetric_decrypt(call, key, *number),
        ("GET", ResourcePath::PublicKey(key, number), None) => operations::public_key(call, key, *number),
        _ => Err(Refusal::unimplemented("such call")),
    }
}

fn test_permissions(call: &Call<'_>, path: &ResourcePath) -> Result<Value, Refusal> {
    let resource = path.resource();
    match path {
        ResourcePath::Key(key) => drop(call.service.resources.lock().key(key)?),
        ResourcePath::Ring(ring) => drop(call.service.resources.lock().ring(ring)?),
        ResourcePath::Job { .. } => {}
        _ => return Err(Refusal::unimplemented("permissions of such a resource")),
    }
    let permissions = call.fields(&["resource", "permissions"])?.texts("permissions")?;
    if permissions.iter().any(|permission| permission.contains('*')) {
        return Err(Refusal::invalid("Permissions with wildcards are not allowed."));
    }
    let may = |permission: &String| call.service.access.may(call.caller, permission, &resource);
    let granted: Vec<String> = permissions.into_iter().filter(may).collect();
    Ok(if granted.is_empty() {
        json!({})
    } else {
        json!({"permissions": granted})
    })
}
