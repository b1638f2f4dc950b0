//! The stored resources: key rings, keys, versions, import jobs.

use std::collections::BTreeMap;
use std::sync::Arc;

use claviger_fake::Hidden;
use serde_json::{Map, Value, json};

use crate::json::{Algorithm, EnumStyle, ImportMethod, JobState, Level, Purpose, State, time};
use crate::material::{Material, Rsa};
use crate::names::KeyName;
use crate::refusal::Refusal;

/// How long a version stays `DESTROY_SCHEDULED` by default, in seconds: 30 days.
pub(crate) const DESTROY_AFTER: i64 = 30 * 86_400;
/// The lifetime of an import job, in seconds: 3 days.
const JOB_LIFETIME: i64 = 3 * 86_400;

/// A version of a key. Times are in Unix seconds.
pub(crate) struct Version {
    pub(crate) state: State,
    pub(crate) algorithm: Algorithm,
    pub(crate) level: Level,
    pub(crate) created: i64,
    pub(crate) generated: Option<i64>,
    /// When it was disabled; see [`Version::usable`].
    pub(crate) disabled: Option<i64>,
    /// When its material is or was destroyed.
    pub(crate) destroy: Option<i64>,
    pub(crate) imported_by: Option<String>,
    pub(crate) external_uri: Option<String>,
    pub(crate) material: Arc<Material>,
}

impl Version {
    /// Destroys the material if its time has come.
    fn advance_to(&mut self, now: i64) {
        if self.state == State::DestroyScheduled && self.destroy.is_some_and(|at| at <= now) {
            self.state = State::Destroyed;
            self.material = Arc::new(Material::None);
        }
    }

    /// Fails unless the version can be used. A disabled one still works for `lag` seconds.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` with the violation type of its state.
    pub(crate) fn usable(&self, name: &str, now: i64, lag: i64) -> Result<(), Refusal> {
        let lagging = self.state == State::Disabled && self.disabled.is_some_and(|at| now - at < lag);
        let (kind, word) = match self.state {
            State::Enabled => return Ok(()),
            State::Disabled if lagging => return Ok(()),
            State::Disabled => ("KEY_DISABLED", "DISABLED"),
            State::Destroyed => ("KEY_DESTROYED", "DESTROYED"),
            State::DestroyScheduled => ("KEY_DESTROYED", "DESTROY_SCHEDULED"),
            State::PendingGeneration => ("KEY_PENDING_GENERATION", "PENDING_GENERATION"),
            State::PendingImport => ("KEY_PENDING_IMPORT", "PENDING_IMPORT"),
        };
        let message = format!("{name} is not enabled, current state is: {word}.");
        Err(Refusal::precondition(kind, name, message))
    }

    pub(crate) fn to_json(&self, name: &str, style: EnumStyle) -> Value {
        let mut json = Map::from_iter([
            ("name".to_owned(), name.into()),
            ("state".to_owned(), self.state.to_json(style)),
            ("protectionLevel".to_owned(), self.level.to_json(style)),
            ("algorithm".to_owned(), self.algorithm.to_json(style)),
            ("createTime".to_owned(), time(self.created)),
        ]);
        let mut add = |field: &str, value: Option<Value>| {
            if let Some(value) = value {
                json.insert(field.to_owned(), value);
            }
        };
        add("generateTime", self.generated.map(time));
        add(
            "destroyTime",
            self.destroy.filter(|_| self.state == State::DestroyScheduled).map(time),
        );
        add(
            "destroyEventTime",
            self.destroy.filter(|_| self.state == State::Destroyed).map(time),
        );
        add("importJob", self.imported_by.clone().map(Value::from));
        let uri = self.external_uri.as_ref();
        add("externalProtectionLevelOptions", uri.map(|uri| json!({"externalKeyUri": uri})));
        Value::Object(json)
    }
}

/// A key with its versions by number.
pub(crate) struct Key {
    pub(crate) purpose: Purpose,
    pub(crate) algorithm: Algorithm,
    pub(crate) level: Level,
    pub(crate) created: i64,
    pub(crate) primary: Option<u32>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) destroy_after: i64,
    pub(crate) import_only: bool,
    pub(crate) versions: BTreeMap<u32, Version>,
    /// The reads that do not find it yet.
    pub(crate) hidden: Hidden,
}

impl Key {
    /// The number of the next version.
    pub(crate) fn next_number(&self) -> u32 {
        self.versions.keys().next_back().map_or(1, |last| last + 1)
    }

    pub(crate) fn version(&self, name: &KeyName, number: u32) -> Result<&Version, Refusal> {
        let found = self.versions.get(&number);
        found.ok_or_else(|| Refusal::not_found("CryptoKeyVersion", &name.version(number)))
    }

    pub(crate) fn version_mut(&mut self, name: &KeyName, number: u32) -> Result<&mut Version, Refusal> {
        let found = self.versions.get_mut(&number);
        found.ok_or_else(|| Refusal::not_found("CryptoKeyVersion", &name.version(number)))
    }

    /// Fails unless the key has the purpose that `method` requires.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION`.
    pub(crate) fn of_purpose(&self, name: &KeyName, wanted: Purpose, method: &str) -> Result<(), Refusal> {
        if self.purpose == wanted {
            return Ok(());
        }
        let word = |purpose: Purpose| purpose.to_json(EnumStyle::Names).as_str().unwrap_or_default().to_owned();
        let message = format!(
            "{} has purpose: {}. The method {method} requires purpose: {}.",
            name.full(),
            word(self.purpose),
            word(wanted)
        );
        Err(Refusal::failed(message))
    }

    pub(crate) fn to_json(&self, name: &KeyName, style: EnumStyle) -> Value {
        let mut json = json!({
            "name": name.full(),
            "purpose": self.purpose.to_json(style),
            "createTime": time(self.created),
            "versionTemplate": {"protectionLevel": self.level.to_json(style), "algorithm": self.algorithm.to_json(style)},
            "destroyScheduledDuration": format!("{}s", self.destroy_after),
        });
        let primary = self.primary.and_then(|number| Some((number, self.versions.get(&number)?)));
        if let Some((number, version)) = primary {
            json["primary"] = version.to_json(&name.version(number), style);
        }
        if !self.labels.is_empty() {
            json["labels"] = json!(self.labels);
        }
        if self.import_only {
            json["importOnly"] = true.into();
        }
        json
    }
}

/// An import job with its wrapping key.
pub(crate) struct Job {
    pub(crate) method: ImportMethod,
    pub(crate) level: Level,
    pub(crate) created: i64,
    pub(crate) private: Rsa,
}

impl Job {
    pub(crate) fn state(&self, now: i64) -> JobState {
        if now < self.created + JOB_LIFETIME {
            JobState::Active
        } else {
            JobState::Expired
        }
    }

    pub(crate) fn to_json(&self, name: &str, style: EnumStyle, now: i64) -> Value {
        let mut json = json!({
            "name": name,
            "importMethod": self.method.to_json(style),
            "protectionLevel": self.level.to_json(style),
            "createTime": time(self.created),
            "generateTime": time(self.created),
            "expireTime": time(self.created + JOB_LIFETIME),
            "state": self.state(now).to_json(style),
        });
        if self.state(now) == JobState::Active {
            json["publicKey"] = json!({"pem": self.private.public_pem});
        }
        json
    }
}

/// A key ring with its keys and import jobs by id.
pub(crate) struct Ring {
    pub(crate) created: i64,
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) jobs: BTreeMap<String, Job>,
}

/// All key rings by name.
#[derive(Default)]
pub(crate) struct Resources {
    pub(crate) rings: BTreeMap<String, Ring>,
}

impl Resources {
    /// Destroys the material of all versions whose time has come.
    pub(crate) fn advance_to(&mut self, now: i64) {
        let keys = self.rings.values_mut().flat_map(|ring| ring.keys.values_mut());
        keys.flat_map(|key| key.versions.values_mut())
            .for_each(|version| version.advance_to(now));
    }

    pub(crate) fn make_ring(&mut self, name: String, now: i64) -> Result<(), Refusal> {
        if self.rings.contains_key(&name) {
            return Err(Refusal::exists("KeyRing", &name));
        }
        let ring = Ring {
            created: now,
            keys: BTreeMap::new(),
            jobs: BTreeMap::new(),
        };
        self.rings.insert(name, ring);
        Ok(())
    }

    pub(crate) fn ring(&self, name: &str) -> Result<&Ring, Refusal> {
        self.rings.get(name).ok_or_else(|| Refusal::not_found("KeyRing", name))
    }

    pub(crate) fn ring_mut(&mut self, name: &str) -> Result<&mut Ring, Refusal> {
        self.rings.get_mut(name).ok_or_else(|| Refusal::not_found("KeyRing", name))
    }

    pub(crate) fn key(&self, name: &KeyName) -> Result<&Key, Refusal> {
        let found = self.ring(&name.ring)?.keys.get(&name.id).filter(|key| !key.hidden.hides());
        found.ok_or_else(|| Refusal::not_found("CryptoKey", &name.full()))
    }

    pub(crate) fn key_mut(&mut self, name: &KeyName) -> Result<&mut Key, Refusal> {
        let found = self.ring_mut(&name.ring)?.keys.get_mut(&name.id);
        found.ok_or_else(|| Refusal::not_found("CryptoKey", &name.full()))
    }
}
