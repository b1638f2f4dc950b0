//! Injected faults.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A fault and the requests it applies to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The method; any, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A part of the path as sent, such as `:decrypt`; any, if empty.
    #[serde(default)]
    pub path: String,
    /// Number of matching requests that pass first.
    #[serde(default)]
    pub after: u32,
    /// How many requests then get the fault; all, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// The effect.
    pub act: Act,
}

impl Fault {
    /// A fault for every request whose path contains `path`.
    pub fn always(path: &str, act: Act) -> Self {
        Self {
            method: None,
            path: path.to_owned(),
            after: 0,
            times: None,
            act,
        }
    }

    /// A fault for the next request whose path contains `path`.
    pub fn once(path: &str, act: Act) -> Self {
        Self {
            times: Some(1),
            ..Self::always(path, act)
        }
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|own| own == method) && path.contains(&self.path)
    }
}

/// The effect of a fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// Delays the request, then handles it as usual.
    Delay {
        /// The delay.
        milliseconds: u64,
    },
    /// Never responds; the request has no effect.
    Hang,
    /// The vendor's throttling response; the request has no effect.
    Throttle {
        /// The value of `Retry-After`, in seconds; no header if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u32>,
    },
    /// The vendor's outage response; the request has no effect.
    Unavailable,
    /// A fixed response; the request has no effect.
    #[serde(rename = "answer")]
    Respond {
        /// The status.
        status: u16,
        /// Headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body.
        #[serde(default)]
        body: String,
    },
    /// Handles the request, then applies a JSON merge patch (RFC 7396) to the response.
    Change {
        /// The patch.
        patch: Value,
    },
    /// Handles the request, then breaks the connection within the response.
    BreakOff,
}

/// The active faults, in order. The first one that matches a request applies.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// Replaces all faults.
    pub fn set(&self, faults: Vec<Fault>) {
        *self.0.lock() = faults;
    }

    /// Adds a fault.
    pub fn add(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    /// The active faults, with their remaining counts.
    pub fn all(&self) -> Vec<Fault> {
        self.0.lock().clone()
    }

    /// Takes the fault for a request and updates its counts.
    pub(crate) fn next(&self, method: &str, path: &str) -> Option<Act> {
        let mut faults = self.0.lock();
        for fault in faults.iter_mut().filter(|fault| fault.matches(method, path)) {
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            match &mut fault.times {
                Some(0) => {}
                Some(left) => {
                    *left -= 1;
                    return Some(fault.act.clone());
                }
                None => return Some(fault.act.clone()),
            }
        }
        None
    }
}

/// Applies a merge patch (RFC 7396) to a document.
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(changes) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(object) = target.as_object_mut() else {
        return;
    };
    for (name, value) in changes {
        if value.is_null() {
            object.remove(&name);
        } else {
            merge(object.entry(name).or_insert(Value::Null), value);
        }
    }
}
