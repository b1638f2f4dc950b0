//! Reading an object of settings member by member, so that all mistakes are told at once.
//! For adapters: each says which members there are and what fits them.

use serde_json::{Map, Value};

use crate::{Secret, SettingsError};

/// An object while it is read. Every member is asked for once; [`Fields::finish`] reports the
/// ones that nobody asked for. No value, and no name of a caller's, gets into a report.
pub struct Fields<'e> {
    pointer: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
    wrong: &'e mut Vec<SettingsError>,
}

impl<'e> Fields<'e> {
    /// Begins to read `value`, which stands at `pointer`; mistakes go to `wrong`. `None` when
    /// it is no object.
    pub fn of(value: Value, pointer: impl Into<String>, wrong: &'e mut Vec<SettingsError>) -> Option<Self> {
        let pointer = pointer.into();
        match value {
            Value::Object(members) => Some(Self {
                pointer,
                members,
                known: Vec::new(),
                wrong,
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                wrong.push(SettingsError::at(pointer, "an object"));
                None
            }
        }
    }

    /// Where mistakes go, for what is read by hand.
    pub fn wrong(&mut self) -> &mut Vec<SettingsError> {
        self.wrong
    }

    /// Whether there is a member of that name.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Takes a member as it is.
    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name)
    }

    /// Takes a member that is an object, to be read on its own with [`Fields::finish`] last.
    pub fn object<T>(&mut self, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let value = self.take(name)?;
        let mut inner = Fields::of(value, format!("{}/{name}", self.pointer), self.wrong)?;
        let read = read(&mut inner);
        inner.finish();
        Some(read)
    }

    /// Reports a member.
    pub fn report(&mut self, name: &str, expected: impl Into<String>) {
        self.wrong.push(SettingsError::at(format!("{}/{name}", self.pointer), expected));
    }

    /// Reports a member that exists for the operator's configuration alone, and drops it.
    /// Answers whether it was there.
    pub fn reserve(&mut self, name: &'static str, instead: &str) -> bool {
        let there = self.members.remove(name).is_some();
        if there {
            self.wrong.push(SettingsError {
                operator_only: true,
                ..SettingsError::at(format!("{}/{name}", self.pointer), instead)
            });
        }
        there
    }

    /// Reports a member that is known and has no place here, and what to do instead.
    pub fn refuse(&mut self, name: &'static str, instead: &str) {
        if self.take(name).is_some() {
            self.report(name, instead);
        }
    }

    /// Reports members that would name a file, for who may not name one: each with the member
    /// that holds the file's content instead.
    pub fn reserve_files(&mut self, files: &[(&'static str, &str)]) {
        for (file, content) in files {
            let instead = format!("nothing: only the operator's configuration may name a file; give its content as {content}");
            self.reserve(file, &instead);
        }
    }

    /// The absolute path of a file of the operator's, at most 1,024 bytes.
    pub fn file(&mut self, name: &'static str, expected: &'static str) -> Option<String> {
        self.required(name, expected, |text| {
            let fits = text.starts_with('/') && text.len() <= 1024 && !text.contains('\0');
            fits.then_some(text).ok_or_else(|| expected.to_owned())
        })
    }

    /// A member that is an object with exactly one of the alternatives that `read` finds in
    /// it; `None` within `read`'s list for one that is wrong, which it has reported.
    pub fn one_of<T>(&mut self, name: &'static str, expected: &str, read: impl FnOnce(&mut Fields<'_>) -> Vec<Option<T>>) -> Option<T> {
        let given = self.object(name, read).unwrap_or_default();
        if given.len() != 1 {
            self.report(name, expected);
        }
        given.into_iter().next().flatten()
    }

    /// A text that `check` accepts or says what it expects instead; `None` when it is absent
    /// or wrong.
    pub fn optional<T>(&mut self, name: &'static str, expected: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
        let checked = match self.take(name)? {
            Value::String(text) => check(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(expected.to_owned()),
        };
        checked.map_err(|expected| self.report(name, expected)).ok()
    }

    /// As [`Fields::optional`], and its absence is reported.
    pub fn required<T>(&mut self, name: &'static str, expected: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
        if !self.has(name) {
            self.known.push(name);
            self.report(name, expected);
            return None;
        }
        self.optional(name, expected, check)
    }

    /// `true` or `false`, the latter where it is absent.
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

    /// A secret of 1 to `max` bytes, each of which fits.
    pub fn secret(&mut self, name: &'static str, expected: &'static str, max: usize, fits: fn(&u8) -> bool) -> Option<Secret> {
        self.required(name, expected, |text| {
            let secret = Secret::new(text.into_bytes());
            let right = (1..=max).contains(&secret.len()) && secret.expose().iter().all(fits);
            right.then_some(secret).ok_or_else(|| expected.to_owned())
        })
    }

    /// A secret of 1 to `max` bytes that stands in a header or a form: printable ASCII without
    /// spaces.
    pub fn secret_word(&mut self, name: &'static str, expected: &'static str, max: usize) -> Option<Secret> {
        self.secret(name, expected, max, u8::is_ascii_graphic)
    }

    /// A secret of 1 to `max` bytes of PEM text (RFC 7468).
    pub fn secret_pem(&mut self, name: &'static str, expected: &'static str, max: usize) -> Option<Secret> {
        self.secret(name, expected, max, |byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
    }

    /// Ends the reading.
    pub fn finish(self) {
        if !self.members.is_empty() {
            let expected = format!("no members but {}", self.known.join(", "));
            self.wrong.push(SettingsError::at(self.pointer, expected));
        }
    }
}

/// The only one of the alternatives that were found in an object; another number of them is
/// reported at `pointer`.
pub fn only<T>(mut given: Vec<T>, pointer: &str, expected: &str, wrong: &mut Vec<SettingsError>) -> Option<T> {
    match (given.pop(), given.is_empty()) {
        (Some(only), true) => Some(only),
        (Some(_) | None, _) => {
            wrong.push(SettingsError::at(pointer, expected));
            None
        }
    }
}

/// The one member of an object that has exactly one; `None` for everything else.
pub fn only_member(value: Value) -> Option<(String, Value)> {
    match value {
        Value::Object(members) if members.len() == 1 => members.into_iter().next(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}
