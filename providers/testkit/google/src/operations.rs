//! Cryptographic operations: encrypt, decrypt, public keys, random bytes.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::call::Call;
use crate::json::{EnumStyle, Level, Purpose, base64, crc32c};
use crate::material::{self, Material, oaep};
use crate::names::KeyName;
use crate::refusal::Refusal;

/// The longest plaintext, associated data or ciphertext under a software key, in bytes.
const MAX_INPUT: usize = 64 * 1024;
/// The longest plaintext and associated data together under an HSM key, in bytes.
const MAX_HSM_INPUT: usize = 8 * 1024;

fn internal(_: material::CryptoError) -> Refusal {
    Refusal::internal("The cryptography failed.")
}

/// Fails for an input over the protection level's limit.
fn sized(level: Level, text: &[u8], aad: &[u8]) -> Result<(), Refusal> {
    let fits = match level {
        Level::Software | Level::External | Level::ExternalVpc => text.len() <= MAX_INPUT && aad.len() <= MAX_INPUT,
        Level::Hsm => text.len() + aad.len() <= MAX_HSM_INPUT,
    };
    fits.then_some(()).ok_or_else(|| Refusal::invalid("The input is too large."))
}

pub(crate) fn encrypt(call: &Call<'_>, name: &KeyName, number: Option<u32>) -> Result<Value, Refusal> {
    let resource = number.map_or_else(|| name.full(), |number| name.version(number));
    call.demand("cloudkms.cryptoKeyVersions.useToEncrypt", &resource)?;
    let body = call.fields(&[
        "name",
        "plaintext",
        "additionalAuthenticatedData",
        "plaintextCrc32c",
        "additionalAuthenticatedDataCrc32c",
    ])?;
    let (plaintext, plaintext_verified) = body.checked("plaintext")?;
    let (aad, aad_verified) = body.checked("additionalAuthenticatedData")?;
    let resources = call.service.resources.lock();
    let key = resources.key(name)?;
    key.of_purpose(name, Purpose::EncryptDecrypt, "Encrypt")?;
    let number = number.or(key.primary).ok_or_else(|| {
        let message = format!("{} does not have a primary version.", name.full());
        Refusal::failed(message)
    })?;
    let version = key.version(name, number)?;
    let resource = name.version(number);
    version.usable(&resource, call.now, call.lag())?;
    sized(version.level, &plaintext, &aad)?;
    let Material::Symmetric(secret) = version.material.as_ref() else {
        return Err(Refusal::internal("no material"));
    };
    let ciphertext = material::seal(&name.full(), number, secret, &plaintext, &aad).map_err(internal)?;
    let mut response = json!({
        "name": resource,
        "ciphertext": base64(&ciphertext),
        "ciphertextCrc32c": crc32c(&ciphertext),
        "protectionLevel": version.level.to_json(call.style),
    });
    add_flag(&mut response, "verifiedPlaintextCrc32c", plaintext_verified);
    add_flag(&mut response, "verifiedAdditionalAuthenticatedDataCrc32c", aad_verified);
    Ok(response)
}

/// Adds a flag; a false one is omitted, as in Google's JSON.
fn add_flag(response: &mut Value, field: &str, flag: bool) {
    if flag {
        response[field] = true.into();
    }
}

pub(crate) fn decrypt(call: &Call<'_>, name: &KeyName) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeyVersions.useToDecrypt", &name.full())?;
    let body = call.fields(&[
        "name",
        "ciphertext",
        "additionalAuthenticatedData",
        "ciphertextCrc32c",
        "additionalAuthenticatedDataCrc32c",
    ])?;
    let (ciphertext, _) = body.checked("ciphertext")?;
    let (aad, _) = body.checked("additionalAuthenticatedData")?;
    let resources = call.service.resources.lock();
    let key = resources.key(name)?;
    key.of_purpose(name, Purpose::EncryptDecrypt, "Decrypt")?;
    let rejected = || Refusal::invalid("Decryption failed: the ciphertext is invalid.");
    let wrong_key = || Refusal::invalid("Decryption failed: verify that 'name' refers to the correct CryptoKey.");
    let number = material::version_of(&name.full(), &ciphertext).ok_or_else(wrong_key)?;
    let version = key.versions.get(&number).ok_or_else(rejected)?;
    version.usable(&name.version(number), call.now, call.lag())?;
    let Material::Symmetric(secret) = version.material.as_ref() else {
        return Err(Refusal::internal("no material"));
    };
    let plaintext = material::open(secret, &ciphertext, &aad).map_err(|_| rejected())?;
    let mut response = json!({
        "plaintextCrc32c": crc32c(&plaintext),
        "protectionLevel": version.level.to_json(call.style),
    });
    if !plaintext.is_empty() {
        response["plaintext"] = base64(&plaintext);
    }
    add_flag(&mut response, "usedPrimary", key.primary == Some(number));
    Ok(response)
}

pub(crate) fn asymmetric_decrypt(call: &Call<'_>, name: &KeyName, number: u32) -> Result<Value, Refusal> {
    let resource = name.version(number);
    call.demand("cloudkms.cryptoKeyVersions.useToDecrypt", &resource)?;
    let body = call.fields(&["name", "ciphertext", "ciphertextCrc32c"])?;
    let (ciphertext, ciphertext_verified) = body.checked("ciphertext")?;
    let (algorithm, level, material) = {
        let resources = call.service.resources.lock();
        let key = resources.key(name)?;
        key.of_purpose(name, Purpose::AsymmetricDecrypt, "AsymmetricDecrypt")?;
        let version = key.version(name, number)?;
        version.usable(&resource, call.now, call.lag())?;
        (version.algorithm, version.level, Arc::clone(&version.material))
    };
    let (Material::Private(rsa), Some((_, how))) = (material.as_ref(), oaep(algorithm)) else {
        return Err(Refusal::internal("no material"));
    };
    let plaintext = rsa
        .decrypt(how, &ciphertext)
        .map_err(|_| Refusal::invalid("Decryption failed: the ciphertext is invalid."))?;
    let mut response = json!({
        "plaintext": base64(&plaintext),
        "plaintextCrc32c": crc32c(&plaintext),
        "protectionLevel": level.to_json(call.style),
    });
    add_flag(&mut response, "verifiedCiphertextCrc32c", ciphertext_verified);
    Ok(response)
}

pub(crate) fn public_key(call: &Call<'_>, name: &KeyName, number: u32) -> Result<Value, Refusal> {
    let resource = name.version(number);
    call.demand("cloudkms.cryptoKeyVersions.viewPublicKey", &resource)?;
    let resources = call.service.resources.lock();
    let key = resources.key(name)?;
    let version = key.version(name, number)?;
    if key.purpose != Purpose::AsymmetricDecrypt {
        let message = format!("{} has no public key.", name.full());
        return Err(Refusal::failed(message));
    }
    version.usable(&resource, call.now, call.lag())?;
    let Material::Private(rsa) = version.material.as_ref() else {
        return Err(Refusal::internal("no material"));
    };
    let pem = &rsa.public_pem;
    let format = match call.style {
        EnumStyle::Names => "PEM".into(),
        EnumStyle::Numbers => Value::from(1),
    };
    Ok(json!({
        "name": resource,
        "pemCrc32c": crc32c(pem.as_bytes()),
        "pem": pem,
        "algorithm": version.algorithm.to_json(call.style),
        "protectionLevel": version.level.to_json(call.style),
        "publicKeyFormat": format,
    }))
}

pub(crate) fn random_bytes(call: &Call<'_>, location: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.locations.generateRandomBytes", location)?;
    let body = call.fields(&["location", "lengthBytes", "protectionLevel"])?;
    let level: Option<Level> = body.choice("protectionLevel")?;
    if level != Some(Level::Hsm) {
        return Err(Refusal::invalid("protection_level must be HSM."));
    }
    let length = body.number("lengthBytes")?.and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| (8..=1024).contains(length));
    let length = length.ok_or_else(|| Refusal::invalid("length_bytes must be between 8 and 1024."))?;
    let bytes: [u8; 1024] = material::random().map_err(internal)?;
    let data = bytes.get(..length).unwrap_or_default();
    Ok(json!({"data": base64(data), "dataCrc32c": crc32c(data)}))
}
