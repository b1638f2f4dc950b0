//! The REST API: from a request to what is done, and back.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Json, Router};
use claviger_fake::Caller;
use serde_json::{Map, Value, json};

use crate::Fake;
use crate::access::{DIRECTORY, Setup, right_of, text};
use crate::answers::{Refused, Result, done, nothing};
use crate::crypto::{Broken, Material};
use crate::operations::operate;
use crate::store::{Key, Version, kid, texts};
use crate::{base64url, from_base64url, login};

/// The versions of the REST API that are answered.
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
/// The longest body, and the most entries of one page.
const MAX_BODY: usize = 1 << 20;
const PAGE: usize = 25;
/// What one call to the generator of a Managed HSM gives at most.
const MAX_RANDOM: u64 = 128;

pub(crate) fn router(fake: Arc<Fake>) -> Router {
    Router::new().route("/_fake/azure", put(set_up)).fallback(serve).with_state(fake)
}

async fn set_up(State(fake): State<Arc<Fake>>, Json(setup): Json<Setup>) -> StatusCode {
    fake.access.set_up(setup);
    StatusCode::NO_CONTENT
}

/// What a request says, taken apart.
struct Asked<'r> {
    host: String,
    hsm: bool,
    token: String,
    query: HashMap<String, String>,
    body: &'r [u8],
    now: i64,
}

async fn serve(State(fake): State<Arc<Fake>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestTooLarge", "The request body is too large.").into_response();
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
            true => login::token(&fake.access, directory, &format!("https://{host}/{path}"), &body, now),
            false => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        };
    }
    if let [directory, "v2.0", ".well-known", "openid-configuration"] = segments.as_slice() {
        return login::configuration(directory, &format!("https://{host}"));
    }
    let hsm = managed_hsm(&host);
    let query = serde_urlencoded::from_str(parts.uri.query().unwrap_or_default()).unwrap_or_default();
    let (token, holder) = match holder(&fake, &host, hsm, &parts.headers, now) {
        Ok(found) => found,
        Err(refused) => return refused.into_response(),
    };
    let asked = Asked {
        host,
        hsm,
        token,
        query,
        body: &body,
        now,
    };
    let mut answer = dispatch(&fake, &parts.method, &segments, &asked)
        .await
        .unwrap_or_else(Refused::into_response);
    answer.extensions_mut().insert(Caller(holder));
    answer
}

/// A vault at `localhost`, or at a name of that service, is a Managed HSM; all others are Key Vaults.
fn managed_hsm(host: &str) -> bool {
    host.split(':').next() == Some("localhost") || host.contains(".managedhsm.")
}

/// The token that a request shows, and who holds it.
fn holder(fake: &Fake, host: &str, hsm: bool, headers: &HeaderMap, now: i64) -> Result<(String, String)> {
    let resource = if hsm {
        "https://managedhsm.azure.net"
    } else {
        "https://vault.azure.net"
    };
    // Whoever gives out tokens is this very program.
    let port = host.split_once(':').map(|(_, port)| format!(":{port}")).unwrap_or_default();
    let challenge = format!("Bearer authorization=\"https://127.0.0.1{port}/{DIRECTORY}\", resource=\"{resource}\"");
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| value.strip_prefix("Bearer ")).map(str::to_owned);
    let found = token.and_then(|token| {
        let holder = fake.access.holder(&token, resource, now)?;
        Some((token, holder))
    });
    found.ok_or_else(|| Refused::unauthenticated(challenge))
}

impl Asked<'_> {
    fn json(&self) -> Result<Value> {
        match self.body {
            [] => Ok(json!({})),
            body => serde_json::from_slice(body).map_err(|_| Refused::parameter("The request body could not be parsed as JSON.")),
        }
    }

    fn version_of_api(&self) -> Result<()> {
        match self.query.get("api-version") {
            Some(version) if VERSIONS.contains(&version.as_str()) => Ok(()),
            Some(_) => Err(Refused::parameter(
                "The specified version is not recognized. Consider using the latest supported version.",
            )),
            None => Err(Refused::parameter("api-version must be specified")),
        }
    }
}

async fn dispatch(fake: &Fake, method: &Method, segments: &[&str], asked: &Asked<'_>) -> Result<Response> {
    asked.version_of_api()?;
    let may = |right| fake.access.allows(&asked.token, right, asked.hsm);
    match (method.as_str(), segments) {
        ("GET", ["keys"]) => {
            may("list")?;
            listed(fake, asked, false)
        }
        ("GET", ["deletedkeys"]) => {
            may("list")?;
            listed(fake, asked, true)
        }
        ("GET", ["keys", name, "versions"]) => {
            may("list")?;
            versions(fake, asked, name)
        }
        ("GET", ["keys", name, "rotationpolicy"]) => {
            may("get")?;
            let store = fake.store.lock();
            let key = store.key(&asked.host, name)?;
            Ok(done(policy(&asked.host, key)))
        }
        ("PUT", ["keys", name, "rotationpolicy"]) => {
            may("setrotationpolicy")?;
            let put = asked.json()?;
            let mut store = fake.store.lock();
            let key = store.key_mut(&asked.host, name)?;
            key.policy = Some(put);
            Ok(done(policy(&asked.host, key)))
        }
        ("GET", ["keys", name] | ["keys", name, _]) => {
            may("get")?;
            let store = fake.store.lock();
            let key = store.key(&asked.host, name)?;
            let version = key.version(segments.get(2).copied().unwrap_or_default())?;
            Ok(done(version.bundle(kid(&asked.host, &key.name, &version.id))))
        }
        ("POST", ["keys", name, "create"]) => {
            may("create")?;
            create(fake, asked, name).await
        }
        ("POST", ["keys", name, "rotate"]) => {
            may("rotate")?;
            rotate(fake, asked, name).await
        }
        ("PUT", ["keys", name]) => {
            may("import")?;
            import(fake, asked, name)
        }
        ("PATCH", ["keys", name] | ["keys", name, _]) => {
            may("update")?;
            update(fake, asked, name, segments.get(2).copied().unwrap_or_default())
        }
        ("DELETE", ["keys", name]) => {
            may("delete")?;
            let mut store = fake.store.lock();
            let key = store.key_mut(&asked.host, name)?;
            key.deleted = Some(asked.now);
            Ok(done(key.deleted_bundle(&asked.host)?))
        }
        ("GET", ["deletedkeys", name]) => {
            may("get")?;
            let mut store = fake.store.lock();
            let key = store.gone(&asked.host, name, asked.now)?;
            Ok(done(key.deleted_bundle(&asked.host)?))
        }
        ("POST", ["deletedkeys", name, "recover"]) => {
            may("recover")?;
            let mut store = fake.store.lock();
            let key = store.gone(&asked.host, name, asked.now)?;
            key.deleted = None;
            let current = key.current()?;
            Ok(done(current.bundle(kid(&asked.host, &key.name, &current.id))))
        }
        ("DELETE", ["deletedkeys", name]) => {
            may("purge")?;
            let mut store = fake.store.lock();
            store.gone(&asked.host, name, asked.now)?;
            store.purge(&asked.host, name);
            Ok(nothing())
        }
        ("POST", ["rng"]) if asked.hsm => random(asked),
        ("POST", ["keys", name, word] | ["keys", name, _, word]) => {
            let version = if segments.len() == 4 {
                segments.get(2).copied().unwrap_or_default()
            } else {
                ""
            };
            let operation = word.to_ascii_lowercase();
            let right = right_of(&operation).ok_or_else(nowhere)?;
            may(right)?;
            let body = asked.json()?;
            let key = fake.store.lock().key(&asked.host, name).map(snapshot)?;
            let (host, version, now) = (asked.host.clone(), version.to_owned(), asked.now);
            // RSA takes milliseconds of computing.
            let made = tokio::task::spawn_blocking(move || operate(&host, &key, &version, &operation, right, &body, now)).await;
            made.unwrap_or_else(|_| Err(broken())).map(done)
        }
        (_, _) => Err(nowhere()),
    }
}

fn nowhere() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "NotFound", "There is no such resource.")
}

fn broken() -> Refused {
    Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "The fake failed.")
}

/// The key as it is now, to compute with while others change it.
fn snapshot(key: &Key) -> Key {
    Key {
        name: key.name.clone(),
        versions: key.versions.clone(),
        deleted: key.deleted,
        policy: None,
    }
}

/// One page of a list, and the address of the next.
fn page(asked: &Asked<'_>, path: &str, entries: &[Value]) -> Result<Response> {
    let number = |name: &str| asked.query.get(name).map(|text| text.parse::<usize>());
    let size = match number("maxresults") {
        None => PAGE,
        Some(Ok(size @ 1..=PAGE)) => size,
        Some(Ok(_) | Err(_)) => return Err(Refused::parameter("maxresults must be between 1 and 25.")),
    };
    let from = match number("$skiptoken") {
        None => 0,
        Some(Ok(from)) => from,
        Some(Err(_)) => return Err(Refused::parameter("$skiptoken is not one of this service.")),
    };
    let to = (from + size).min(entries.len());
    let version = asked.query.get("api-version").cloned().unwrap_or_default();
    let next = (to < entries.len()).then(|| {
        format!(
            "https://{}/{path}?api-version={version}&%24skiptoken={to}&maxresults={size}",
            asked.host
        )
    });
    Ok(done(json!({"value": entries.get(from..to).unwrap_or_default(), "nextLink": next})))
}

fn listed(fake: &Fake, asked: &Asked<'_>, deleted: bool) -> Result<Response> {
    let store = fake.store.lock();
    let mut entries = Vec::new();
    for name in store.names(&asked.host, deleted) {
        if let Some(key) = store.any(&asked.host, &name) {
            let mut entry = key.current()?.listed(format!("https://{}/keys/{}", asked.host, key.name));
            if deleted {
                let bundle = key.deleted_bundle(&asked.host)?;
                for member in ["recoveryId", "deletedDate", "scheduledPurgeDate"] {
                    entry[member] = bundle[member].clone();
                }
            }
            entries.push(entry);
        }
    }
    page(asked, if deleted { "deletedkeys" } else { "keys" }, &entries)
}

fn versions(fake: &Fake, asked: &Asked<'_>, name: &str) -> Result<Response> {
    let store = fake.store.lock();
    // The list of a name that nobody has is an empty one.
    let Ok(key) = store.key(&asked.host, name) else {
        return page(asked, &format!("keys/{name}/versions"), &[]);
    };
    // In an order that says nothing, as Azure's.
    let mut versions: Vec<&Version> = key.versions.iter().collect();
    versions.sort_by(|one, other| one.id.cmp(&other.id));
    let entries: Vec<Value> = versions
        .iter()
        .map(|version| version.listed(kid(&asked.host, &key.name, &version.id)))
        .collect();
    page(asked, &format!("keys/{}/versions", key.name), &entries)
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

/// What attributes, operations and tags of a body say of a version.
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
        let words: Vec<String> = operations.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
        if words.len() != operations.len() || !words.iter().all(|word| known.contains(&word.as_str())) {
            return Err(Refused::parameter("Property has invalid value: key_ops"));
        }
        version.operations = words;
    }
    if let Some(tags) = object(body, "tags") {
        version.tags = texts(tags)?;
    }
    Ok(())
}

/// What a key may do when nobody says.
fn usual(kind: &str) -> Vec<String> {
    let all: &[&str] = match kind {
        "RSA" | "RSA-HSM" => &["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"],
        "EC" | "EC-HSM" => &["sign", "verify"],
        _ => &["encrypt", "decrypt", "wrapKey", "unwrapKey"],
    };
    all.iter().map(ToString::to_string).collect()
}

/// Draws a key. RSA takes a second or more.
async fn drawn(kind: &str, size: Option<u64>, hsm: bool) -> Result<Material> {
    let wrong = || Refused::parameter("Property has invalid value: key_size");
    match (kind, hsm) {
        ("RSA", false) | ("RSA-HSM", _) => {
            let bits = size.unwrap_or(2048);
            let made = tokio::task::spawn_blocking(move || Material::rsa(bits)).await;
            made.map_err(|_| broken())?.map_err(|Broken| wrong())
        }
        ("EC", false) | ("EC-HSM", _) => Material::ec().map_err(|Broken| wrong()),
        ("oct-HSM", true) => match size.unwrap_or(256) {
            bits @ (128 | 192 | 256) => Ok(Material::Oct(crate::crypto::random(usize::try_from(bits / 8).unwrap_or(32)))),
            _ => Err(wrong()),
        },
        (_, _) => Err(Refused::parameter("Property has invalid value: kty")),
    }
}

fn add(fake: &Fake, asked: &Asked<'_>, name: &str, version: Version) -> Result<Response> {
    let id = version.id.clone();
    let mut store = fake.store.lock();
    let key = store.add(&asked.host, name, version, asked.now)?;
    let version = key.version(&id)?;
    Ok(done(version.bundle(kid(&asked.host, &key.name, &id))))
}

fn fit(name: &str) -> Result<()> {
    let fits = (1..=127).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then_some(())
        .ok_or_else(|| Refused::parameter("The request URI contains an invalid name."))
}

async fn create(fake: &Fake, asked: &Asked<'_>, name: &str) -> Result<Response> {
    fit(name)?;
    let body = asked.json()?;
    let kind = text(&body, "kty").ok_or_else(|| Refused::parameter("Required parameter kty is missing"))?;
    let size = body.get("key_size").and_then(Value::as_u64);
    let mut version = Version::new(drawn(kind, size, asked.hsm).await?, kind, asked.now);
    version.operations = usual(kind);
    apply(&mut version, &body)?;
    add(fake, asked, name, version)
}

async fn rotate(fake: &Fake, asked: &Asked<'_>, name: &str) -> Result<Response> {
    let last = fake.store.lock().key(&asked.host, name)?.current()?.clone();
    if !last.enabled {
        return Err(Refused::disabled("rotate"));
    }
    let size = match &last.material {
        Material::Rsa(rsa) => Some(rsa.modulus.len() * 8),
        Material::Oct(key) => Some(key.len() * 8),
        Material::Ec { .. } => None,
    };
    let material = drawn(&last.kind, size.and_then(|bits| u64::try_from(bits).ok()), asked.hsm).await?;
    let mut version = Version::new(material, &last.kind, asked.now);
    version.operations = last.operations;
    version.tags = last.tags;
    add(fake, asked, name, version)
}

fn import(fake: &Fake, asked: &Asked<'_>, name: &str) -> Result<Response> {
    fit(name)?;
    let body = asked.json()?;
    let wrong = || Refused::parameter("Property has invalid value: key");
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
            let made = Material::from_numbers(&[n, e, d, p, q, dp, dq, qi]).map_err(|Broken| wrong())?;
            (made, if asked.hsm { "RSA-HSM" } else { kind })
        }
        Some("oct" | "oct-HSM") if asked.hsm => {
            let bytes = number("k").filter(|bytes| matches!(bytes.len(), 16 | 24 | 32)).ok_or_else(wrong)?;
            (Material::Oct(bytes), "oct-HSM")
        }
        Some(_) | None => return Err(wrong()),
    };
    let mut version = Version::new(material, kind, asked.now);
    version.operations = usual(kind);
    apply(&mut version, key)?;
    apply(&mut version, &body)?;
    add(fake, asked, name, version)
}

fn update(fake: &Fake, asked: &Asked<'_>, name: &str, version: &str) -> Result<Response> {
    let body = asked.json()?;
    let mut store = fake.store.lock();
    let key = store.key_mut(&asked.host, name)?;
    let name = key.name.clone();
    let version = key.version_mut(version)?;
    apply(version, &body)?;
    version.updated = asked.now;
    Ok(done(version.bundle(kid(&asked.host, &name, &version.id))))
}

fn random(asked: &Asked<'_>) -> Result<Response> {
    let count = asked
        .json()?
        .get("count")
        .and_then(Value::as_u64)
        .filter(|count| (1..=MAX_RANDOM).contains(count));
    let count = count.and_then(|count| usize::try_from(count).ok());
    let count = count.ok_or_else(|| Refused::parameter("Property has invalid value: count"))?;
    Ok(done(json!({"value": base64url(&crate::crypto::random(count))})))
}
