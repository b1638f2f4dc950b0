//! The API: authentication, validation, and the four calls.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claviger_fake::{Caller, Clock};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::access::{Access, AccessKey, Denial};
use crate::crypto::{self, Parts as Encryption};
use crate::keys::{Key, Keys};
use crate::responses::{Refusal, Result, ok};
use crate::signature::verified;

/// The longest request body, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The longest plaintext, ciphertext and additional data, in bytes.
const MAX_DATA: usize = 8192;
/// The longest metadata, in bytes.
const MAX_METADATA: usize = 20;
/// The members that request metadata can have.
const METADATA: [&str; 7] = [
    "awsPrincipalArn",
    "awsSourceVpc",
    "awsSourceVpce",
    "kmsKeyArn",
    "kmsOperation",
    "kmsRequestId",
    "kmsViaService",
];

/// The state that all requests share.
pub(crate) struct Service {
    pub(crate) access: Arc<Access>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) prefix: String,
}

pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/_fake/xks", put(set_up))
        .fallback(api)
        .layer(from_fn_with_state(Arc::clone(&service), dated))
        .with_state(service)
}

/// Every response has the date of the fake's clock.
async fn dated(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let date = httpdate::fmt_http_date(service.clock.now());
    if let Ok(date) = HeaderValue::try_from(date) {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

/// The body of `PUT /_fake/xks`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setup {
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    access_keys: Option<Vec<AccessKey>>,
    #[serde(default)]
    denials: Option<Vec<Denial>>,
    #[serde(default)]
    fleet: Option<Vec<String>>,
    /// The uses of new keys, by their ids.
    #[serde(default)]
    keys: std::collections::BTreeMap<String, Vec<String>>,
}

async fn set_up(State(service): State<Arc<Service>>, Json(setup): Json<Setup>) -> StatusCode {
    service.access.change(|settings| {
        settings.region = setup.region.unwrap_or_else(|| settings.region.clone());
        settings.access_keys = setup.access_keys.unwrap_or_else(|| settings.access_keys.clone());
        settings.denials = setup.denials.unwrap_or_else(|| settings.denials.clone());
        settings.fleet = setup.fleet.unwrap_or_else(|| settings.fleet.clone());
    });
    for (id, usage) in &setup.keys {
        let usage: Vec<&str> = usage.iter().map(String::as_str).collect();
        service.keys.put(id, Key::new(&usage));
    }
    StatusCode::NO_CONTENT
}

async fn api(State(service): State<Arc<Service>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(Body::new(body), MAX_BODY).await else {
        return Refusal::validation("The body is too long.").into_response();
    };
    if parts.method != Method::POST {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let caller = verified(&parts, &body, &service.access.settings(), service.clock.now());
    let response = match &caller {
        Ok(_) => service.call(&parts, &body).unwrap_or_else(Refusal::into_response),
        Err(refusal) => refusal.clone().into_response(),
    };
    match caller {
        Ok(id) => {
            let mut response = response;
            response.extensions_mut().insert(Caller(id));
            response
        }
        Err(_) => response,
    }
}

impl Service {
    fn call(&self, parts: &Parts, body: &Bytes) -> Result<Response> {
        let path = parts.uri.path().strip_prefix(self.prefix.as_str());
        let path = path.and_then(|path| path.strip_prefix("/kms/xks/v1/")).ok_or_else(Refusal::path)?;
        let segments: Vec<&str> = path.split('/').collect();
        let body: Value = serde_json::from_slice(body).map_err(|_| Refusal::validation("The body is no JSON."))?;
        let metadata = &body["requestMetadata"];
        match segments[..] {
            ["health"] => {
                check_metadata(metadata, &[])?;
                Ok(ok(self.health()))
            }
            ["keys", id, "metadata"] => {
                check_metadata(metadata, &["awsPrincipalArn"])?;
                self.permit(metadata)?;
                let key = self.keys.get(id)?;
                let status = if key.enabled { "ENABLED" } else { "DISABLED" };
                Ok(ok(json!({"keySpec": key.spec, "keyUsage": key.usage, "keyStatus": status})))
            }
            ["keys", id, "encrypt"] => {
                check_metadata(metadata, &["awsPrincipalArn", "kmsKeyArn"])?;
                self.permit(metadata)?;
                encrypt(&self.keys.get(id)?, &body)
            }
            ["keys", id, "decrypt"] => {
                check_metadata(metadata, &["awsPrincipalArn", "kmsKeyArn"])?;
                self.permit(metadata)?;
                decrypt(&self.keys.get(id)?, &body)
            }
            _ => Err(Refusal::path()),
        }
    }

    fn permit(&self, metadata: &Value) -> Result<()> {
        match self.access.denies(metadata) {
            true => Err(Refusal::denied()),
            false => Ok(()),
        }
    }

    fn health(&self) -> Value {
        let fleet = self.access.settings().fleet;
        let managers = fleet.iter().enumerate();
        let managers: Vec<Value> = managers
            .map(|(number, status)| json!({"id": format!("manager-{number}"), "model": "memory", "healthStatus": status}))
            .collect();
        json!({
            "xksProxyFleetSize": 1, "xksProxyVendor": "Claviger", "xksProxyModel": "fake for tests",
            "ekmVendor": "Claviger", "ekmFleetDetails": managers,
        })
    }
}

/// Refuses metadata that lack a member, or have one that the specification does not know.
fn check_metadata(metadata: &Value, needed: &[&str]) -> Result<()> {
    let wrong = Refusal::validation("The request metadata lack a member, or have another one.");
    let members = metadata.as_object().ok_or_else(|| wrong.clone())?;
    let is_text = |name: &&str| members.get(*name).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    let sound = ["kmsOperation", "kmsRequestId"].iter().chain(needed).all(is_text)
        && members
            .iter()
            .all(|(name, value)| METADATA.contains(&name.as_str()) && value.is_string());
    sound.then_some(()).ok_or(wrong)
}

/// A member in base64, at most `max` bytes; empty if it is absent and not `needed`.
fn bytes(body: &Value, name: &str, needed: bool, max: usize) -> Result<Vec<u8>> {
    let wrong = || Refusal::validation("A member is missing, too long, or no standard base64.");
    let decoded = match &body[name] {
        Value::Null if !needed => return Ok(Vec::new()),
        value => value.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or_else(wrong)?,
    };
    ((1..=max).contains(&decoded.len()) || (!needed && decoded.is_empty()))
        .then_some(decoded)
        .ok_or_else(wrong)
}

fn check_algorithm(body: &Value) -> Result<()> {
    match body["encryptionAlgorithm"] == "AES_GCM" {
        true => Ok(()),
        false => Err(Refusal::validation("The encryption algorithm is another one.")),
    }
}

fn encrypt(key: &Key, body: &Value) -> Result<Response> {
    check_algorithm(body)?;
    let plaintext = bytes(body, "plaintext", true, MAX_DATA)?;
    let aad = bytes(body, "additionalAuthenticatedData", false, MAX_DATA)?;
    let verified = match body["ciphertextDataIntegrityValueAlgorithm"].as_str() {
        None if body["ciphertextDataIntegrityValueAlgorithm"].is_null() => false,
        Some("SHA_256") => true,
        None | Some(_) => return Err(Refusal::validation("The integrity value's algorithm is another one.")),
    };
    let encryption = key.encrypt(plaintext, &aad, verified)?;
    let mut answer = json!({
        "ciphertext": STANDARD.encode(&encryption.ciphertext),
        "initializationVector": STANDARD.encode(&encryption.iv),
        "authenticationTag": STANDARD.encode(&encryption.tag),
        "ciphertextMetadata": STANDARD.encode(&encryption.metadata),
    });
    if verified {
        answer["ciphertextDataIntegrityValue"] = json!(STANDARD.encode(crypto::integrity(&aad, &encryption)));
    }
    Ok(ok(answer))
}

fn decrypt(key: &Key, body: &Value) -> Result<Response> {
    check_algorithm(body)?;
    let encryption = Encryption {
        iv: bytes(body, "initializationVector", true, 16)?,
        ciphertext: bytes(body, "ciphertext", true, MAX_DATA)?,
        tag: bytes(body, "authenticationTag", true, crypto::TAG)?,
        metadata: bytes(body, "ciphertextMetadata", false, MAX_METADATA)?,
    };
    let aad = bytes(body, "additionalAuthenticatedData", false, MAX_DATA)?;
    let plaintext = key.decrypt(&encryption, &aad)?;
    Ok(ok(json!({"plaintext": STANDARD.encode(plaintext)})))
}
