//! What a connection is told: the vault, how its keys wrap, and whom its calls are made as.

use claviger_provider::egress::{self, Destination, Egress};
use claviger_provider::{Fields, ParsedSettings, SettingsError, SettingsOrigin};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::{self, Auth, FORMS, Secrets};
use crate::cloud::Service;
use crate::factory::Installation;
use crate::names::Vault;

/// How a key of the specification `aes-256` wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) enum Symmetric {
    /// AES key wrap (RFC 3394): no nonce that could ever repeat, and the rights to wrap and unwrap
    /// are all that it needs.
    #[default]
    #[serde(rename = "A256KW")]
    KeyWrap,
    /// AES-GCM with the context as additional data. Its nonces are random, so one version of a key
    /// must not wrap more than 2^32 times.
    #[serde(rename = "A256GCM")]
    Gcm,
}

impl Symmetric {
    const ALL: [Self; 2] = [Self::KeyWrap, Self::Gcm];

    /// Azure's own name of it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::KeyWrap => "A256KW",
            Self::Gcm => "A256GCM",
        }
    }

    const fn is_default(&self) -> bool {
        matches!(self, Self::KeyWrap)
    }
}

/// What may be shown of a connection, and is stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The vault's address.
    pub(crate) vault: String,
    #[serde(default, skip_serializing_if = "Symmetric::is_default")]
    pub(crate) aes_algorithm: Symmetric,
    /// Whether new RSA keys of a Key Vault are made in its HSM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hsm: bool,
    pub(crate) auth: Auth,
    /// PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
}

/// Settings that would name a file, and what holds the file's content instead.
pub(crate) const FILES: [(&str, &str); 5] = [
    ("secret_file", "secret"),
    ("token_file", "token"),
    ("certificate_file", "certificate"),
    ("key_file", "key"),
    ("ca_file", "ca"),
];

fn normal(destination: &Destination) -> String {
    destination.as_str().to_owned()
}

/// Reads the settings of a new connection.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn parse(
    text: &str,
    origin: SettingsOrigin,
    installation: &Installation,
    egress: &Egress,
) -> Result<ParsedSettings, Vec<SettingsError>> {
    let object = || vec![SettingsError::at("", "an object with vault and auth")];
    let value: Value = serde_json::from_str(text).map_err(|_| object())?;
    let mut wrong = Vec::new();
    let Some(mut fields) = Fields::of(value, "", &mut wrong) else {
        return Err(object());
    };
    let vault = fields.required("vault", "a vault's address such as \"https://NAME.vault.azure.net\"", |text| {
        Vault::parse(&text, installation, egress)
    });
    let service = vault.as_ref().map(|vault| vault.service);
    let expected = "\"A256KW\" or \"A256GCM\": how AES keys of a Managed HSM wrap; a Key Vault has none";
    let aes_algorithm = fields.optional("aes_algorithm", expected, |text| {
        let known = Symmetric::ALL.into_iter().find(|known| known.as_str() == text);
        known
            .filter(|_| service != Some(Service::KeyVault))
            .ok_or_else(|| expected.to_owned())
    });
    let hsm = fields.switch("hsm");
    if hsm && service == Some(Service::ManagedHsm) {
        fields.report("hsm", "nothing: all keys of a Managed HSM are made in it");
    }
    let proxy = egress.proxy_setting(&mut fields);
    let ca = egress::authorities_setting(&mut fields);
    let login = match fields.take("auth") {
        Some(value) => auth::parse(value, origin, installation, fields.wrong()),
        None => {
            fields.report("auth", FORMS);
            None
        }
    };
    fields.reserve_files(&FILES);
    fields.finish();
    let (true, Some(vault), Some((auth, secrets))) = (wrong.is_empty(), vault, login) else {
        return Err(wrong);
    };
    let settings = Settings {
        vault: normal(&vault.destination),
        aes_algorithm: aes_algorithm.unwrap_or_default(),
        hsm,
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
pub(crate) fn replace(public: &str, text: &str) -> Result<Secrets, Vec<SettingsError>> {
    let whole = |expected: &str| vec![SettingsError::at("", expected)];
    let settings: Settings = serde_json::from_str(public).map_err(|_| whole("a connection whose kept settings can be read"))?;
    let value: Value = serde_json::from_str(text).map_err(|_| whole("an object with the secrets of the connection's credential"))?;
    let mut wrong = Vec::new();
    match auth::replacement(&settings.auth, value, &mut wrong) {
        Some(secrets) if wrong.is_empty() => Ok(secrets),
        Some(_) | None => Err(wrong),
    }
}
