//! The vaults and their keys. Each host name is a separate vault.

use std::collections::{BTreeMap, HashMap};

use claviger_fake::{Appearance, Hidden};
use serde_json::{Map, Value, json};

use crate::crypto::{Material, random_hex};
use crate::encoding::base64url;
use crate::responses::{Refusal, Result};

/// For how many days a deleted key can be recovered.
const RECOVERABLE_DAYS: i64 = 90;
const DAY: i64 = 86_400;

/// A version of a key. Times are in Unix seconds.
#[derive(Clone)]
pub(crate) struct Version {
    /// 32 hex digits.
    pub(crate) id: String,
    pub(crate) material: Material,
    /// RSA, RSA-HSM, EC, EC-HSM or oct-HSM.
    pub(crate) kind: String,
    pub(crate) operations: Vec<String>,
    pub(crate) enabled: bool,
    pub(crate) not_before: Option<i64>,
    pub(crate) expires: Option<i64>,
    pub(crate) created: i64,
    pub(crate) updated: i64,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Version {
    pub(crate) fn new(material: Material, kind: &str, now: i64) -> Self {
        Self {
            id: random_hex(16),
            material,
            kind: kind.to_owned(),
            operations: Vec::new(),
            enabled: true,
            not_before: None,
            expires: None,
            created: now,
            updated: now,
            tags: BTreeMap::new(),
        }
    }

    fn attributes(&self) -> Value {
        let mut attributes = json!({
            "enabled": self.enabled, "created": self.created, "updated": self.updated,
            "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": RECOVERABLE_DAYS, "exportable": false,
        });
        for (name, value) in [("nbf", self.not_before), ("exp", self.expires)] {
            if let Some(value) = value {
                attributes[name] = json!(value);
            }
        }
        attributes
    }

    /// Its entry in a list of keys or versions.
    pub(crate) fn listed(&self, kid: String) -> Value {
        let mut entry = json!({"kid": kid, "attributes": self.attributes()});
        if !self.tags.is_empty() {
            entry["tags"] = json!(self.tags);
        }
        entry
    }

    /// The key's full description, without private material.
    pub(crate) fn bundle(&self, kid: String) -> Value {
        let mut key = json!({"kid": kid, "kty": self.kind, "key_ops": self.operations});
        match &self.material {
            Material::Rsa(rsa) => {
                key["n"] = json!(base64url(&rsa.modulus));
                key["e"] = json!(base64url(&rsa.exponent));
            }
            Material::Ec { x, y } => {
                key["crv"] = json!("P-256");
                key["x"] = json!(base64url(x));
                key["y"] = json!(base64url(y));
            }
            Material::Oct(_) => {}
        }
        let mut bundle = json!({"key": key, "attributes": self.attributes()});
        if !self.tags.is_empty() {
            bundle["tags"] = json!(self.tags);
        }
        bundle
    }
}

/// A key with its versions.
pub(crate) struct Key {
    /// As spelled when the key was created; names are case-insensitive.
    pub(crate) name: String,
    /// Oldest first, at least one.
    pub(crate) versions: Vec<Version>,
    /// When it was deleted; a deleted key can be recovered.
    pub(crate) deleted: Option<i64>,
    /// Its rotation policy, as the caller sent it.
    pub(crate) policy: Option<Value>,
    /// The reads that do not find it yet.
    pub(crate) hidden: Hidden,
}

impl Key {
    /// The current version, which is the newest.
    pub(crate) fn current(&self) -> Result<&Version> {
        self.versions.last().ok_or_else(|| Refusal::not_found(&self.name))
    }

    /// The version with this id; the current one for an empty id.
    pub(crate) fn version(&self, id: &str) -> Result<&Version> {
        match id {
            "" => self.current(),
            id => self
                .versions
                .iter()
                .find(|version| version.id == id)
                .ok_or_else(|| Refusal::not_found(&format!("{}/{id}", self.name))),
        }
    }

    pub(crate) fn version_mut(&mut self, id: &str) -> Result<&mut Version> {
        let id = self.version(id)?.id.clone();
        let name = self.name.clone();
        self.versions
            .iter_mut()
            .find(|version| version.id == id)
            .ok_or_else(|| Refusal::not_found(&name))
    }

    /// The description of a deleted key.
    pub(crate) fn deleted_bundle(&self, host: &str) -> Result<Value> {
        let current = self.current()?;
        let mut bundle = current.bundle(kid(host, &self.name, &current.id));
        let at = self.deleted.unwrap_or_default();
        bundle["recoveryId"] = json!(format!("https://{host}/deletedkeys/{}", self.name));
        bundle["deletedDate"] = json!(at);
        bundle["scheduledPurgeDate"] = json!(at + RECOVERABLE_DAYS * DAY);
        Ok(bundle)
    }
}

/// The `kid` of a version: its URL.
pub(crate) fn kid(host: &str, name: &str, version: &str) -> String {
    format!("https://{host}/keys/{name}/{version}")
}

/// The keys of all vaults, by host and name in lower case.
#[derive(Default)]
pub(crate) struct Vaults(HashMap<(String, String), Key>);

impl Vaults {
    fn at(host: &str, name: &str) -> (String, String) {
        (host.to_ascii_lowercase(), name.to_ascii_lowercase())
    }

    /// A key that is not deleted.
    pub(crate) fn key(&self, host: &str, name: &str) -> Result<&Key> {
        let key = self.0.get(&Self::at(host, name));
        key.filter(|key| key.deleted.is_none() && !key.hidden.hides())
            .ok_or_else(|| Refusal::not_found(name))
    }

    pub(crate) fn key_mut(&mut self, host: &str, name: &str) -> Result<&mut Key> {
        let key = self.0.get_mut(&Self::at(host, name));
        key.filter(|key| key.deleted.is_none()).ok_or_else(|| Refusal::not_found(name))
    }

    /// A deleted key that can be recovered.
    pub(crate) fn deleted_key(&mut self, host: &str, name: &str, now: i64) -> Result<&mut Key> {
        self.purge_due(now);
        let key = self.0.get_mut(&Self::at(host, name));
        key.filter(|key| key.deleted.is_some()).ok_or_else(|| Refusal::not_found(name))
    }

    /// Removes deleted keys whose recovery period is over.
    fn purge_due(&mut self, now: i64) {
        self.0
            .retain(|_, key| key.deleted.is_none_or(|at| now < at + RECOVERABLE_DAYS * DAY));
    }

    pub(crate) fn purge(&mut self, host: &str, name: &str) {
        self.0.remove(&Self::at(host, name));
    }

    /// Adds a version; creates the key with its first version.
    pub(crate) fn add(&mut self, host: &str, name: &str, version: Version, now: i64, appearance: &Appearance) -> Result<&Key> {
        self.purge_due(now);
        let key = self.0.entry(Self::at(host, name)).or_insert_with(|| Key {
            name: name.to_owned(),
            versions: Vec::new(),
            deleted: None,
            policy: None,
            hidden: appearance.of_new_key(),
        });
        if key.deleted.is_some() {
            return Err(Refusal::deleted(name));
        }
        key.versions.push(version);
        Ok(key)
    }

    /// The names of a vault's keys, sorted.
    pub(crate) fn names(&self, host: &str, deleted: bool) -> Vec<String> {
        let host = host.to_ascii_lowercase();
        let mut names: Vec<String> = self
            .0
            .iter()
            .filter(|((at, _), key)| *at == host && key.deleted.is_some() == deleted)
            .map(|((_, name), _)| name.clone())
            .collect();
        names.sort();
        names
    }

    /// A key, deleted or not.
    pub(crate) fn any(&self, host: &str, name: &str) -> Option<&Key> {
        self.0.get(&Self::at(host, name))
    }
}

/// An object whose values are strings, such as tags.
pub(crate) fn strings(value: &Map<String, Value>) -> Result<BTreeMap<String, String>> {
    value
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => Ok((name.clone(), text.clone())),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(Refusal::parameter("Property has invalid value: tags"))
            }
        })
        .collect()
}
