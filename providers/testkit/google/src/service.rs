//! The service: which call a request is, what it needs, and its answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::to_bytes;
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use claviger_fake::{Caller, Clock, Dialect};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::access::Gate;
use crate::names::Place;
use crate::refusal::Refusal;
use crate::wire::{Body, Style};
use crate::world::World;
use crate::{control, tokens};

/// The longest body of a request.
const MAX_BODY: usize = 1024 * 1024;

/// The service's state.
#[derive(Default)]
pub(crate) struct Service {
    pub(crate) world: Mutex<World>,
    pub(crate) gate: Gate,
    pub(crate) clock: Arc<Clock>,
    /// How long a version goes on to work after it was disabled, in seconds.
    pub(crate) lag: AtomicI64,
}

/// One request, once it is known what it is about.
pub(crate) struct Call<'a> {
    pub(crate) service: &'a Arc<Service>,
    pub(crate) caller: &'a str,
    pub(crate) now: i64,
    pub(crate) style: Style,
    pub(crate) query: &'a BTreeMap<String, String>,
    pub(crate) body: &'a [u8],
}

impl Call<'_> {
    pub(crate) fn demand(&self, permission: &str, resource: &str) -> Result<(), Refusal> {
        self.service.gate.demand(self.caller, permission, resource)
    }

    pub(crate) fn members(&self, members: &[&str]) -> Result<Body, Refusal> {
        Body::parse(self.body, members)
    }

    pub(crate) fn lag(&self) -> i64 {
        self.service.lag.load(Ordering::SeqCst)
    }

    /// The members that an update names.
    pub(crate) fn mask(&self) -> Result<Vec<String>, Refusal> {
        let named = self.query.get("updateMask").or_else(|| self.query.get("update_mask"));
        let named = named.ok_or_else(|| Refusal::invalid("update_mask must be set."))?;
        Ok(named.trim_matches('"').split(',').map(crate::wire::camel_case).collect())
    }

    /// One page of a list.
    pub(crate) fn page<T>(&self, member: &str, all: Vec<T>, show: impl Fn(T) -> Value) -> Result<Value, Refusal> {
        for unsupported in ["filter", "orderBy"] {
            if self.query.get(unsupported).is_some_and(|value| !value.is_empty()) {
                return Err(Refusal::unimplemented(unsupported));
            }
        }
        let number = |name: &str| match self.query.get(name).filter(|text| !text.is_empty()) {
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| Refusal::invalid(format!("Invalid value at '{name}'."))),
            None => Ok(0),
        };
        let (size, start) = (number("pageSize")?, number("pageToken")?);
        let size = if size == 0 { 100 } else { size.min(1000) };
        let total = all.len();
        let shown: Vec<Value> = all.into_iter().skip(start).take(size).map(show).collect();
        let mut answer = json!({"totalSize": total});
        if !shown.is_empty() {
            answer[member] = Value::Array(shown);
        }
        if start + size < total {
            answer["nextPageToken"] = (start + size).to_string().into();
        }
        Ok(answer)
    }
}

/// How the vendor tells what every service may answer.
pub(crate) struct Google;

impl Dialect for Google {
    fn throttled(&self) -> Response {
        Refusal::throttled().into_response()
    }

    fn unavailable(&self) -> Response {
        Refusal::unavailable().into_response()
    }
}

/// All of it, control included.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    let at_work = Arc::clone(service);
    let answer = move |request: Request| {
        let service = Arc::clone(&at_work);
        async move { answer(&service, request).await }
    };
    Router::new().fallback(answer).merge(control::router(Arc::clone(service)))
}

async fn answer(service: &Arc<Service>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Refusal::invalid("Request payload size exceeds the limit.").into_response();
    };
    let now = service.clock.unix();
    let path = parts.uri.path();
    if parts.method == Method::POST && (path == "/token" || path == "/v1/token") {
        return tokens::answer(service, path, &body, now);
    }
    let caller = match service.gate.caller(bearer(&parts.headers), now) {
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
        style: if numbers { Style::Numbers } else { Style::Names },
        query: &query,
        body: &body,
    };
    let result = match path.strip_prefix("/v1/") {
        Some(rest) => dispatch(&call, &parts.method, rest),
        None => Err(Refusal::not_found("The requested URL", path)),
    };
    let mut answer = match result {
        Ok(value) => Json(value).into_response(),
        Err(refusal) => refusal.into_response(),
    };
    answer.extensions_mut().insert(Caller(caller));
    answer
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
    call.service.world.lock().settle(call.now);
    let (place, verb) = Place::parse(path)?;
    match (method.as_str(), &place, verb) {
        ("POST", place, Some("testIamPermissions")) => test_permissions(call, place),
        ("GET", Place::Locations { project }, None) => crate::rings::list_locations(call, project),
        ("GET", Place::Location(location), None) => Ok(crate::rings::location(location)),
        ("POST", Place::Location(location), Some("generateRandomBytes")) => crate::operations::random_bytes(call, location),
        ("GET", Place::Rings { location }, None) => crate::rings::list(call, location),
        ("POST", Place::Rings { location }, None) => crate::rings::create(call, location),
        ("GET", Place::Ring(ring), None) => crate::rings::get(call, ring),
        ("GET", Place::Jobs { ring }, None) => crate::import::list(call, ring),
        ("POST", Place::Jobs { ring }, None) => crate::import::create(call, ring),
        ("GET", Place::Job { ring, id }, None) => crate::import::get(call, ring, id),
        ("GET", Place::Keys { ring }, None) => crate::keys::list(call, ring),
        ("POST", Place::Keys { ring }, None) => crate::keys::create(call, ring),
        ("GET", Place::Key(key), None) => crate::keys::get(call, key),
        ("PATCH", Place::Key(key), None) => crate::keys::update(call, key),
        ("POST", Place::Key(key), Some("updatePrimaryVersion")) => crate::keys::set_primary(call, key),
        ("POST", Place::Key(key), Some("encrypt")) => crate::operations::encrypt(call, key, None),
        ("POST", Place::Key(key), Some("decrypt")) => crate::operations::decrypt(call, key),
        ("GET", Place::Versions(key), None) => crate::versions::list(call, key),
        ("POST", Place::Versions(key), None) => crate::versions::create(call, key),
        ("POST", Place::Versions(key), Some("import")) => crate::import::import(call, key),
        ("GET", Place::Version(key, number), None) => crate::versions::get(call, key, *number),
        ("PATCH", Place::Version(key, number), None) => crate::versions::update(call, key, *number),
        ("POST", Place::Version(key, number), Some("destroy")) => crate::versions::destroy(call, key, *number),
        ("POST", Place::Version(key, number), Some("restore")) => crate::versions::restore(call, key, *number),
        ("POST", Place::Version(key, number), Some("encrypt")) => crate::operations::encrypt(call, key, Some(*number)),
        ("POST", Place::Version(key, number), Some("asymmetricDecrypt")) => crate::operations::asymmetric_decrypt(call, key, *number),
        ("GET", Place::PublicKey(key, number), None) => crate::operations::public_key(call, key, *number),
        _ => Err(Refusal::unimplemented("such call")),
    }
}

fn test_permissions(call: &Call<'_>, place: &Place) -> Result<Value, Refusal> {
    let resource = place.resource();
    match place {
        Place::Key(key) => drop(call.service.world.lock().key(key)?),
        Place::Ring(ring) => drop(call.service.world.lock().ring(ring)?),
        Place::Job { .. } => {}
        _ => return Err(Refusal::unimplemented("permissions of such a resource")),
    }
    let asked = call.members(&["resource", "permissions"])?.texts("permissions")?;
    if asked.iter().any(|permission| permission.contains('*')) {
        return Err(Refusal::invalid("Permissions with wildcards are not allowed."));
    }
    let may = |permission: &String| call.service.gate.may(call.caller, permission, &resource);
    let held: Vec<String> = asked.into_iter().filter(may).collect();
    Ok(if held.is_empty() { json!({}) } else { json!({"permissions": held}) })
}
