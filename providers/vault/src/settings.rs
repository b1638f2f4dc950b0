//! What a connection is told: the address, the place of the keys, and how to log in.

use claviger_provider::egress::{self, Destination, Egress};
use claviger_provider::{Fields, ParsedSettings, SettingsError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kind::Symmetric;
use crate::login::{self, Auth, FORMS, Secrets};
use crate::names::Path;

/// What may be shown of a connection, and is stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    pub(crate) mount: String,
    #[serde(default, skip_serializing_if = "Symmetric::is_default")]
    pub(crate) symmetric_key_type: Symmetric,
    pub(crate) auth: Auth,
    /// PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
}

/// Settings that would name a file, and what holds the file's content instead.
pub(crate) const FILES: [(&str, &str); 6] = [
    ("token_file", "token"),
    ("secret_id_file", "secret_id"),
    ("jwt_file", "jwt"),
    ("ca_file", "ca"),
    ("certificate_file", "certificate"),
    ("key_file", "key"),
];

/// A namespace or mount.
fn path(fields: &mut Fields<'_>, name: &'static str, example: &str) -> Option<String> {
    let expected = format!("a path such as \"{example}\": letters, digits, '.', '_', '-' and single slashes within, at most 128 bytes");
    let check = |text: String| Path::parse(&text).map(|_| text).ok_or(expected.clone());
    fields.optional(name, &expected, check)
}

/// The mount of an engine or auth method.
pub(crate) fn mount(fields: &mut Fields<'_>, default: &str) -> String {
    path(fields, "mount", default).unwrap_or_else(|| default.to_owned())
}

/// Reads the settings of a new connection.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn parse(text: &str, egress: &Egress) -> Result<ParsedSettings, Vec<SettingsError>> {
    let object = || vec![SettingsError::at("", "an object with address and auth")];
    let value: Value = serde_json::from_str(text).map_err(|_| object())?;
    let mut wrong = Vec::new();
    let Some(mut fields) = Fields::of(value, "", &mut wrong) else {
        return Err(object());
    };
    let address = fields.required("address", "an address such as \"https://vault.example:8200\"", |text| {
        egress.destination(&text).map(normal).map_err(|error| error.to_string())
    });
    let namespace = path(&mut fields, "namespace", "team/a");
    let at = mount(&mut fields, "transit");
    let expected = "\"aes256-gcm96\" or \"chacha20-poly1305\": the type of the keys behind the specification aes-256";
    let symmetric_key_type = fields.optional("symmetric_key_type", expected, |text| {
        let known = Symmetric::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| expected.to_owned())
    });
    let proxy = egress.proxy_setting(&mut fields);
    let ca = egress::authorities_setting(&mut fields);
    let login = match fields.take("auth") {
        Some(value) => login::parse(value, fields.wrong()),
        None => {
            fields.report("auth", FORMS);
            None
        }
    };
    fields.reserve_files(&FILES);
    fields.finish();
    let (true, Some(address), Some((auth, secrets))) = (wrong.is_empty(), address, login) else {
        return Err(wrong);
    };
    let settings = Settings {
        address,
        namespace,
        mount: at,
        symmetric_key_type: symmetric_key_type.unwrap_or_default(),
        auth,
        ca,
        proxy,
    };
    let public = serde_json::to_string(&settings).map_err(|_| object())?;
    Ok(ParsedSettings { public, secrets })
}

/// Reads the secrets that are to take the place of those of a connection with these settings.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn replace(settings: &Settings, text: &str) -> Result<Secrets, Vec<SettingsError>> {
    let object = || vec![SettingsError::at("", "an object with the secrets of the connection's login")];
    let value: Value = serde_json::from_str(text).map_err(|_| object())?;
    let mut wrong = Vec::new();
    let secrets = login::replacement(&settings.auth, value, &mut wrong);
    match secrets {
        Some(secrets) if wrong.is_empty() => Ok(secrets),
        Some(_) | None => Err(wrong),
    }
}

fn normal(destination: Destination) -> String {
    destination.as_str().to_owned()
}
