//! Import jobs, and key material imported through them.

use std::sync::Arc;

use serde_json::Value;

use crate::call::Call;
use crate::json::{Algorithm, ImportMethod, JobState, Level, State};
use crate::material::import_key;
use crate::names::{KeyName, ResourcePath, id};
use crate::refusal::Refusal;
use crate::resources::{Job, Version};

fn job_name(ring: &str, id: &str) -> String {
    format!("{ring}/importJobs/{id}")
}

pub(crate) fn list(call: &Call<'_>, ring: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.importJobs.list", ring)?;
    let resources = call.service.resources.lock();
    let all: Vec<_> = resources.ring(ring)?.jobs.iter().collect();
    call.page("importJobs", all, |(id, job)| {
        job.to_json(&job_name(ring, id), call.style, call.now)
    })
}

pub(crate) fn get(call: &Call<'_>, ring: &str, id: &str) -> Result<Value, Refusal> {
    let name = job_name(ring, id);
    call.demand("cloudkms.importJobs.get", &name)?;
    let resources = call.service.resources.lock();
    let job = resources
        .ring(ring)?
        .jobs
        .get(id)
        .ok_or_else(|| Refusal::not_found("ImportJob", &name))?;
    Ok(job.to_json(&name, call.style, call.now))
}

pub(crate) fn create(call: &Call<'_>, ring: &str) -> Result<Value, Refusal> {
    call.demand("cloudkms.importJobs.create", ring)?;
    let body = call.fields(&["name", "importMethod", "protectionLevel"])?;
    let given = call.query.get("importJobId").map(String::as_str).unwrap_or_default();
    let id = id(given)?;
    let method: ImportMethod = body
        .choice("importMethod")?
        .ok_or_else(|| Refusal::invalid("import_method must be set."))?;
    let level: Level = body
        .choice("protectionLevel")?
        .ok_or_else(|| Refusal::invalid("protection_level must be set."))?;
    let private = import_key(method).map_err(|_| Refusal::internal("no key"))?;
    let job = Job {
        method,
        level,
        created: call.now,
        private,
    };
    let mut resources = call.service.resources.lock();
    let jobs = &mut resources.ring_mut(ring)?.jobs;
    let name = job_name(ring, &id);
    if jobs.contains_key(&id) {
        return Err(Refusal::exists("ImportJob", &name));
    }
    let response = job.to_json(&name, call.style, call.now);
    jobs.insert(id, job);
    Ok(response)
}

pub(crate) fn import(call: &Call<'_>, name: &KeyName) -> Result<Value, Refusal> {
    call.demand("cloudkms.cryptoKeyVersions.create", &name.full())?;
    let body = call.fields(&[
        "parent",
        "cryptoKeyVersion",
        "algorithm",
        "importJob",
        "wrappedKey",
        "rsaAesWrappedKey",
    ])?;
    if body.has("cryptoKeyVersion") {
        return Err(Refusal::unimplemented("import into an existing version"));
    }
    let algorithm: Algorithm = body
        .choice("algorithm")?
        .ok_or_else(|| Refusal::invalid("algorithm must be set."))?;
    let job_name = body.text("importJob")?.unwrap_or_default();
    let (ResourcePath::Job { ring, id }, None) = ResourcePath::parse(&job_name)? else {
        return Err(Refusal::invalid("import_job is not the name of an ImportJob."));
    };
    call.demand("cloudkms.importJobs.useToImport", &job_name)?;
    let field = if body.has("wrappedKey") { "wrappedKey" } else { "rsaAesWrappedKey" };
    let wrapped = body.bytes(field)?;
    let mut resources = call.service.resources.lock();
    let job = resources.ring(&ring)?.jobs.get(&id);
    let job = job.ok_or_else(|| Refusal::not_found("ImportJob", &job_name))?;
    if job.state(call.now) != JobState::Active {
        let message = format!("{job_name} is not active.");
        return Err(Refusal::failed(message));
    }
    let key = resources.key(name)?;
    if key.algorithm != algorithm || key.level != job.level || ring != name.ring {
        return Err(Refusal::invalid(
            "The algorithm, protection level and key ring of the import must be those of the CryptoKey.",
        ));
    }
    let material = crate::material::import(&job.private, job.method, &wrapped, algorithm)
        .map_err(|_| Refusal::invalid("The wrapped key could not be unwrapped, or is not of the requested algorithm."))?;
    let key = resources.key_mut(name)?;
    let number = key.next_number();
    let version = Version {
        state: State::Enabled,
        algorithm,
        level: key.level,
        created: call.now,
        generated: None,
        disabled: None,
        destroy: None,
        imported_by: Some(job_name),
        external_uri: None,
        material: Arc::new(material),
    };
    let response = version.to_json(&name.version(number), call.style);
    key.versions.insert(number, version);
    Ok(response)
}
