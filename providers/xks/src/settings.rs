//! The settings of a connection: the proxy's address, the region, the budget of a call, and how to authenticate.

use claviger_provider::egress::{Egress, authorities_setting};
use claviger_provider::kit::budget::Budget;
use claviger_provider::kit::network::{self, Address, NetworkChange};
use claviger_provider::kit::settings::{self, Secrets};
use claviger_provider::{Fields, ParsedSettings, SettingsError};
use serde::{Deserialize, Serialize};

use crate::auth::{self, Auth};
use crate::names::{self, KeyName, Region};

/// The settings that may be shown, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// With the path prefix, without `/kms/xks/v1`.
    pub(crate) address: String,
    pub(crate) region: String,
    #[serde(default, skip_serializing_if = "Budget::is_usual")]
    pub(crate) budget_ms: Budget,
    pub(crate) auth: Auth,
    /// The external key with which the gateway tries the key manager.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) canary_key: Option<String>,
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
    settings::parse(text, "an object with address, region and auth", |fields| read(fields, egress))
}

fn read(fields: &mut Fields<'_>, egress: &Egress) -> Option<(Settings, Secrets)> {
    const REGION: &str = "the region that the proxy expects in signatures, such as \"eu-central-1\": a-z, 0-9 and '-'";
    const CANARY: &str = "the id of an external key for nothing but the gateway's own tries: 1 to 128 of letters, digits, '.', '_' and '-'";
    let address = fields.required("address", "an address such as \"https://xks.example\"", |text| {
        names::address(egress, &text)
    });
    let region = fields.required("region", REGION, |text| {
        Region::parse(&text).map(|_| text).ok_or_else(|| REGION.to_owned())
    });
    let budget_ms = Budget::setting(fields);
    let canary_key = fields.has("canary_key").then(|| {
        fields.required("canary_key", CANARY, |text| {
            KeyName::parse(&text).map(|_| text).ok_or_else(|| CANARY.to_owned())
        })
    });
    let proxy = egress.proxy_setting(fields);
    let ca = authorities_setting(fields);
    let auth = match fields.take("auth") {
        Some(value) => auth::parse(value, fields.wrong()),
        None => {
            fields.report("auth", auth::FORM);
            None
        }
    };
    fields.reserve_files(&[("ca_file", "ca")]);
    let (auth, secrets) = auth?;
    let settings = Settings {
        address: address?,
        region: region?,
        budget_ms: budget_ms?,
        auth,
        canary_key: canary_key.map_or(Some(None), |given| given.map(Some))?,
        ca,
        proxy,
    };
    Some((settings, secrets))
}

/// The settings of a connection after a change of its network settings.
///
/// # Errors
/// Every mistake in the change.
pub(crate) fn change_network(mut stored: Settings, given: &str, egress: &Egress) -> Result<String, Vec<SettingsError>> {
    let mut change = NetworkChange::parse(egress, given, Address::Changes)?;
    if let Some(address) = change.address.take() {
        stored.address = names::address(egress, &address).map_err(|expected| vec![SettingsError::at("/address", expected)])?;
    }
    change.apply(&mut stored.ca, &mut stored.proxy);
    network::stored(&stored)
}

/// Parses the secrets that replace those of a connection with these settings.
///
/// # Errors
/// Every invalid secret.
pub(crate) fn replace(stored: &Settings, given: &str) -> Result<Secrets, Vec<SettingsError>> {
    let expected = "an object with access_key_id and secret_access_key, second, or client_certificate";
    settings::parse_secrets(given, expected, |fields| auth::replacement(&stored.auth, fields))
}
