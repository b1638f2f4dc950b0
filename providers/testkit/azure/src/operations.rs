//! What is done with a key: wrap and unwrap, encrypt and decrypt.

use serde_json::{Value, json};

use crate::access::text;
use crate::answers::{Refused, Result};
use crate::crypto::{Beside, Broken};
use crate::store::{Key, Version, kid};
use crate::{base64url, from_base64url};

/// A request's bytes.
fn bytes(body: &Value, name: &'static str) -> Result<Vec<u8>> {
    let wrong = || Refused::parameter(format!("Property {name} has invalid value"));
    match body.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => value.as_str().and_then(from_base64url).ok_or_else(wrong),
    }
}

/// Whether a version may do this now.
fn permitted(version: &Version, operation: &str, word: &str, now: i64) -> Result<()> {
    if !version.enabled {
        return Err(Refused::disabled(word));
    }
    // What was made while it was valid can be opened for ever.
    let opens = matches!(operation, "decrypt" | "unwrapkey");
    if !opens && version.not_before.is_some_and(|from| now < from) {
        return Err(Refused::not_yet(word));
    }
    if !opens && version.expires.is_some_and(|end| now >= end) {
        return Err(Refused::expired(word));
    }
    match version.operations.iter().any(|permitted| permitted.eq_ignore_ascii_case(operation)) {
        true => Ok(()),
        false => Err(Refused::not_permitted(word)),
    }
}

/// Whether an operation is one of an algorithm's.
fn belongs(operation: &str, algorithm: &str) -> bool {
    match (operation, algorithm.ends_with("GCM")) {
        ("encrypt" | "decrypt", true) => true,
        ("encrypt" | "decrypt" | "wrapkey" | "unwrapkey", false) => !algorithm.ends_with("KW") || operation.ends_with("key"),
        (_, _) => false,
    }
}

/// One operation: its path's word, its word in Azure's messages, and the body.
pub(crate) fn operate(host: &str, key: &Key, version: &str, operation: &str, word: &str, body: &Value, now: i64) -> Result<Value> {
    let version = key.version(version)?;
    permitted(version, operation, word, now)?;
    let algorithm = text(body, "alg").ok_or_else(|| Refused::parameter("Required parameter alg is missing"))?;
    let unsupported = || Refused::parameter("The algorithm is not supported by this key.");
    if !belongs(operation, algorithm) {
        return Err(unsupported());
    }
    if body.get("value").is_none() {
        return Err(Refused::parameter("Required parameter value is missing"));
    }
    let (value, aad, iv, tag) = (bytes(body, "value")?, bytes(body, "aad")?, bytes(body, "iv")?, bytes(body, "tag")?);
    let mut answer = json!({"kid": kid(host, &key.name, &version.id)});
    match operation {
        "encrypt" | "wrapkey" => {
            let made = version.material.encrypt(algorithm, &value, &aad).map_err(|Broken| unsupported())?;
            answer["value"] = json!(base64url(&made.value));
            if let Some(sealed) = made.sealed {
                answer["iv"] = json!(base64url(&sealed.iv));
                answer["tag"] = json!(base64url(&sealed.tag));
                answer["aad"] = json!(base64url(&aad));
            }
        }
        _ => {
            let beside = Beside {
                iv: &iv,
                tag: &tag,
                aad: &aad,
            };
            let opened = version.material.decrypt(algorithm, &value, &beside);
            let opened = opened.map_err(|Broken| Refused::parameter("The parameter is incorrect."))?;
            answer["value"] = json!(base64url(&opened));
        }
    }
    Ok(answer)
}
