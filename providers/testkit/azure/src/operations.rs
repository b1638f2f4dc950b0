//! Cryptographic operations: wrap, unwrap, encrypt, decrypt.

use serde_json::{Value, json};

use crate::access::text;
use crate::crypto::{AeadInput, CryptoError};
use crate::encoding::{base64url, from_base64url};
use crate::responses::{Refusal, Result};
use crate::vaults::{Key, Version, kid};

/// A field of the body as bytes; empty where it is missing.
fn bytes(body: &Value, name: &'static str) -> Result<Vec<u8>> {
    let wrong = || Refusal::parameter(format!("Property {name} has invalid value"));
    match body.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => value.as_str().and_then(from_base64url).ok_or_else(wrong),
    }
}

/// Fails unless the version is enabled, valid now, and permits the operation.
fn permitted(version: &Version, operation: &str, word: &str, now: i64) -> Result<()> {
    if !version.enabled {
        return Err(Refusal::disabled(word));
    }
    // The validity dates restrict wrapping only.
    let opens = matches!(operation, "decrypt" | "unwrapkey");
    if !opens && version.not_before.is_some_and(|from| now < from) {
        return Err(Refusal::not_yet(word));
    }
    if !opens && version.expires.is_some_and(|end| now >= end) {
        return Err(Refusal::expired(word));
    }
    match version.operations.iter().any(|permitted| permitted.eq_ignore_ascii_case(operation)) {
        true => Ok(()),
        false => Err(Refusal::not_permitted(word)),
    }
}

/// Whether an algorithm supports an operation.
fn supported(operation: &str, algorithm: &str) -> bool {
    match (operation, algorithm.ends_with("GCM")) {
        ("encrypt" | "decrypt", true) => true,
        ("encrypt" | "decrypt" | "wrapkey" | "unwrapkey", false) => !algorithm.ends_with("KW") || operation.ends_with("key"),
        (_, _) => false,
    }
}

/// Performs one operation. `operation` is its lower-case name from the path, `word` the name in
/// Azure's messages.
pub(crate) fn operate(host: &str, key: &Key, version: &str, operation: &str, word: &str, body: &Value, now: i64) -> Result<Value> {
    let version = key.version(version)?;
    permitted(version, operation, word, now)?;
    let algorithm = text(body, "alg").ok_or_else(|| Refusal::parameter("Required parameter alg is missing"))?;
    let unsupported = || Refusal::parameter("The algorithm is not supported by this key.");
    if !supported(operation, algorithm) {
        return Err(unsupported());
    }
    if body.get("value").is_none() {
        return Err(Refusal::parameter("Required parameter value is missing"));
    }
    let (value, aad, iv, tag) = (bytes(body, "value")?, bytes(body, "aad")?, bytes(body, "iv")?, bytes(body, "tag")?);
    let mut response = json!({"kid": kid(host, &key.name, &version.id)});
    match operation {
        "encrypt" | "wrapkey" => {
            let encrypted = version
                .material
                .encrypt(algorithm, &value, &aad)
                .map_err(|CryptoError| unsupported())?;
            response["value"] = json!(base64url(&encrypted.value));
            if let Some(sealed) = encrypted.sealed {
                response["iv"] = json!(base64url(&sealed.iv));
                response["tag"] = json!(base64url(&sealed.tag));
                response["aad"] = json!(base64url(&aad));
            }
        }
        _ => {
            let aead = AeadInput {
                iv: &iv,
                tag: &tag,
                aad: &aad,
            };
            let plaintext = version.material.decrypt(algorithm, &value, &aead);
            let plaintext = plaintext.map_err(|CryptoError| Refusal::parameter("The parameter is incorrect."))?;
            response["value"] = json!(base64url(&plaintext));
        }
    }
    Ok(response)
}
