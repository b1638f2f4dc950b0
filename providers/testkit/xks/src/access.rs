//! Access keys, and what the owner of the keys denies.

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

/// The region of a fake until it is set.
const REGION: &str = "eu-central-1";

/// An access key that signs requests.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl AccessKey {
    /// The access key of a fake until others are set.
    pub fn first() -> Self {
        Self {
            id: "CLAVIGERFAKEXKSPROXY".to_owned(),
            secret: "FirstSecretOfTheFakeXksProxyOnlyForTests0123".to_owned(),
        }
    }

    /// Another access key, which a fake does not accept until it is set.
    pub fn second() -> Self {
        Self {
            id: "CLAVIGERFAKEXKSSECOND".to_owned(),
            secret: "SecondSecretOfTheFakeXksProxyOnlyForTests012".to_owned(),
        }
    }
}

/// A denial of every call whose request metadata has this value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// The member of the request metadata, such as `kmsOperation`.
    pub member: String,
    /// Its value.
    pub value: String,
}

/// Who may call for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The region that signatures must name.
    pub region: String,
    /// The access keys that are accepted.
    pub access_keys: Vec<AccessKey>,
    /// What the owner of the keys denies.
    pub denials: Vec<Denial>,
    /// The health status of each key manager.
    pub fleet: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: REGION.to_owned(),
            access_keys: vec![AccessKey::first()],
            denials: Vec::new(),
            fleet: vec!["ACTIVE".to_owned(), "ACTIVE".to_owned()],
        }
    }
}

/// The settings of a fake, shared with the test.
#[derive(Debug, Default)]
pub struct Access(Mutex<Settings>);

impl Access {
    /// The settings now.
    pub fn settings(&self) -> Settings {
        self.0.lock().clone()
    }

    /// Changes the settings.
    pub fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut self.0.lock());
    }

    /// Whether a call with this metadata is denied.
    pub(crate) fn denies(&self, metadata: &Value) -> bool {
        let settings = self.0.lock();
        settings.denials.iter().any(|denial| metadata[&denial.member] == denial.value)
    }
}
