//! Crypto key versions: create, get, list, enable, disable, destroy, restore.

use std::sync::Arc;

use serde_json::Value;

use crate::call::Call;
use crate::json::{Level, State};
use crate::material::{Material, generate, oaep};
use crate::names::KeyName;
use crate::refusal::Refusal;
use crate::resources::{Key, Version};
use crate::rsa_pool;

const FIELDS: [&str; 12] = [
    "name",
    "state",
    "protectionLevel",
    "algorithm",
    "createTime",
    "generateTime",
    "destroyTime",
    "destroyEventTime",
    "importJob",
    "importTime",
    "externalProtectionLevelOptions",
    "reimportEligible",
];

/// Adds a version. Symmetric material is generated immediately. An RSA key is generated in the
/// background, and the version is `PENDING_GENERATION` until it is ready, as at Google.
pub(crate) fn add(call: &Call<'_>, name: &KeyName, key: &mut Key, external_uri: Option<String>) -> Result<u32, Refusal> {
    let number = key.next_number();
    let slow = oaep(key.algorithm).is_some();
    let material = match slow {
        true => Material::None,
        false => generate(key.algorithm).map_err(|_| Refusal::internal("no material"))?,
    };
    let version = Version {
        state: if slow { State::PendingGeneration } else { State::Enabled },
        algorithm: key.algorithm,
        level: key.level,
        created: call.now,
        generated: (!slow).then_some(call.now),
        disabled: None,
        destroy: None,
        imported_by: None,
        external_uri,
        material: Arc::new(material),
    };
    key.versions.insert(number, version);
    if slow {
        let (service, name, algorithm) = (Arc::clone(call.service), name.clone(), key.algorithm);
        tokio::task::spawn_blocking(move || {
            let Ok(material) = rsa_pool::take(algorithm) else {
                return;
            };
            let now = service.clock.unix();
            let mut resources = service.resources.lock();
            if let Ok(version) = resources.key_mut(&name).and_then(|key| key.version_mut(&name, number))
                && version.state == State::PendingGeneration
            {
                version.material = Arc::new(material);
                version.state = State::Enabled;
                version.generated = Some(now);
            }
        });
    }
    Ok(number)
}

pub(crate) fn list(call: &Call<'_>, name: &KeyName) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeyVersions.list", &name.full())?;
    let resources = call.service.resources.lock();
    let all: Vec<_> = resources.key(name)?.versions.iter().collect();
    call.page("cryptoKeyVersions", all, |(number, version)| {
        version.to_json(&name.version(*number), call.style)
    })
}

pub(crate) fn get(call: &Call<'_>, name: &KeyName, number: u32) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeyVersions.get", &name.version(number))?;
    let resources = call.service.resources.lock();
    Ok(resources
        .key(name)?
        .version(name, number)?
        .to_json(&name.version(number), call.style))
}

pub(crate) fn create(call: &Call<'_>, name: &KeyName) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeyVersions.create", &name.full())?;
    let body = call.fields(&FIELDS)?;
    let external = body.object("externalProtectionLevelOptions", &["externalKeyUri", "ekmConnectionKeyPath"])?;
    let uri = external.text("externalKeyUri")?.or(external.text("ekmConnectionKeyPath")?);
    let mut resources = call.service.resources.lock();
    let key = resources.key_mut(name)?;
    if key.import_only {
        let message = format!("{} is import-only.", name.full());
        return Err(Refusal::failed(message));
    }
    match (key.level, &uri) {
        (Level::External | Level::ExternalVpc, None) => {
            return Err(Refusal::invalid(
                "external_protection_level_options must be set for this protection level.",
            ));
        }
        (Level::Software | Level::Hsm, Some(_)) => {
            return Err(Refusal::invalid(
                "external_protection_level_options must not be set for this protection level.",
            ));
        }
        (Level::External | Level::ExternalVpc, Some(_)) | (Level::Software | Level::Hsm, None) => {}
    }
    let number = add(call, name, key, uri)?;
    Ok(key.version(name, number)?.to_json(&name.version(number), call.style))
}

pub(crate) fn update(call: &Call<'_>, name: &KeyName, number: u32) -> Result<Value, Refusal> {
    let resource = name.version(number);
    call.demand("cloudkms.cryptoKeyVersions.update", &resource)?;
    let body = call.fields(&FIELDS)?;
    if call.mask()? != ["state"] {
        return Err(Refusal::unimplemented("update of a version's other fields"));
    }
    let wanted: State = body.choice("state")?.ok_or_else(|| Refusal::invalid("state must be set."))?;
    let mut resources = call.service.resources.lock();
    let version = resources.key_mut(name)?.version_mut(name, number)?;
    match (version.state, wanted) {
        (State::Enabled | State::Disabled, State::Enabled) => {
            version.state = State::Enabled;
            version.disabled = None;
        }
        (State::Enabled, State::Disabled) => {
            version.state = State::Disabled;
            version.disabled = Some(call.now);
        }
        (State::Disabled, State::Disabled) => {}
        _ => {
            let message = format!("{resource} cannot be moved to the requested state from its current one.");
            return Err(Refusal::failed(message));
        }
    }
    Ok(version.to_json(&resource, call.style))
}

pub(crate) fn destroy(call: &Call<'_>, name: &KeyName, number: u32) -> Result<Value, Refusal> {
    let resource = name.version(number);
    call.demand("cloudkms.cryptoKeyVersions.destroy", &resource)?;
    call.fields(&["name"])?;
    let mut resources = call.service.resources.lock();
    let key = resources.key_mut(name)?;
    let after = key.destroy_after;
    let version = key.version_mut(name, number)?;
    match version.state {
        State::Enabled | State::Disabled => {
            version.state = State::DestroyScheduled;
            version.destroy = Some(call.now + after);
        }
        State::Destroyed | State::DestroyScheduled | State::PendingGeneration | State::PendingImport => {
            let message = format!("{resource} cannot be destroyed in its current state.");
            return Err(Refusal::failed(message));
        }
    }
    Ok(version.to_json(&resource, call.style))
}

pub(crate) fn restore(call: &Call<'_>, name: &KeyName, number: u32) -> Result<Value, Refusal> {
    let resource = name.version(number);
    call.demand("cloudkms.cryptoKeyVersions.restore", &resource)?;
    call.fields(&["name"])?;
    let mut resources = call.service.resources.lock();
    let version = resources.key_mut(name)?.version_mut(name, number)?;
    if version.state != State::DestroyScheduled {
        let message = format!("{resource} is not scheduled for destruction.");
        return Err(Refusal::failed(message));
    }
    version.state = State::Disabled;
    version.disabled = None;
    version.destroy = None;
    Ok(version.to_json(&resource, call.style))
}
