//! The settings of a connection: the vault, how its keys wrap, and the identity of its calls.

use claviger_provider::egress::{self, Egress};
use claviger_provider::kit::network::{self, Address, NetworkChange};
use claviger_provider::kit::settings::{self as kit, Secrets};
use claviger_provider::{ClaimSpan, ParsedSettings, SettingsError, SettingsOrigin};
use serde::{Deserialize, Serialize};

use crate::auth::{self, Auth, FORMS, SECRET_FILES};
use crate::cloud::Service;
use crate::installation::Installation;
use crate::names::Vault;
use crate::wrap_algorithm::AesAlgorithm;

/// The settings without the secrets. They are stored and shown as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The vault's normalized URL.
    pub(crate) vault: String,
    #[serde(default, skip_serializing_if = "AesAlgorithm::is_default")]
    pub(crate) aes_algorithm: AesAlgorithm,
    /// Whether new RSA keys of a Key Vault are created in its HSM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hsm: bool,
    pub(crate) auth: Auth,
    /// The CA certificates that the connection trusts instead of the system's, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
}

impl Settings {
    /// Whether the connection's provider keys are claimed within the tenant or within the
    /// installation. A provider key id contains the vault's address, which Azure or the operator
    /// assigns, so it is unique everywhere.
    pub(crate) fn claims(&self, origin: SettingsOrigin) -> ClaimSpan {
        let tenant_s_way = origin == SettingsOrigin::Tenant && (self.ca.is_some() || self.proxy.is_some());
        match self.auth.operator_lends() && !tenant_s_way {
            true => ClaimSpan::INSTALLATION,
            false => ClaimSpan::Tenant,
        }
    }
}

/// Parses the settings of a new connection.
///
/// # Errors
/// Every mistake, with its place.
pub(crate) fn parse(
    text: &str,
    origin: SettingsOrigin,
    installation: &Installation,
    egress: &Egress,
) -> Result<ParsedSettings, Vec<SettingsError>> {
    kit::parse(text, "an object with vault and auth", |fields| {
        let vault = fields.required("vault", "a vault's address such as \"https://NAME.vault.azure.net\"", |text| {
            Vault::parse(&text, installation, egress)
        });
        let service = vault.as_ref().map(|vault| vault.service);
        let expected = "\"A256KW\" or \"A256GCM\": how AES keys of a Managed HSM wrap; a Key Vault has none";
        let aes_algorithm = fields.optional("aes_algorithm", expected, |text| {
            let known = AesAlgorithm::ALL.into_iter().find(|known| known.as_str() == text);
            known
                .filter(|_| service != Some(Service::KeyVault))
                .ok_or_else(|| expected.to_owned())
        });
        let hsm = fields.switch("hsm");
        if hsm && service == Some(Service::ManagedHsm) {
            fields.report("hsm", "nothing: a Managed HSM creates all keys in its HSM");
        }
        let proxy = egress.proxy_setting(fields);
        let ca = egress::authorities_setting(fields);
        let auth = match fields.take("auth") {
            Some(value) => auth::parse(value, origin, installation, fields.wrong()),
            None => {
                fields.report("auth", FORMS);
                None
            }
        };
        fields.reserve_files(&SECRET_FILES);
        let (auth, secrets) = auth?;
        let settings = Settings {
            vault: vault?.base().to_owned(),
            aes_algorithm: aes_algorithm.unwrap_or_default(),
            hsm,
            auth,
            ca,
            proxy,
        };
        Some((settings, secrets))
    })
}

/// The settings of a connection after a change of its network settings.
///
/// # Errors
/// Every mistake in the change.
pub(crate) fn change_network(public: &str, given: &str, egress: &Egress) -> Result<String, Vec<SettingsError>> {
    let mut settings: Settings = serde_json::from_str(public).map_err(|_| kit::whole("a connection whose stored settings can be read"))?;
    let instead =
        "nothing: the vault's address is part of its keys' ids. Create a connection to the other vault, and rotate the keys to it";
    let change = NetworkChange::parse(egress, given, Address::Fixed(instead))?;
    change.apply(&mut settings.ca, &mut settings.proxy);
    network::stored(&settings)
}

/// Parses new secrets for a connection with the stored settings `public`.
///
/// # Errors
/// Every mistake, with its place.
pub(crate) fn replace(public: &str, text: &str) -> Result<Secrets, Vec<SettingsError>> {
    let settings: Settings = serde_json::from_str(public).map_err(|_| kit::whole("a connection whose stored settings can be read"))?;
    kit::parse_secrets(text, "an object with the secrets of the connection's credential", |fields| {
        auth::replacement(&settings.auth, fields)
    })
}
