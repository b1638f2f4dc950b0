//! The settings of a connection: the key manager's address, the client certificate, and how it speaks KMIP.

use claviger_provider::egress::{ClientCertificate, DestinationError, Egress, authorities_setting};
use claviger_provider::kit::budget::Budget;
use claviger_provider::kit::settings::{self, Secrets};
use claviger_provider::{Fields, ParsedSettings, SettingsError};
use serde::{Deserialize, Serialize};

use crate::names::is_sound;
use crate::tags::Version;

/// The longest private key, in bytes.
const MAX_KEY: usize = 8192;
/// The longest client certificate with its chain, in bytes.
const MAX_CHAIN: usize = 32 * 1024;

/// The settings that may be shown, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// `host:port`.
    pub(crate) address: String,
    /// CA certificates as PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    pub(crate) auth: Auth,
    #[serde(default, skip_serializing_if = "Budget::is_usual")]
    pub(crate) budget_ms: Budget,
    /// The Unique Identifier of the key with which the gateway tries the key manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canary_key: Option<String>,
    /// The only version to speak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) protocol_version: Option<Version>,
    /// Whether the server makes the initialization vectors.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) server_iv: bool,
    /// Whether requests have a Client Correlation Value.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) correlation: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// How a connection shows who it is, without the secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Auth {
    /// A client certificate.
    Cert {},
}

const FORMS: &str = "{\"cert\": {\"certificate\": \"...\", \"key\": \"...\"}}";
const ADDRESS: &str = "host and port of the key manager, such as \"kms.example:5696\"";
const CERTIFICATE: &str = "a client certificate as PEM text, followed by its chain, whose private key `key` holds";
const KEY: &str = "the certificate's private key as PEM text, not encrypted";
const CANARY: &str = "the Unique Identifier of a key for nothing but the gateway's own tries: 1 to 512 bytes of one line";
const VERSION: &str = "\"1.4\" or \"2.0\": the only version of KMIP to speak";

/// Settings that would name a file, and the setting that holds the file's content instead.
const FILES: [(&str, &str); 3] = [("ca_file", "ca"), ("certificate_file", "certificate"), ("key_file", "key")];

/// Parses the settings of a new connection.
///
/// # Errors
/// Every invalid setting.
pub(crate) fn parse(text: &str, egress: &Egress) -> Result<ParsedSettings, Vec<SettingsError>> {
    settings::parse(text, "an object with address and auth", |fields| read(fields, egress))
}

fn read(fields: &mut Fields<'_>, egress: &Egress) -> Option<(Settings, Secrets)> {
    let address = fields.required("address", ADDRESS, |text| endpoint(egress, &text));
    let ca = authorities_setting(fields);
    let protocol_version = fields.optional("protocol_version", VERSION, |text| {
        let known = Version::ALL.into_iter().find(|version| version.as_str() == text);
        known.ok_or_else(|| VERSION.to_owned())
    });
    let budget_ms = Budget::setting(fields);
    let canary_key = fields.optional("canary_key", CANARY, |text| {
        Some(text).filter(|text| is_sound(text)).ok_or_else(|| CANARY.to_owned())
    });
    let (server_iv, correlation) = (fields.switch("server_iv"), fields.switch("correlation"));
    if !fields.has("auth") {
        fields.report("auth", FORMS);
    }
    let auth = fields.object("auth", |auth| {
        let secrets = auth.object("cert", secrets);
        auth.reserve_files(&FILES);
        if secrets.is_none() {
            auth.report("cert", FORMS);
        }
        secrets.flatten()
    });
    fields.reserve_files(&FILES);
    let settings = Settings {
        address: address?,
        ca,
        auth: Auth::Cert {},
        budget_ms: budget_ms?,
        canary_key,
        protocol_version,
        server_iv,
        correlation,
    };
    Some((settings, auth.flatten()?))
}

fn endpoint(egress: &Egress, text: &str) -> Result<String, String> {
    let endpoint = egress.endpoint(text).map_err(|error| match error {
        DestinationError::Refused => error.to_string(),
        DestinationError::Form | DestinationError::Scheme | DestinationError::Extra | DestinationError::Path => ADDRESS.to_owned(),
    })?;
    Ok(endpoint.to_string())
}

fn secrets(fields: &mut Fields<'_>) -> Option<Secrets> {
    fields.reserve_files(&FILES);
    let certificate = fields.secret_pem("certificate", CERTIFICATE, MAX_CHAIN);
    let key = fields.secret_pem("key", KEY, MAX_KEY);
    let (certificate, key) = certificate.zip(key)?;
    if ClientCertificate::from_pem(certificate.expose(), key.expose()).is_none() {
        fields.report("certificate", CERTIFICATE);
        return None;
    }
    Some(vec![("certificate".to_owned(), certificate), ("key".to_owned(), key)])
}

/// Parses the secrets that replace those of a connection.
///
/// # Errors
/// Every invalid secret.
pub(crate) fn replace(given: &str) -> Result<Secrets, Vec<SettingsError>> {
    settings::parse_secrets(given, "an object with certificate and key", secrets)
}

/// The settings of a connection after a change of its network settings.
///
/// # Errors
/// Every mistake in the change.
pub(crate) fn change_network(stored: &Settings, given: &str, egress: &Egress) -> Result<String, Vec<SettingsError>> {
    let expected = "an object with some of ca and address";
    let changed = settings::object(given, expected, |fields| {
        let mut changed = stored.clone();
        if fields.take_null("ca") {
            changed.ca = None;
        } else if let Some(ca) = authorities_setting(fields) {
            changed.ca = Some(ca);
        }
        if let Some(address) = fields.optional("address", ADDRESS, |text| endpoint(egress, &text)) {
            changed.address = address;
        }
        fields.refuse("proxy", "nothing: KMIP has no proxies");
        Some(changed)
    })?;
    claviger_provider::kit::network::stored(&changed)
}
