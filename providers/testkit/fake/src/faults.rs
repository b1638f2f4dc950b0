//! What goes wrong on request.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A fault and the requests that it is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The method; any, when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What the path contains, percent-encoding undone nowhere, such as `:decrypt`; any, when empty.
    #[serde(default)]
    pub path: String,
    /// So many of these requests pass first.
    #[serde(default)]
    pub after: u32,
    /// So many then get the fault; all of them, when there is no number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What happens.
    pub act: Act,
}

impl Fault {
    /// One for every request whose path contains these words.
    pub fn always(path: &str, act: Act) -> Self {
        Self {
            method: None,
            path: path.to_owned(),
            after: 0,
            times: None,
            act,
        }
    }

    /// One for the next request whose path contains these words.
    pub fn once(path: &str, act: Act) -> Self {
        Self {
            times: Some(1),
            ..Self::always(path, act)
        }
    }

    fn is_for(&self, method: &str, path: &str) -> bool {
        self.method.as_deref().is_none_or(|own| own == method) && path.contains(&self.path)
    }
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Act {
    /// It waits, and is then answered as usual.
    Delay {
        /// For so long.
        milliseconds: u64,
    },
    /// It is never answered, and nothing is done.
    Hang,
    /// The vendor's own answer to one who asks too often; nothing is done.
    Throttle {
        /// The header `Retry-After`, if there is to be one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u32>,
    },
    /// The vendor's own answer of a service that is out of order; nothing is done.
    Unavailable,
    /// This answer; nothing is done.
    Answer {
        /// The status.
        status: u16,
        /// Headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body.
        #[serde(default)]
        body: String,
    },
    /// It is carried out, and the answer is then changed by a JSON merge patch (RFC 7396).
    Change {
        /// The patch.
        patch: Value,
    },
    /// It is carried out, and the connection breaks within the answer.
    BreakOff,
}

/// The faults that are switched on, asked in their order: the first that is for a request
/// happens to it.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// Switches these on in place of all others.
    pub fn set(&self, faults: Vec<Fault>) {
        *self.0.lock() = faults;
    }

    /// Switches one more on.
    pub fn add(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    /// Those that are switched on, with what is left of their numbers.
    pub fn all(&self) -> Vec<Fault> {
        self.0.lock().clone()
    }

    /// What happens to a request, which is thereby counted.
    pub(crate) fn next(&self, method: &str, path: &str) -> Option<Act> {
        let mut faults = self.0.lock();
        for fault in faults.iter_mut().filter(|fault| fault.is_for(method, path)) {
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

/// Changes a document by a merge patch (RFC 7396).
pub(crate) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(members) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(object) = target.as_object_mut() else {
        return;
    };
    for (name, value) in members {
        if value.is_null() {
            object.remove(&name);
        } else {
            merge(object.entry(name).or_insert(Value::Null), value);
        }
    }
}
