//! Locations and key rings.

use serde_json::{Value, json};

use crate::names::{Place, id};
use crate::refusal::Refusal;
use crate::service::Call;
use crate::wire::time;
use crate::world::Ring;

pub(crate) fn location(name: &str) -> Value {
    let id = name.rsplit('/').next().unwrap_or_default();
    let metadata = json!({
        "@type": "type.googleapis.com/google.cloud.kms.v1.LocationMetadata", "hsmAvailable": true, "ekmAvailable": true,
    });
    json!({"name": name, "locationId": id, "metadata": metadata})
}

pub(crate) fn list_locations(call: &Call<'_>, project: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.locations.list", project)?;
    let all = Place::locations().iter().map(|id| location(&format!("{project}/locations/{id}")));
    Ok(json!({"locations": all.collect::<Vec<_>>()}))
}

fn shown(name: &str, ring: &Ring) -> Value {
    json!({"name": name, "createTime": time(ring.created)})
}

pub(crate) fn list(call: &Call<'_>, location: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.keyRings.list", location)?;
    let world = call.service.world.lock();
    let prefix = format!("{location}/keyRings/");
    let all: Vec<_> = world.rings.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
    call.page("keyRings", all, |(name, ring)| shown(name, ring))
}

pub(crate) fn create(call: &Call<'_>, location: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.keyRings.create", location)?;
    call.members(&["name", "createTime"])?;
    let given = call.query.get("keyRingId").map(String::as_str).unwrap_or_default();
    let name = format!("{location}/keyRings/{}", id(given)?);
    let mut world = call.service.world.lock();
    world.make_ring(name.clone(), call.now)?;
    Ok(shown(&name, world.ring(&name)?))
}

pub(crate) fn get(call: &Call<'_>, name: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.keyRings.get", name)?;
    Ok(shown(name, call.service.world.lock().ring(name)?))
}
