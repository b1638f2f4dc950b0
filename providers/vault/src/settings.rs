//! What a connection is told: the address, the place of the keys, and how to log in.

use claviger_provider::egress::{Authorities, Destination, Egress};
use claviger_provider::{ParsedSettings, Secret, SettingsError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::names::Path;

/// The longest secret, in bytes.
const MAX_SECRET: usize = 8192;
/// The longest list of authorities, in bytes.
const MAX_CA: usize = 32 * 1024;

/// What may be shown of a connection, and is stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    pub(crate) mount: String,
    pub(crate) auth: Auth,
    /// PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
}

/// How to log in, without the secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A token that somebody else made.
    Token {},
    /// A role and its secret id.
    Approle { role_id: String, mount: String },
    /// A JWT.
    Jwt { role: String, mount: String },
    /// A service account's JWT.
    Kubernetes { role: String, mount: String },
}

impl Auth {
    /// The name of the secret that belongs to it.
    pub(crate) const fn secret(&self) -> &'static str {
        match self {
            Self::Token {} => "token",
            Self::Approle { .. } => "secret_id",
            Self::Jwt { .. } | Self::Kubernetes { .. } => "jwt",
        }
    }
}

/// Settings that name a file: they exist for the operator's configuration alone.
const FILES: [&str; 5] = ["token_file", "secret_id_file", "jwt_file", "ca_file", "certificate_file"];

/// An object while it is read.
struct Fields<'e> {
    pointer: String,
    members: Map<String, Value>,
    known: Vec<&'static str>,
    wrong: &'e mut Vec<SettingsError>,
}

impl<'e> Fields<'e> {
    fn of(value: Value, pointer: String, wrong: &'e mut Vec<SettingsError>) -> Option<Self> {
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

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name)
    }

    fn report(&mut self, name: &str, expected: impl Into<String>) {
        self.wrong.push(wrong_at(format!("{}/{name}", self.pointer), expected));
    }

    /// A text that `check` accepts; `None` when it is absent or wrong.
    fn optional<T>(&mut self, name: &'static str, expected: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
        let checked = match self.take(name)? {
            Value::String(text) => check(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Err(expected.to_owned()),
        };
        checked.map_err(|expected| self.report(name, expected)).ok()
    }

    fn required<T>(&mut self, name: &'static str, expected: &str, check: impl FnOnce(String) -> Result<T, String>) -> Option<T> {
        if !self.members.contains_key(name) {
            self.known.push(name);
            self.report(name, expected);
            return None;
        }
        self.optional(name, expected, check)
    }

    /// A namespace or mount.
    fn path(&mut self, name: &'static str, example: &str) -> Option<String> {
        let expected = format!("a path such as \"{example}\": letters, digits, '.', '_', '-' and single slashes within, at most 128 bytes");
        let check = |text: String| Path::parse(&text).map(|_| text).ok_or(expected.clone());
        self.optional(name, &expected, check)
    }

    fn mount(&mut self, default: &str) -> String {
        self.path("mount", default).unwrap_or_else(|| default.to_owned())
    }

    /// A name that the server compares: printable ASCII.
    fn word(&mut self, name: &'static str, expected: &'static str) -> Option<String> {
        self.required(name, expected, |text| {
            let fits = (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
            fits.then_some(text).ok_or_else(|| expected.to_owned())
        })
    }

    fn secret(&mut self, name: &'static str, expected: &'static str) -> Option<Secret> {
        self.required(name, expected, |text| secret(text).ok_or_else(|| expected.to_owned()))
    }

    /// Reports every member that nobody asked for. A member's name came from the caller
    /// and is not repeated, unless it is one of ours.
    fn finish(mut self) {
        let known = self.known.join(", ");
        let left = std::mem::take(&mut self.members);
        let mut unknown = false;
        for name in left.keys() {
            match FILES.into_iter().find(|file| file == name) {
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

fn wrong_at(pointer: String, expected: impl Into<String>) -> SettingsError {
    SettingsError {
        pointer,
        expected: expected.into(),
        operator_only: false,
    }
}

/// What may stand in a header or a login: printable ASCII without spaces.
fn secret(text: String) -> Option<Secret> {
    let secret = Secret::new(text.into_bytes());
    let fits = (1..=MAX_SECRET).contains(&secret.len()) && secret.expose().iter().all(u8::is_ascii_graphic);
    fits.then_some(secret)
}

const AUTH: &str = "one of {\"token\": \"...\"}, {\"approle\": {\"role_id\", \"secret_id\", \"mount\"?}}, \
                    {\"jwt\": {\"role\", \"jwt\", \"mount\"?}}, {\"kubernetes\": {\"role\", \"jwt\", \"mount\"?}}";

fn auth(value: Value, wrong: &mut Vec<SettingsError>) -> Option<(Auth, Secret)> {
    let pointer = "/auth".to_owned();
    let Value::Object(members) = value else {
        wrong.push(wrong_at(pointer, AUTH));
        return None;
    };
    let mut members = members.into_iter();
    let (Some((method, value)), None) = (members.next(), members.next()) else {
        wrong.push(wrong_at(pointer, AUTH));
        return None;
    };
    if method == "token" {
        let token = match value {
            Value::String(token) => secret(token),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        };
        if token.is_none() {
            wrong.push(wrong_at(format!("{pointer}/token"), "a token of printable ASCII without spaces"));
        }
        return token.map(|token| (Auth::Token {}, token));
    }
    let known = ["approle", "jwt", "kubernetes"].into_iter().find(|known| *known == method);
    let Some(method) = known else {
        let file = FILES.into_iter().find(|file| *file == method);
        let place = file.map_or(pointer.clone(), |file| format!("{pointer}/{file}"));
        wrong.push(SettingsError {
            operator_only: file.is_some(),
            ..wrong_at(place, AUTH)
        });
        return None;
    };
    let mut fields = Fields::of(value, format!("{pointer}/{method}"), wrong)?;
    let read = match method {
        "approle" => {
            let role_id = fields.word("role_id", "the role's id, as `auth/approle/role/NAME/role-id` tells it");
            let secret = fields.secret("secret_id", "a secret id of the role (not a wrapping token)");
            let mount = fields.mount("approle");
            role_id
                .zip(secret)
                .map(|(role_id, secret)| (Auth::Approle { role_id, mount }, secret))
        }
        method => {
            let role = fields.word("role", "the role's name");
            let secret = fields.secret("jwt", "a JWT");
            let mount = fields.mount(method);
            role.zip(secret).map(|(role, secret)| match method {
                "kubernetes" => (Auth::Kubernetes { role, mount }, secret),
                _ => (Auth::Jwt { role, mount }, secret),
            })
        }
    };
    fields.finish();
    read
}

/// Reads the settings of a new connection.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn parse(text: &str, egress: &Egress) -> Result<ParsedSettings, Vec<SettingsError>> {
    let object = || vec![wrong_at(String::new(), "an object with address and auth")];
    let value: Value = serde_json::from_str(text).map_err(|_| object())?;
    let mut wrong = Vec::new();
    let Some(mut fields) = Fields::of(value, String::new(), &mut wrong) else {
        return Err(object());
    };
    let address = fields.required("address", "an address such as \"https://vault.example:8200\"", |text| {
        egress.destination(&text).map(normal).map_err(|error| error.to_string())
    });
    let namespace = fields.path("namespace", "team/a");
    let mount = fields.mount("transit");
    let proxy = fields.optional("proxy", "an address such as \"http://proxy.example:3128\"", |text| {
        egress.proxy(&text).map(normal).map_err(|error| error.to_string())
    });
    let expected = "one or more certificates as PEM text, without any key, at most 32 KiB";
    let ca = fields.optional("ca", expected, |text| {
        // It is shown to whoever may read the connection.
        let fits = text.len() <= MAX_CA && !text.contains("PRIVATE KEY") && Authorities::from_pem(&text).is_some();
        fits.then_some(text).ok_or_else(|| expected.to_owned())
    });
    let login = match fields.take("auth") {
        Some(value) => auth(value, fields.wrong),
        None => {
            fields.report("auth", AUTH);
            None
        }
    };
    fields.finish();
    let (true, Some(address), Some((auth, secret))) = (wrong.is_empty(), address, login) else {
        return Err(wrong);
    };
    let name = auth.secret().to_owned();
    let settings = Settings {
        address,
        namespace,
        mount,
        auth,
        ca,
        proxy,
    };
    let public = serde_json::to_string(&settings).map_err(|_| object())?;
    Ok(ParsedSettings {
        public,
        secrets: vec![(name, secret)],
    })
}

fn normal(destination: Destination) -> String {
    destination.as_str().to_owned()
}
