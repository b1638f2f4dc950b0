//! The settings of a connection: the server's address, the engine, and how to get a token.

use claviger_provider::egress::{Egress, authorities_setting};
use claviger_provider::kit::network::{self, Address, NetworkChange};
use claviger_provider::kit::settings::{self, Secrets};
use claviger_provider::{Fields, ParsedSettings, SettingsError};
use serde::{Deserialize, Serialize};

use crate::auth::{self, Auth, FILES, FORMS};
use crate::key_type::Symmetric;

/// The settings that may be shown, as they are stored.
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
    /// CA certificates as PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
}

/// Parses the settings of a new connection.
///
/// # Errors
/// Every invalid setting.
pub(crate) fn parse(text: &str, egress: &Egress) -> Result<ParsedSettings, Vec<SettingsError>> {
    settings::parse(text, "an object with address and auth", |fields| read(fields, egress))
}

fn read(fields: &mut Fields<'_>, egress: &Egress) -> Option<(Settings, Secrets)> {
    let address = fields.required("address", "an address such as \"https://vault.example:8200\"", |text| {
        let destination = egress.destination(&text).map_err(|error| error.to_string())?;
        without_version(destination.as_str()).map(str::to_owned)
    });
    let namespace = auth::path(fields, "namespace", "team/a");
    let mount = auth::mount(fields, "transit");
    let expected = "\"aes256-gcm96\" or \"chacha20-poly1305\": the type of the keys behind the specification aes-256";
    let symmetric_key_type = fields.optional("symmetric_key_type", expected, |text| {
        let known = Symmetric::ALL.into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| expected.to_owned())
    });
    let proxy = egress.proxy_setting(fields);
    let ca = authorities_setting(fields);
    let auth = match fields.take("auth") {
        Some(value) => auth::parse(value, fields.wrong()),
        None => {
            fields.report("auth", FORMS);
            None
        }
    };
    fields.reserve_files(&FILES);
    let (auth, secrets) = auth?;
    let settings = Settings {
        address: address?,
        namespace,
        mount,
        symmetric_key_type: symmetric_key_type.unwrap_or_default(),
        auth,
        ca,
        proxy,
    };
    Some((settings, secrets))
}

/// Refuses the address of the API in place of the server's: every call would miss it, and look like one with an unknown
/// token. A path before it, as of a proxy, is permitted.
fn without_version(address: &str) -> Result<&str, String> {
    match address.trim_end_matches('/').ends_with("/v1") {
        true => {
            Err("the server's address without \"/v1\", which the gateway adds itself, such as \"https://vault.example:8200\"".to_owned())
        }
        false => Ok(address),
    }
}

/// The settings of a connection after a change of its network settings.
///
/// # Errors
/// Every mistake in the change.
pub(crate) fn change_network(mut stored: Settings, given: &str, egress: &Egress) -> Result<String, Vec<SettingsError>> {
    let mut change = NetworkChange::parse(egress, given, Address::Changes)?;
    if let Some(address) = change.address.take() {
        let mistake = |expected: String| vec![SettingsError::at("/address", expected)];
        stored.address = without_version(&address).map_err(mistake)?.to_owned();
    }
    change.apply(&mut stored.ca, &mut stored.proxy);
    network::stored(&stored)
}

/// Parses the secrets that replace those of a connection with these settings.
///
/// # Errors
/// Every invalid secret.
pub(crate) fn replace(stored: &Settings, given: &str) -> Result<Secrets, Vec<SettingsError>> {
    let expected = "an object with the secrets of the connection's login";
    settings::parse_secrets(given, expected, |fields| auth::replacement(&stored.auth, fields))
}
