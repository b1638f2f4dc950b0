//! Reading an object member by member, so that all mistakes are told at once.

use claviger_provider::{Secret, SettingsError};
use serde_json::{Map, Value};

use crate::names::Path;

/// Settings that name a file: they exist for the operator's configuration alone.
const FILES: [&str; 6] = [
    "token_file",
    "secret_id_file",
    "jwt_file",
    "ca_file",
    "certificate_file",
    "key_file",
];

/// The setting that names a file under this name, if there is one.
pub(crate) fn file(name: &str) -> Option<&'static str> {
    FILES.into_iter().find(|file| *file == name)
}

/// An object while it is read.
pub(crate) struct Fields<'e> {
    pointer: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
    pub(crate) wrong: &'e mut Vec<SettingsError>,
}

impl<'e> Fields<'e> {
    pub(crate) fn of(value: Value, pointer: String, wrong: &'e mut Vec<SettingsError>) -> Option<Self> {
        match value {
            Value::Object(members) => Some(Self {
                pointer,
                members,
                known: Vec::new(),
                wrong,
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                wrong.push(wrong_at(pointer, "an object"));
                None
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    pub(crate) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name)
    }

    pub(crate) fn report(&mut self, name: &str, expected: impl Into<String>) {
        self.wrong.push(wrong_at(format!("{}/{name}", self.pointer), expected));
    }

    /// A text that `check` accepts; `None` when it is absent or wrong.
    pub(crate) fn optional<T>(&mut self, name: &'static str, expected: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
        let checked = match self.take(name)? {
            Value::String(text) => check(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(expected.to_owned()),
        };
        checked.map_err(|expected| self.report(name, expected)).ok()
    }

    pub(crate) fn required<T>(&mut self, name: &'static str, expected: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
        if !self.members.contains_key(name) {
            self.known.push(name);
            self.report(name, expected);
            return None;
        }
        self.optional(name, expected, check)
    }

    /// A namespace or mount.
    pub(crate) fn path(&mut self, name: &'static str, example: &str) -> Option<String> {
        let expected = format!("a path such as \"{example}\": letters, digits, '.', '_', '-' and single slashes within, at most 128 bytes");
        let check = |text: String| Path::parse(&text).map(|_| text).ok_or(expected.clone());
        self.optional(name, &expected, check)
    }

    pub(crate) fn mount(&mut self, default: &str) -> String {
        self.path("mount", default).unwrap_or_else(|| default.to_owned())
    }

    /// A name that the server compares: printable ASCII.
    pub(crate) fn word(&mut self, name: &'static str, expected: &'static str) -> Option<String> {
        self.required(name, expected, |text| {
            let fits = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
            fits.then_some(text).ok_or_else(|| expected.to_owned())
        })
    }

    /// A secret of at most so many bytes, each of which fits.
    pub(crate) fn secret(&mut self, name: &'static str, expected: &'static str, max: usize, fits: fn(&u8) -> bool) -> Option<Secret> {
        self.required(name, expected, |text| {
            let secret = Secret::new(text.into_bytes());
            let right = (1..=max).contains(&secret.len()) && secret.expose().iter().all(fits);
            right.then_some(secret).ok_or_else(|| expected.to_owned())
        })
    }

    /// Reports every member that nobody asked for. A member's name came from the caller
    /// and is not repeated, unless it is one of ours.
    pub(crate) fn finish(mut self) {
        let known = self.known.join(", ");
        let left = std::mem::take(&mut self.members);
        let mut unknown = false;
        for name in left.keys() {
            match file(name) {
                Some(file) => {
                    let expected = format!(
                        "nothing: only the operator's configuration may name a file; give its content as {}",
                        file.trim_end_matches("_file")
                    );
                    self.wrong.push(SettingsError {
                        operator_only: true,
                        ..wrong_at(format!("{}/{file}", self.pointer), expected)
                    });
                }
                None => unknown = true,
            }
        }
        if unknown {
            self.wrong.push(wrong_at(self.pointer, format!("no members but {known}")));
        }
    }
}

pub(crate) fn wrong_at(pointer: String, expected: impl Into<String>) -> SettingsError {
    SettingsError {
        pointer,
        expected: expected.into(),
        operator_only: false,
    }
}
