//! The settings of a connection: the module, its token, and the PIN. Only the operator's configuration may name a
//! module, since its code runs on the gateway's machine.

use std::collections::BTreeMap;

use claviger_pkcs11_host::messages::TokenName;
use claviger_provider::kit::budget::Budget;
use claviger_provider::kit::session::identity::LoginIdentity;
use claviger_provider::kit::settings::{self as kit, Secrets};
use claviger_provider::{Fields, ParsedSettings, SettingsError, SettingsOrigin};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::names::cka_id;

/// The name of the secret.
pub(crate) const PIN: &str = "pin";
/// The longest PIN, in bytes.
const MAX_PIN: usize = 256;
/// The most environment variables of a module.
const MAX_VARIABLES: usize = 32;
/// The longest serial number of a token, in bytes, and the longest label, by the standard.
const MAX_SERIAL: usize = 16;
const MAX_LABEL: usize = 32;
/// The most sessions, and those of a connection without the setting.
const MAX_SESSIONS: u16 = 64;
const SESSIONS: u16 = 8;

const MODULE: &str = "the absolute path of a PKCS#11 module, such as \"/usr/lib/softhsm/libsofthsm2.so\"";
const TOKEN: &str = "{\"label\": \"...\"} or {\"serial\": \"...\"}: the token's label or serial number, without trailing spaces";
const ENVIRONMENT: &str = "an object of at most 32 environment variables of the module, each a text";
const SESSIONS_EXPECTED: &str = "a number from 1 to 64: the calls that the token serves at once";
const KNOWN_AS: &str =
    "the serial number of the token that this one replaces, or of one member of its cluster: 1 to 16 bytes without trailing spaces";
const CANARY: &str = "the CKA_ID, in lower-case hex, of a key for nothing but the gateway's own tries";
const PIN_EXPECTED: &str = "the PIN of the token's user, 1 to 256 bytes";

/// How a token is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Token {
    Label(String),
    Serial(String),
}

impl Token {
    /// As the helper takes it.
    pub(crate) fn name(&self) -> TokenName {
        match self {
            Self::Label(label) => TokenName::Label(label.clone()),
            Self::Serial(serial) => TokenName::Serial(serial.clone()),
        }
    }
}

/// The settings without the secret. They are stored and shown as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) module: String,
    pub(crate) token: Token,
    /// The module's environment; it has no other variable.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) environment: BTreeMap<String, String>,
    /// How many calls of the module run at once.
    pub(crate) sessions: u16,
    /// The serial number in the ids of the connection's keys, if it is not the token's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) known_as: Option<String>,
    /// Whether all keys of the token are the connection's tenants' own, so that any of them may be adopted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) adopt_any: bool,
    /// Whether the token makes the initialization vectors, and wants zeros as the parameter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) token_iv: bool,
    #[serde(default, skip_serializing_if = "Budget::is_usual")]
    pub(crate) budget_ms: Budget,
    /// The `CKA_ID`, in hex, of the key with which the gateway tries the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canary_key: Option<String>,
}

impl Settings {
    /// The module's path, the same one for all links to its file.
    pub(crate) fn one_module(&self) -> String {
        let canonical = std::fs::canonicalize(&self.module)
            .ok()
            .and_then(|path| path.into_os_string().into_string().ok());
        canonical.unwrap_or_else(|| self.module.clone())
    }

    /// Whom the connection logs in as: a token of the module as this environment configures it.
    pub(crate) fn identity(&self) -> LoginIdentity {
        let (way, token) = match &self.token {
            Token::Label(label) => ("label", label),
            Token::Serial(serial) => ("serial", serial),
        };
        let environment = self.environment.iter().map(|(name, value)| format!("\n{name}={value}"));
        LoginIdentity {
            service: self.one_module() + &environment.collect::<String>(),
            identity: format!("{way}\n{token}"),
            route: String::new(),
        }
    }
}

/// A name of a token: printable, without a space at its end.
fn token_name(fields: &mut Fields<'_>, name: &'static str, expected: &'static str, max: usize) -> Option<String> {
    fields.optional(name, expected, |text| {
        let fits = (1..=max).contains(&text.len()) && !text.ends_with(' ') && !text.chars().any(char::is_control);
        fits.then_some(text).ok_or_else(|| expected.to_owned())
    })
}

fn token(fields: &mut Fields<'_>) -> Option<Token> {
    fields.one_of("token", TOKEN, |fields| {
        let mut given = Vec::new();
        if fields.has("label") {
            given.push(token_name(fields, "label", TOKEN, MAX_LABEL).map(Token::Label));
        }
        if fields.has("serial") {
            given.push(token_name(fields, "serial", TOKEN, MAX_SERIAL).map(Token::Serial));
        }
        given
    })
}

fn is_variable(name: &str) -> bool {
    let mut letters = name.bytes();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    letters.next().is_some_and(|first| fits(first) && !first.is_ascii_digit()) && letters.all(fits) && name.len() <= 128
}

fn environment(fields: &mut Fields<'_>) -> Option<BTreeMap<String, String>> {
    let Some(given) = fields.take("environment") else {
        return Some(BTreeMap::new());
    };
    let read = match given {
        Value::Object(members) if members.len() <= MAX_VARIABLES => members
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(value) if is_variable(&name) && value.len() <= 4096 && !value.contains('\0') => Some((name, value)),
                _ => None,
            })
            .collect(),
        _ => None,
    };
    if read.is_none() {
        fields.report("environment", ENVIRONMENT);
    }
    read
}

fn sessions(fields: &mut Fields<'_>) -> Option<u16> {
    let Some(given) = fields.take("sessions") else {
        return Some(SESSIONS);
    };
    let read = given.as_u64().and_then(|number| u16::try_from(number).ok());
    let read = read.filter(|number| (1..=MAX_SESSIONS).contains(number));
    if read.is_none() {
        fields.report("sessions", SESSIONS_EXPECTED);
    }
    read
}

fn pin(fields: &mut Fields<'_>) -> Option<Secrets> {
    let pin = fields.secret(PIN, PIN_EXPECTED, MAX_PIN, |byte| *byte != 0)?;
    Some(vec![(PIN.to_owned(), pin)])
}

/// The settings without `module`.
fn others(fields: &mut Fields<'_>, module: Option<String>) -> Option<Settings> {
    let (token, environment, sessions) = (token(fields), environment(fields), sessions(fields));
    let known_as = token_name(fields, "known_as", KNOWN_AS, MAX_SERIAL);
    let (adopt_any, token_iv) = (fields.switch("adopt_any"), fields.switch("token_iv"));
    let budget_ms = Budget::setting(fields);
    let canary_key = fields.optional("canary_key", CANARY, |text| match cka_id(&text) {
        Some(_) => Ok(text),
        None => Err(CANARY.to_owned()),
    });
    Some(Settings {
        module: module?,
        token: token?,
        environment: environment?,
        sessions: sessions?,
        known_as,
        adopt_any,
        token_iv,
        budget_ms: budget_ms?,
        canary_key,
    })
}

/// Parses the settings of a new connection.
///
/// # Errors
/// Every mistake, with its place.
pub(crate) fn parse(text: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
    kit::parse(text, "an object with module, token and pin", |fields| {
        let module = match origin {
            SettingsOrigin::Operator => fields.file("module", MODULE),
            SettingsOrigin::Tenant => {
                let instead = "a connection that the operator's configuration declares: a PKCS#11 module runs on the gateway's machine";
                if !fields.reserve("module", instead) {
                    fields.report("module", instead);
                }
                None
            }
        };
        let (settings, pin) = (others(fields, module), pin(fields));
        Some((settings?, pin?))
    })
}

/// Parses a new PIN for a connection.
///
/// # Errors
/// Every mistake, with its place.
pub(crate) fn replace(text: &str) -> Result<Secrets, Vec<SettingsError>> {
    kit::parse_secrets(text, "an object with pin", pin)
}
