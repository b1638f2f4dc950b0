//! Parses an object of settings member by member, and reports all mistakes at once. Each adapter says
//! which members exist and what they accept.

use serde_json::{Map, Value};

use crate::{Secret, SettingsError};

/// An object that is being parsed. Take each member once; [`Fields::finish`] reports the members that
/// were not taken. A report contains no value, and no member name that the caller made up.
pub struct Fields<'e> {
    pointer: String,
    remaining: Map<String, Value>,
    known: Vec<&'static str>,
    wrong: &'e mut Vec<SettingsError>,
}

impl<'e> Fields<'e> {
    /// Starts to parse `value`, which is at `pointer`; mistakes go to `wrong`. `None` if it is no
    /// object.
    pub fn of(value: Value, pointer: impl Into<String>, wrong: &'e mut Vec<SettingsError>) -> Option<Self> {
        let pointer = pointer.into();
        match value {
            Value::Object(remaining) => Some(Self {
                pointer,
                remaining,
                known: Vec::new(),
                wrong,
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                wrong.push(SettingsError::at(pointer, "an object"));
                None
            }
        }
    }

    /// The list of mistakes, for a member that the caller parses itself.
    pub fn wrong(&mut self) -> &mut Vec<SettingsError> {
        self.wrong
    }

    /// Whether the object has this member.
    pub fn has(&self, name: &str) -> bool {
        self.remaining.contains_key(name)
    }

    /// Takes a member.
    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.remaining.remove(name)
    }

    /// Takes a member that is null. Returns whether it was.
    pub fn take_null(&mut self, name: &'static str) -> bool {
        let is_null = self.remaining.get(name).is_some_and(Value::is_null);
        if is_null {
            self.take(name);
        }
        is_null
    }

    /// Takes a member that is an object; `read` takes its members.
    pub fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let value = self.take(name)?;
        let mut inner = Fields::of(value, format!("{}/{name}", self.pointer), self.wrong)?;
        let read = read(&mut inner);
        inner.finish();
        Some(read)
    }

    /// Reports a mistake in a member.
    pub fn report(&mut self, name: &str, expected: impl Into<String>) {
        self.wrong.push(SettingsError::at(format!("{}/{name}", self.pointer), expected));
    }

    /// Removes a member that is reserved for the operator's configuration, and reports it if it is
    /// present. Returns whether it was.
    pub fn reserve(&mut self, name: &'static str, instead: &str) -> bool {
        let present = self.remaining.remove(name).is_some();
        if present {
            self.wrong.push(SettingsError {
                operator_only: true,
                ..SettingsError::at(format!("{}/{name}", self.pointer), instead)
            });
        }
        present
    }

    /// Reports a known member that does not apply here, with what to do instead.
    pub fn refuse(&mut self, name: &'static str, instead: &str) {
        if self.take(name).is_some() {
            self.report(name, instead);
        }
    }

    /// Removes and reports members that name a file, which tenants may not: each with the member that
    /// takes the file's content instead.
    pub fn reserve_files(&mut self, files: &[(&'static str, &str)]) {
        for (file, content) in files {
            let instead = format!("nothing: only the operator's configuration may name a file; give its content as {content}");
            self.reserve(file, &instead);
        }
    }

    /// The absolute path of one of the operator's files, at most 1,024 bytes.
    pub fn file(&mut self, name: &'static str, expected: &'static str) -> Option<String> {
        self.required(name, expected, |text| {
            let fits = text.starts_with('/') && text.len() <= 1024 && !text.contains('\0');
            fits.then_some(text).ok_or_else(|| expected.to_owned())
        })
    }

    /// A member that is an object with exactly one of several alternatives. `read` returns the
    /// alternatives that it finds, with `None` for one whose mistake it has reported.
    pub fn one_of<T>(&mut self, name: &'static str, expected: &str, read: impl FnOnce(&mut Fields<'_>) -> Vec<Option<T>>) -> Option<T> {
        let given = self.object(name, read).unwrap_or_default();
        if given.len() != 1 {
            self.report(name, expected);
        }
        given.into_iter().next().flatten()
    }

    /// A text, as `check` converts it; its error says what it expects instead. `None` if the member is
    /// absent or has a mistake.
    pub fn optional<T>(&mut self, name: &'static str, expected: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
        let checked = match self.take(name)? {
            Value::String(text) => check(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(expected.to_owned()),
        };
        checked.map_err(|expected| self.report(name, expected)).ok()
    }

    /// As [`Fields::optional`], but a missing member is a mistake.
    pub fn required<T>(&mut self, name: &'static str, expected: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
        if !self.has(name) {
            self.known.push(name);
            self.report(name, expected);
            return None;
        }
        self.optional(name, expected, check)
    }

    /// A boolean, `false` if absent.
    pub fn switch(&mut self, name: &'static str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(on)) => on,
            Some(Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                self.report(name, "true or false");
                false
            }
        }
    }

    /// A name that the provider compares: 1 to 256 bytes of printable ASCII without spaces.
    pub fn word(&mut self, name: &'static str, expected: &'static str) -> Option<String> {
        self.required(name, expected, |text| {
            let fits = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
            fits.then_some(text).ok_or_else(|| expected.to_owned())
        })
    }

    /// A secret of 1 to `max` bytes, each of which `fits` accepts.
    pub fn secret(&mut self, name: &'static str, expected: &'static str, max: usize, fits: fn(&u8) -> bool) -> Option<Secret> {
        self.required(name, expected, |text| {
            let secret = Secret::new(text.into_bytes());
            let right = (1..=max).contains(&secret.len()) && secret.expose().iter().all(fits);
            right.then_some(secret).ok_or_else(|| expected.to_owned())
        })
    }

    /// A secret of 1 to `max` bytes for a header or a form: printable ASCII without spaces.
    pub fn secret_word(&mut self, name: &'static str, expected: &'static str, max: usize) -> Option<Secret> {
        self.secret(name, expected, max, u8::is_ascii_graphic)
    }

    /// A secret of 1 to `max` bytes of PEM text (RFC 7468).
    pub fn secret_pem(&mut self, name: &'static str, expected: &'static str, max: usize) -> Option<Secret> {
        self.secret(name, expected, max, |byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    }

    /// Reports all members that were not taken.
    pub fn finish(self) {
        if !self.remaining.is_empty() {
            let expected = format!("no members but {}", self.known.join(", "));
            self.wrong.push(SettingsError::at(self.pointer, expected));
        }
    }
}

/// The only element of `given`. Any other number of elements is reported at `pointer`.
pub fn only<T>(mut given: Vec<T>, pointer: &str, expected: &str, wrong: &mut Vec<SettingsError>) -> Option<T> {
    match (given.pop(), given.is_empty()) {
        (Some(only), true) => Some(only),
        (Some(_) | None, _) => {
            wrong.push(SettingsError::at(pointer, expected));
            None
        }
    }
}

/// The member of an object with exactly one; `None` for any other value.
pub fn only_member(value: Value) -> Option<(String, Value)> {
    match value {
        Value::Object(members) if members.len() == 1 => members.into_iter().next(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
