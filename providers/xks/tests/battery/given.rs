//! A proxy that somebody else started, whose keys are there already:
//!
//! - `CLAVIGER_TEST_XKS_ADDRESS`: its address with the path prefix
//! - `CLAVIGER_TEST_XKS_REGION`: the region of its signatures
//! - `CLAVIGER_TEST_XKS_ACCESS_KEY`: `ID:SECRET`
//! - `CLAVIGER_TEST_XKS_KEYS`: names of keys, with spaces between them; the battery uses some forty

use std::sync::atomic::{AtomicUsize, Ordering};

use claviger_fake_xks::AccessKey;
use serde_json::{Value, json};

use crate::bench::{AMPLE_MS, auth};

/// The proxy of the environment.
#[derive(Default)]
pub struct Given {
    settings: Value,
    keys: Vec<String>,
}

/// How many keys were used, by all cases together.
static USED: AtomicUsize = AtomicUsize::new(0);

impl Given {
    /// `None` unless all variables are set.
    pub fn from_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var(format!("CLAVIGER_TEST_XKS_{name}")).ok();
        let access_key = variable("ACCESS_KEY")?;
        let (id, secret) = access_key.split_once(':')?;
        let key = AccessKey {
            id: id.to_owned(),
            secret: secret.to_owned(),
        };
        Some(Self {
            settings: json!({
                "address": variable("ADDRESS")?, "region": variable("REGION")?, "budget_ms": AMPLE_MS, "auth": auth(&key),
            }),
            keys: variable("KEYS")?.split(' ').map(str::to_owned).collect(),
        })
    }

    pub fn settings(&self) -> Value {
        self.settings.clone()
    }

    /// The name of a key that no case has used yet.
    pub fn another(&self) -> String {
        let used = USED.fetch_add(1, Ordering::Relaxed);
        self.keys
            .get(used)
            .unwrap_or_else(|| panic!("CLAVIGER_TEST_XKS_KEYS names only {used} keys"))
            .clone()
    }
}
