//! What a connection is told: the address, the place of the keys, and how to log in.

use claviger_provider::egress::{Authorities, Destination, Egress};
use claviger_provider::{ParsedSettings, SettingsError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, wrong_at};
use crate::kind::Symmetric;
use crate::login::{self, Auth, FORMS, Secrets};

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
    #[serde(default, skip_serializing_if = "Symmetric::is_default")]
    pub(crate) symmetric_key_type: Symmetric,
    pub(crate) auth: Auth,
    /// PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
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
    let expected = "\"aes256-gcm96\" or \"chacha20-poly1305\": the type of the keys behind the specification aes-256";
    let symmetric_key_type = fields.optional("symmetric_key_type", expected, |text| {
        let known = Symmetric::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| expected.to_owned())
    });
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
        Some(value) => login::parse(value, fields.wrong),
        None => {
            fields.report("auth", FORMS);
            None
        }
    };
    fields.finish();
    let (true, Some(address), Some((auth, secrets))) = (wrong.is_empty(), address, login) else {
        return Err(wrong);
    };
    let settings = Settings {
        address,
        namespace,
        mount,
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
    let object = || vec![wrong_at(String::new(), "an object with the secrets of the connection's login")];
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
