//! The REST routes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Json, Router};
use claviger_fake::{Caller, Hidden};
use serde_json::{Map, Value, json};

use crate::access::{DIRECTORY, Setup, permission_of, text};
use crate::crypto::{CryptoError, Material};
use crate::encoding::{base64url, from_base64url};
use crate::operations::operate;
use crate::responses::{Refusal, Result, no_content, ok};
use crate::service::Service;
use crate::token_endpoint;
use crate::vaults::{Key, Version, kid, strings};

/// The supported versions of the REST API.
const VERSIONS: [&str; 10] = [
    "7.0",
    "7.1",
    "7.2",
    "7.3",
    "7.4",
    "7.5",
    "7.6",
    "7.6-preview.2",
    "2025-06-01-preview",
    "2025-07-01",
];
/// The longest body of a request, in bytes.
const MAX_BODY: usize = 1 << 20;
/// The most entries of one page.
const PAGE: usize = 25;
/// The most random bytes of one call.
const MAX_RANDOM: u64 = 128;

/// The API and the control endpoint of this fake.
pub(crate) fn router(fake: Arc<Service>) -> Router {
    Router::new().route("/_fake/azure", put(set_up)).fallback(serve).with_state(fake)
}

async fn set_up(State(fake): State<Arc<Service>>, Json(setup): Json<Setup>) -> StatusCode {
    fake.access.set_up(setup);
    StatusCode::NO_CONTENT
}

/// A parsed, authenticated request.
struct ApiRequest<'r> {
    host: String,
    hsm: bool,
    token: String,
    query: HashMap<String, String>,
    body: &'r [u8],
    now: i64,
}

async fn serve(State(fake): State<Arc<Service>>, received: Request) -> Response {
    let (parts, body) = received.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLarge", "The request body is too large.").into_response();
    };
    let named = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = parts
        .uri
        .authority()
        .map(|authority| authority.as_str())
        .or(named)
        .unwrap_or_default()
        .to_ascii_lowercase();
    let path = parts.uri.path().trim_matches('/').to_owned();
    let segments: Vec<&str> = path.split('/').collect();
    let now = fake.switches.clock.unix();
    if let [directory, "oauth2", "v2.0", "token"] = segments.as_slice() {
        return match parts.method == Method::POST {
            true => token_endpoint::token(&fake.access, directory, &format!("https://{host}/{path}"), &body, now),
            false => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
    }
    if let [directory, "v2.0", ".well-known", "openid-configuration"] = segments.as_slice() {
        return token_endpoint::configuration(directory, &format!("https://{host}"));
    }
    let hsm = managed_hsm(&host);
    let query = serde_urlencoded::from_str(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    let (token, holder) = match holder(&fake, &host, hsm, &parts.headers, now) {
        Ok(found) => found,
        Err(refused) => return refused.into_response(),
    };
    let request = ApiRequest {
        host,
        hsm,
        token,
        query,
        body: &body,
        now,
    };
    let mut response = dispatch(&fake, &parts.method, &segments, &request)
        .await
        .unwrap_or_else(Refusal::into_response);
    response.extensions_mut().insert(Caller(holder));
    response
}

/// Whether a host is a Managed HSM: `localhost`, or a name of that service. All others are Key Vaults.
fn managed_hsm(host: &str) -> bool {
    host.split(':').next() == Some("localhost") || host.contains(".managedhsm.")
}

/// The bearer token of a request, and who holds it.
fn holder(fake: &Service, host: &str, hsm: bool, headers: &HeaderMap, now: i64) -> Result<(String, String)> {
    let resource = fake.access.resource(hsm);
    // This program is also the token issuer, by its address.
    let issuer = match host.split_once(':') {
        Some((name, port)) if !name.starts_with('[') => format!("127.0.0.1:{port}"),
        Some(_) => host.to_owned(),
        None => "127.0.0.1".to_owned(),
    };
    let challenge = format!("Bearer authorization=\"https://{issuer}/{DIRECTORY}\", resource=\"{resource}\"");
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let found = token.and_then(|token| {
        let holder = fake.access.holder(&token, &resource, now)?;
        Some((token, holder))
    });
    found.ok_or_else(|| Refusal::unauthenticated(challenge))
}

impl ApiRequest<'_> {
    fn json(&self) -> Result<Value> {
        match self.body {
            [] => Ok(json!({})),
            body => serde_json::from_slice(body).map_err(|_| Refusal::parameter("The request body could not be parsed as JSON.")),
        }
    }

    fn version_of_api(&self) -> Result<()> {
        match self.query.get("api-version") {
            Some(version) if VERSIONS.contains(&version.as_str()) => Ok(()),
            Some(_) => Err(Refusal::parameter(
                "The specified version is not recognized. Consider using the latest supported version.",
            )),
            None => Err(Refusal::parameter("api-version must be specified")),
        }
    }
}

async fn dispatch(fake: &Service, method: &Method, segments: &[&str], request: &ApiRequest<'_>) -> Result<Response> {
    request.version_of_api()?;
    let require = |permission| fake.access.allows(&request.token, permission, request.hsm);
    match (method.as_str(), segments) {
        ("GET", ["keys"]) => {
            require("list")?;
            listed(fake, request, false)
        }
        ("GET", ["deletedkeys"]) => {
            require("list")?;
            listed(fake, request, true)
        }
        ("GET", ["keys", name, "versions"]) => {
            require("list")?;
            versions(fake, request, name)
        }
        ("GET", ["keys", name, "rotationpolicy"]) => {
            require("get")?;
            let vaults = fake.vaults.lock();
            let key = vaults.key(&request.host, name)?;
            Ok(ok(policy(&request.host, key)))
        }
        ("PUT", ["keys", name, "rotationpolicy"]) => {
            require("setrotationpolicy")?;
            let put = request.json()?;
            let mut vaults = fake.vaults.lock();
            let key = vaults.key_mut(&request.host, name)?;
            key.policy = Some(put);
            Ok(ok(policy(&request.host, key)))
        }
        ("GET", ["keys", name] | ["keys", name, _]) => {
            require("get")?;
            let vaults = fake.vaults.lock();
            let key = vaults.key(&request.host, name)?;
            let version = key.version(segments.get(2).copied().unwrap_or_default())?;
            if !version.enabled && fake.access.hides_disabled() {
                return Err(Refusal::disabled("get"));
            }
            Ok(ok(version.bundle(kid(&request.host, &key.name, &version.id))))
        }
        ("POST", ["keys", name, "create"]) => {
            require("create")?;
            create(fake, request, name).await
        }
        ("POST", ["keys", name, "rotate"]) => {
            require("rotate")?;
            rotate(fake, request, name).await
        }
        ("PUT", ["keys", name]) => {
            require("import")?;
            import(fake, request, name)
        }
        ("PATCH", ["keys", name] | ["keys", name, _]) => {
            require("update")?;
            update(fake, request, name, segments.get(2).copied().unwrap_or_default())
        }
        ("DELETE", ["keys", name]) => {
            require("delete")?;
            let mut vaults = fake.vaults.lock();
            let key = vaults.key_mut(&request.host, name)?;
            key.deleted = Some(request.now);
            Ok(ok(key.deleted_bundle(&request.host)?))
        }
        ("GET", ["deletedkeys", name]) => {
            require("get")?;
            let mut vaults = fake.vaults.lock();
            let key = vaults.deleted_key(&request.host, name, request.now)?;
            Ok(ok(key.deleted_bundle(&request.host)?))
        }
        ("POST", ["deletedkeys", name, "recover"]) => {
            require("recover")?;
            let mut vaults = fake.vaults.lock();
            let key = vaults.deleted_key(&request.host, name, request.now)?;
            key.deleted = None;
            let current = key.current()?;
            Ok(ok(current.bundle(kid(&request.host, &key.name, &current.id))))
        }
        ("DELETE", ["deletedkeys", name]) => {
            require("purge")?;
            let mut vaults = fake.vaults.lock();
            vaults.deleted_key(&request.host, name, request.now)?;
            vaults.purge(&request.host, name);
            Ok(no_content())
        }
        ("POST", ["rng"]) if request.hsm => random(request),
        ("POST", ["keys", name, word] | ["keys", name, _, word]) => {
            let version = if segments.len() == 4 {
                segments.get(2).copied().unwrap_or_default()
            } else {
                ""
            };
            let operation = word.to_ascii_lowercase();
            let permission = permission_of(&operation).ok_or_else(unknown_path)?;
            require(permission)?;
            let body = request.json()?;
            let key = fake.vaults.lock().key(&request.host, name).map(snapshot)?;
            let (host, version, now) = (request.host.clone(), version.to_owned(), request.now);
            // RSA takes milliseconds of CPU time.
            let result = tokio::task::spawn_blocking(move || operate(&host, &key, &version, &operation, permission, &body, now)).await;
            result.unwrap_or_else(|_| Err(internal())).map(ok)
        }
        (_, _) => Err(unknown_path()),
    }
}

fn unknown_path() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", "There is no such resource.")
}

fn internal() -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "The fake failed.")
}

/// A copy of the key, to use without holding the lock.
fn snapshot(key: &Key) -> Key {
    Key {
        name: key.name.clone(),
        versions: key.versions.clone(),
        deleted: key.deleted,
        policy: None,
        hidden: Hidden::default(),
    }
}

/// One page of a list, and the URL of the next page.
fn page(request: &ApiRequest<'_>, path: &str, entries: &[Value]) -> Result<Response> {
    let number = |name: &str| request.query.get(name).map(|text| text.parse::<usize>());
    let size = match number("maxresults") {
        None => PAGE,
        Some(Ok(size @ 1..=PAGE)) => size,
        Some(Ok(_) | Err(_)) => return Err(Refusal::parameter("maxresults must be between 1 and 25.")),
    };
    let from = match number("$skiptoken") {
        None => 0,
        Some(Ok(from)) => from,
        Some(Err(_)) => return Err(Refusal::parameter("$skiptoken is not one of this service.")),
    };
    let to = (from + size).min(entries.len());
    let version = request.query.get("api-version").cloned().unwrap_or_default();
    let next = (to < entries.len()).then(|| {
        format!(
            "https://{}/{path}?api-version={version}&%24skiptoken={to}&maxresults={size}",
            request.host
        )
    });
    Ok(ok(json!({"value": entries.get(from..to).unwrap_or_default(), "nextLink": next})))
}

fn listed(fake: &Service, request: &ApiRequest<'_>, deleted: bool) -> Result<Response> {
    let vaults = fake.vaults.lock();
    let mut entries = Vec::new();
    for name in vaults.names(&request.host, deleted) {
        if let Some(key) = vaults.any(&request.host, &name) {
            let mut entry = key.current()?.listed(format!("https://{}/keys/{}", request.host, key.name));
            if deleted {
                let bundle = key.deleted_bundle(&request.host)?;
                for field in ["recoveryId", "deletedDate", "scheduledPurgeDate"] {
                    entry[field] = bundle[field].clone();
                }
            }
            entries.push(entry);
        }
    }
    page(request, if deleted { "deletedkeys" } else { "keys" }, &entries)
}

fn versions(fake: &Service, request: &ApiRequest<'_>, name: &str) -> Result<Response> {
    let vaults = fake.vaults.lock();
    // For an unknown name the list is empty.
    let Ok(key) = vaults.key(&request.host, name) else {
        return page(request, &format!("keys/{name}/versions"), &[]);
    };
    // Unordered, as at Azure.
    let mut versions: Vec<&Version> = key.versions.iter().collect();
    versions.sort_by(|one, other| one.id.cmp(&other.id));
    let entries: Vec<Value> = versions
        .iter()
        .map(|version| version.listed(kid(&request.host, &key.name, &version.id)))
        .collect();
    page(request, &format!("keys/{}/versions", key.name), &entries)
}

fn policy(host: &str, key: &Key) -> Value {
    let default = json!({"lifetimeActions": [{"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}], "attributes": {}});
    let mut policy = key.policy.clone().unwrap_or(default);
    policy["id"] = json!(format!("https://{host}/keys/{}/rotationpolicy", key.name));
    policy
}

fn object<'v>(body: &'v Value, name: &str) -> Option<&'v Map<String, Value>> {
    body.get(name)?.as_object()
}

/// Applies the attributes, operations and tags of a body to a version.
fn apply(version: &mut Version, body: &Value) -> Result<()> {
    if let Some(attributes) = object(body, "attributes") {
        if let Some(enabled) = attributes.get("enabled").and_then(Value::as_bool) {
            version.enabled = enabled;
        }
        for (name, at) in [("nbf", &mut version.not_before), ("exp", &mut version.expires)] {
            if let Some(value) = attributes.get(name) {
                *at = value.as_i64();
            }
        }
    }
    if let Some(Value::Array(operations)) = body.get("key_ops") {
        let known = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import", "export"];
        let named: Vec<String> = operations.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
        if named.len() != operations.len() || !named.iter().all(|word| known.contains(&word.as_str())) {
            return Err(Refusal::parameter("Property has invalid value: key_ops"));
        }
        version.operations = named;
    }
    if let Some(tags) = object(body, "tags") {
        version.tags = strings(tags)?;
    }
    Ok(())
}

/// The operations of a new key by default.
fn default_operations(kind: &str) -> Vec<String> {
    let all: &[&str] = match kind {
        "RSA" | "RSA-HSM" => &["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
        "EC" | "EC-HSM" => &["sign", "verify"],
        _ => &["encrypt", "decrypt", "wrapKey", "unwrapKey"],
    };
    all.iter().map(ToString::to_string).collect()
}

/// Generates a key. RSA takes a second or more.
async fn generate(kind: &str, size: Option<u64>, hsm: bool) -> Result<Material> {
    let wrong = || Refusal::parameter("Property has invalid value: key_size");
    match (kind, hsm) {
        ("RSA", false) | ("RSA-HSM", _) => {
            let bits = size.unwrap_or(2048);
            let result = tokio::task::spawn_blocking(move || Material::rsa(bits)).await;
            result.map_err(|_| internal())?.map_err(|CryptoError| wrong())
        }
        ("EC", false) | ("EC-HSM", _) => Material::ec().map_err(|CryptoError| wrong()),
        ("oct-HSM", true) => match size.unwrap_or(256) {
            bits @ (128 | 192 | 256) => Ok(Material::Oct(crate::crypto::random(usize::try_from(bits / 8).unwrap_or(32)))),
            _ => Err(wrong()),
        },
        (_, _) => Err(Refusal::parameter("Property has invalid value: kty")),
    }
}

fn add(fake: &Service, request: &ApiRequest<'_>, name: &str, version: Version) -> Result<Response> {
    let id = version.id.clone();
    let mut vaults = fake.vaults.lock();
    let key = vaults.add(&request.host, name, version, request.now, &fake.switches.appearance)?;
    let version = key.version(&id)?;
    Ok(ok(version.bundle(kid(&request.host, &key.name, &id))))
}

/// Fails for a malformed key name.
fn check_name(name: &str) -> Result<()> {
    let fits = (1..=127).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then_some(())
        .ok_or_else(|| Refusal::parameter("The request URI contains an invalid name."))
}

async fn create(fake: &Service, request: &ApiRequest<'_>, name: &str) -> Result<Response> {
    check_name(name)?;
    let body = request.json()?;
    let kind = text(&body, "kty").ok_or_else(|| Refusal::parameter("Required parameter kty is missing"))?;
    let size = body.get("key_size").and_then(Value::as_u64);
    let mut version = Version::new(generate(kind, size, request.hsm).await?, kind, request.now);
    version.operations = default_operations(kind);
    apply(&mut version, &body)?;
    add(fake, request, name, version)
}

async fn rotate(fake: &Service, request: &ApiRequest<'_>, name: &str) -> Result<Response> {
    let last = fake.vaults.lock().key(&request.host, name)?.current()?.clone();
    if !last.enabled {
        return Err(Refusal::disabled("rotate"));
    }
    let size = match &last.material {
        Material::Rsa(rsa) => Some(rsa.modulus.len() * 8),
        Material::Oct(key) => Some(key.len() * 8),
        Material::Ec { .. } => None,
    };
    let material = generate(&last.kind, size.and_then(|bits| u64::try_from(bits).ok()), request.hsm).await?;
    let mut version = Version::new(material, &last.kind, request.now);
    version.operations = last.operations;
    version.tags = last.tags;
    add(fake, request, name, version)
}

fn import(fake: &Service, request: &ApiRequest<'_>, name: &str) -> Result<Response> {
    check_name(name)?;
    let body = request.json()?;
    let wrong = || Refusal::parameter("Property has invalid value: key");
    let key = body.get("key").ok_or_else(wrong)?;
    let number = |name: &str| text(key, name).and_then(from_base64url);
    let (material, kind) = match text(key, "kty") {
        Some(kind @ ("RSA" | "RSA-HSM")) => {
            let numbers: Vec<Vec<u8>> = ["n", "e", "d", "p", "q", "dp", "dq", "qi"]
                .iter()
                .filter_map(|name| number(name))
                .collect();
            let [n, e, d, p, q, dp, dq, qi] = numbers.as_slice() else {
                return Err(wrong());
            };
            let result = Material::from_numbers(&[n, e, d, p, q, dp, dq, qi]).map_err(|CryptoError| wrong())?;
            (result, if request.hsm { "RSA-HSM" } else { kind })
        }
        Some("oct" | "oct-HSM") if request.hsm => {
            let bytes = number("k").filter(|bytes| matches!(bytes.len(), 16 | 24 | 32)).ok_or_else(wrong)?;
            (Material::Oct(bytes), "oct-HSM")
        }
        Some(_) | None => return Err(wrong()),
    };
    let mut version = Version::new(material, kind, request.now);
    version.operations = default_operations(kind);
    apply(&mut version, key)?;
    apply(&mut version, &body)?;
    add(fake, request, name, version)
}

fn update(fake: &Service, request: &ApiRequest<'_>, name: &str, version: &str) -> Result<Response> {
    let body = request.json()?;
    let mut vaults = fake.vaults.lock();
    let key = vaults.key_mut(&request.host, name)?;
    let name = key.name.clone();
    let version = key.version_mut(version)?;
    apply(version, &body)?;
    version.updated = request.now;
    Ok(ok(version.bundle(kid(&request.host, &name, &version.id))))
}

fn random(request: &ApiRequest<'_>) -> Result<Response> {
    let count = request
        .json()?
        .get("count")
        .and_then(Value::as_u64)
        .filter(|count| (1..=MAX_RANDOM).contains(count));
    let count = count.and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or_else(|| Refusal::parameter("Property has invalid value: count"))?;
    Ok(ok(json!({"value": base64url(&crate::crypto::random(count))})))
}
