//! Locations and key rings.

use serde_json::{Value, json};

use crate::call::Call;
use crate::json::time;
use crate::names::{ResourcePath, id};
use crate::refusal::Refusal;
use crate::resources::Ring;

/// The description of a location.
pub(crate) fn location(name: &str) -> Value {
    let id = name.rsplit('/').next().unwrap_or_default();
    let metadata = json!({
        "@type": "type.googleapis.com/google.cloud.kms.v1.LocationMetadata", "hsmAvailable": true, "ekmAvailable": true,
    });
    json!({"name": name, "locationId": id, "metadata": metadata})
}

pub(crate) fn list_locations(call: &Call<'_>, project: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.locations.list", project)?;
    let all = ResourcePath::locations()
        .iter()
        .map(|id| location(&format!("{project}/locations/{id}")));
    Ok(json!({"locations": all.collect::<Vec<_>>()}))
}

fn to_json(name: &str, ring: &Ring) -> Value {
    json!({"name": name, "createTime": time(ring.created)})
}

pub(crate) fn list(call: &Call<'_>, location: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.keyRings.list", location)?;
    let resources = call.service.resources.lock();
    let prefix = format!("{location}/keyRings/");
    let all: Vec<_> = resources.rings.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
    call.page("keyRings", all, |(name, ring)| to_json(name, ring))
}

pub(crate) fn create(call: &Call<'_>, location: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.keyRings.create", location)?;
    call.fields(&["name", "createTime"])?;
    let given = call.query.get("keyRingId").map(String::as_str).unwrap_or_default();
    let name = format!("{location}/keyRings/{}", id(given)?);
    let mut resources = call.service.resources.lock();
    resources.make_ring(name.clone(), call.now)?;
    Ok(to_json(&name, resources.ring(&name)?))
}

pub(crate) fn get(call: &Call<'_>, name: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.keyRings.get", name)?;
    Ok(to_json(name, call.service.resources.lock().ring(name)?))
}
