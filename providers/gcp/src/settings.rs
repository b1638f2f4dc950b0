//! What a connection is told: the key ring, and whom its calls are made as.

use claviger_provider::egress::Destination;
use claviger_provider::{Fields, ParsedSettings, Secret, SettingsError, SettingsOrigin};
use google_cloud_kms_v1::model::ProtectionLevel;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::login::{self, AUTH, Auth};
use crate::names::KeyRing;

/// What may be shown of a connection, and is stored as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) key_ring: String,
    #[serde(default, skip_serializing_if = "Level::is_software")]
    pub(crate) protection_level: Level,
    /// Data keys come from the HSM's generator, not from the gateway's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hsm_random: bool,
    pub(crate) auth: Auth,
    /// Instead of Google's own endpoints; the operator's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sts_endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iam_endpoint: Option<String>,
}

/// Where the material of keys that are made here is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    #[default]
    Software,
    Hsm,
}

impl Level {
    fn is_software(&self) -> bool {
        *self == Self::Software
    }

    /// In Google's words.
    pub(crate) fn of_google(self) -> ProtectionLevel {
        match self {
            Self::Software => ProtectionLevel::Software,
            Self::Hsm => ProtectionLevel::Hsm,
        }
    }
}

const ENDPOINT: &str = "nothing: only the operator's configuration may name an endpoint";
const CA: &str = "nothing: Google's client takes no authority of a connection's own. Its certificates are those that the gateway's system \
                  trusts: ask the operator to add the authority there, which then holds for all tenants, or reach Google directly";
const PROXY: &str = "nothing: Google's client takes no proxy of a connection's own. The operator may set HTTPS_PROXY for the gateway, which \
                     then holds for all tenants, or name an endpoint";

fn endpoint(fields: &mut Fields<'_>, origin: SettingsOrigin, name: &'static str) -> Option<String> {
    match origin {
        SettingsOrigin::Tenant => {
            fields.reserve(name, ENDPOINT);
            None
        }
        SettingsOrigin::Operator => fields.optional(name, "an address such as \"https://cloudkms.p.googleapis.com\"", |text| {
            let destination = Destination::of_operator(&text).map_err(|error| error.to_string())?;
            Ok(destination.as_str().to_owned())
        }),
    }
}

/// Reads the settings of a new connection.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn parse(text: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
    let object = || vec![SettingsError::at(String::new(), "an object with key_ring and auth")];
    let value: Value = serde_json::from_str(text).map_err(|_| object())?;
    let mut wrong = Vec::new();
    let Some(mut fields) = Fields::of(value, "", &mut wrong) else {
        return Err(object());
    };
    let expected = "a key ring's name: projects/PROJECT/locations/LOCATION/keyRings/KEYRING";
    let key_ring = fields.required("key_ring", expected, |text| {
        KeyRing::parse(&text).map(|_| text).map_err(|hint| hint.0.to_owned())
    });
    let expected = "\"software\" or \"hsm\" (keys that are external at Google are adopted only)";
    let level = fields.optional("protection_level", expected, |text| match text.as_str() {
        "software" => Ok(Level::Software),
        "hsm" => Ok(Level::Hsm),
        _ => Err(expected.to_owned()),
    });
    let hsm_random = fields.switch("hsm_random");
    for (name, instead) in [("ca", CA), ("proxy", PROXY)] {
        fields.refuse(name, instead);
    }
    let kms = endpoint(&mut fields, origin, "endpoint");
    let sts = endpoint(&mut fields, origin, "sts_endpoint");
    let iam = endpoint(&mut fields, origin, "iam_endpoint");
    let auth = match fields.take("auth") {
        Some(value) => login::parse(value, origin, fields.wrong()),
        None => {
            fields.report("auth", AUTH);
            None
        }
    };
    fields.finish();
    let (true, Some(key_ring), Some((auth, secrets))) = (wrong.is_empty(), key_ring, auth) else {
        return Err(wrong);
    };
    let settings = Settings {
        key_ring,
        protection_level: level.unwrap_or_default(),
        hsm_random,
        auth,
        endpoint: kms,
        sts_endpoint: sts,
        iam_endpoint: iam,
    };
    let public = serde_json::to_string(&settings).map_err(|_| object())?;
    Ok(ParsedSettings { public, secrets })
}

/// Reads the secrets that take the place of a connection's.
///
/// # Errors
/// All that is wrong with them.
pub(crate) fn replace(public: &str, given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
    let whole = |expected: &str| vec![SettingsError::at(String::new(), expected)];
    let settings: Settings = serde_json::from_str(public).map_err(|_| whole("a connection of this provider"))?;
    let value: Value = serde_json::from_str(given).map_err(|_| whole("an object with the connection's secret"))?;
    let mut wrong = Vec::new();
    match login::replacement(&settings.auth, value, &mut wrong) {
        Some(secrets) if wrong.is_empty() => Ok(secrets),
        Some(_) | None => Err(wrong),
    }
}
