//! Crypto keys: create, get, list, update.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::call::Call;
use crate::json::{Algorithm, Body, Level, Purpose};
use crate::names::{KeyName, id};
use crate::refusal::Refusal;
use crate::resources::{DESTROY_AFTER, Key};
use crate::versions;

const FIELDS: [&str; 10] = [
    "name",
    "purpose",
    "versionTemplate",
    "labels",
    "importOnly",
    "destroyScheduledDuration",
    "rotationPeriod",
    "nextRotationTime",
    "primary",
    "createTime",
];

pub(crate) fn list(call: &Call<'_>, ring: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeys.list", ring)?;
    let resources = call.service.resources.lock();
    let all: Vec<_> = resources.ring(ring)?.keys.iter().collect();
    call.page("cryptoKeys", all, |(id, key)| {
        let name = KeyName {
            ring: ring.to_owned(),
            id: id.clone(),
        };
        key.to_json(&name, call.style)
    })
}

pub(crate) fn get(call: &Call<'_>, name: &KeyName) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeys.get", &name.full())?;
    Ok(call.service.resources.lock().key(name)?.to_json(name, call.style))
}

/// Whether keys of this purpose and protection level may have this algorithm.
fn allowed(purpose: Purpose, level: Level, algorithm: Algorithm) -> bool {
    match (purpose, algorithm) {
        (Purpose::EncryptDecrypt, Algorithm::Symmetric) => matches!(level, Level::Software | Level::Hsm),
        (Purpose::EncryptDecrypt, Algorithm::ExternalSymmetric) => matches!(level, Level::External | Level::ExternalVpc),
        (Purpose::AsymmetricDecrypt, algorithm) => {
            crate::material::oaep(algorithm).is_some() && matches!(level, Level::Software | Level::Hsm)
        }
        (Purpose::AsymmetricSign, Algorithm::EcSignP256) | (Purpose::Mac, Algorithm::HmacSha256) => true,
        (Purpose::EncryptDecrypt | Purpose::AsymmetricSign | Purpose::Mac, _) => false,
    }
}

/// The protection level and algorithm of `versionTemplate`.
fn template(body: &Body, purpose: Purpose) -> Result<(Level, Algorithm), Refusal> {
    let template = body.object("versionTemplate", &["protectionLevel", "algorithm"])?;
    let level = template.choice("protectionLevel")?.unwrap_or(Level::Software);
    let implied = match (purpose, level) {
        (Purpose::EncryptDecrypt, Level::Software | Level::Hsm) => Some(Algorithm::Symmetric),
        (Purpose::EncryptDecrypt, Level::External | Level::ExternalVpc) => Some(Algorithm::ExternalSymmetric),
        (Purpose::AsymmetricSign | Purpose::AsymmetricDecrypt | Purpose::Mac, _) => None,
    };
    let algorithm = template.choice("algorithm")?.or(implied);
    let algorithm = algorithm.ok_or_else(|| Refusal::invalid("CryptoKey.version_template.algorithm must be set for this purpose."))?;
    if !allowed(purpose, level, algorithm) {
        return Err(Refusal::invalid(
            "The algorithm is not allowed for the purpose and protection level of this CryptoKey.",
        ));
    }
    Ok((level, algorithm))
}

/// The labels, if they satisfy Google's rules for labels.
fn labels(body: &Body) -> Result<BTreeMap<String, String>, Refusal> {
    let labels = body.map("labels")?;
    let fits = |text: &str, least: usize| {
        let right = |c: char| c.is_lowercase() || c.is_numeric() || matches!(c, '_' | '-') || (c.is_alphabetic() && !c.is_uppercase());
        (least..=63).contains(&text.chars().count()) && text.chars().all(right)
    };
    let starts_well = |name: &str| name.chars().next().is_some_and(char::is_alphabetic);
    let right = labels
        .iter()
        .all(|(name, value)| starts_well(name) && fits(name, 1) && fits(value, 0));
    (right && labels.len() <= 64)
        .then_some(labels)
        .ok_or_else(|| Refusal::invalid("A label's key and value must match the requirements for labels."))
}

/// `destroyScheduledDuration`, in seconds.
fn destroy_after(body: &Body) -> Result<i64, Refusal> {
    let Some(text) = body.text("destroyScheduledDuration")? else {
        return Ok(DESTROY_AFTER);
    };
    let seconds = text.strip_suffix('s').and_then(|number| number.parse().ok());
    let within = seconds.filter(|seconds| (0..=120 * 86_400).contains(seconds));
    within.ok_or_else(|| Refusal::invalid("destroy_scheduled_duration must be between 0 and 120 days."))
}

pub(crate) fn create(call: &Call<'_>, ring: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeys.create", ring)?;
    let body = call.fields(&FIELDS)?;
    let given = call.query.get("cryptoKeyId").map(String::as_str).unwrap_or_default();
    let name = KeyName {
        ring: ring.to_owned(),
        id: id(given)?,
    };
    let purpose = body
        .choice("purpose")?
        .ok_or_else(|| Refusal::invalid("CryptoKey.purpose must be set."))?;
    let (level, algorithm) = template(&body, purpose)?;
    let key = Key {
        purpose,
        algorithm,
        level,
        created: call.now,
        primary: None,
        labels: labels(&body)?,
        destroy_after: destroy_after(&body)?,
        import_only: body.switch("importOnly")?,
        versions: BTreeMap::new(),
        hidden: call.service.appearance.of_new_key(),
    };
    let empty = call.query.get("skipInitialVersionCreation").is_some_and(|text| text == "true");
    if matches!(level, Level::External | Level::ExternalVpc) && !empty {
        return Err(Refusal::invalid(
            "skip_initial_version_creation must be true for protection levels EXTERNAL and EXTERNAL_VPC.",
        ));
    }
    if key.import_only && !empty {
        return Err(Refusal::invalid(
            "skip_initial_version_creation must be true for an import-only CryptoKey.",
        ));
    }
    let mut resources = call.service.resources.lock();
    let keys = &mut resources.ring_mut(ring)?.keys;
    if keys.contains_key(&name.id) {
        return Err(Refusal::exists("CryptoKey", &name.full()));
    }
    let key = keys.entry(name.id.clone()).or_insert(key);
    if !empty {
        let number = versions::add(call, &name, key, None)?;
        key.primary = (purpose == Purpose::EncryptDecrypt).then_some(number);
    }
    Ok(key.to_json(&name, call.style))
}

pub(crate) fn update(call: &Call<'_>, name: &KeyName) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeys.update", &name.full())?;
    let body = call.fields(&FIELDS)?;
    let mut resources = call.service.resources.lock();
    let key = resources.key_mut(name)?;
    for field in call.mask()? {
        match field.as_str() {
            "labels" => key.labels = labels(&body)?,
            "versionTemplate" | "versionTemplate.algorithm" | "versionTemplate.protectionLevel" => {
                (key.level, key.algorithm) = template(&body, key.purpose)?;
            }
            // A rotation schedule is accepted and never runs.
            "rotationPeriod" | "nextRotationTime" => {}
            other => {
                return Err(Refusal::invalid(format!(
                    "update_mask contains an immutable or unknown field: {other}."
                )));
            }
        }
    }
    Ok(key.to_json(name, call.style))
}

pub(crate) fn set_primary(call: &Call<'_>, name: &KeyName) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeys.update", &name.full())?;
    let body = call.fields(&["name", "cryptoKeyVersionId"])?;
    let mut resources = call.service.resources.lock();
    let key = resources.key_mut(name)?;
    key.of_purpose(name, Purpose::EncryptDecrypt, "UpdateCryptoKeyPrimaryVersion")?;
    let id = body.text("cryptoKeyVersionId")?.unwrap_or_default();
    let number = id.parse().map_err(|_| Refusal::invalid("crypto_key_version_id is not valid."))?;
    key.version(name, number)?;
    key.primary = Some(number);
    Ok(key.to_json(name, call.style))
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Level, Purpose, allowed};

    #[test]
    fn an_algorithm_needs_its_purpose_and_level() {
        assert!(allowed(Purpose::EncryptDecrypt, Level::Hsm, Algorithm::Symmetric));
        assert!(!allowed(Purpose::EncryptDecrypt, Level::External, Algorithm::Symmetric));
        assert!(allowed(Purpose::EncryptDecrypt, Level::ExternalVpc, Algorithm::ExternalSymmetric));
        assert!(!allowed(Purpose::AsymmetricDecrypt, Level::Software, Algorithm::Symmetric));
        assert!(allowed(Purpose::AsymmetricDecrypt, Level::Hsm, Algorithm::Oaep3072Sha256));
        assert!(!allowed(Purpose::AsymmetricDecrypt, Level::External, Algorithm::Oaep3072Sha256));
    }
}
