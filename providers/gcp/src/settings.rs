//! The settings of a connection: the key ring, and the identity of its calls.

use claviger_provider::egress::Destination;
use claviger_provider::kit::settings::{self as kit, Secrets};
use claviger_provider::{Fields, ParsedSettings, SettingsError, SettingsOrigin};
use google_cloud_kms_v1::model::ProtectionLevel;
use serde::{Deserialize, Serialize};

use crate::auth::{self, AUTH, Auth};
use crate::names::KeyRing;

/// The settings without the secrets. They are stored and shown as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) key_ring: String,
    #[serde(default, skip_serializing_if = "Level::is_software")]
    pub(crate) protection_level: Level,
    /// Whether data keys come from the HSM's random generator instead of the gateway's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) hsm_random: bool,
    pub(crate) auth: Auth,
    /// Endpoints instead of Google's own; for the operator only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sts_endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) iam_endpoint: Option<String>,
}

/// The protection level of created keys.
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

    /// Google's value of it.
    pub(crate) fn google(self) -> ProtectionLevel {
        match self {
            Self::Software => ProtectionLevel::Software,
            Self::Hsm => ProtectionLevel::Hsm,
        }
    }
}

const ENDPOINT: &str = "nothing: only the operator's configuration may name an endpoint";
const CA: &str = "nothing: Google's client has no CA setting for a connection and trusts the CAs of the gateway's system. Ask the operator \
                  to add the CA there, which then applies to all tenants, or connect to Google directly";
const PROXY: &str = "nothing: Google's client has no proxy setting for a connection, and the gateway takes no proxy from its environment. The \
                     operator can configure an endpoint";

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

/// Refuses what Google's client has no setting for.
fn refuse_client_settings(fields: &mut Fields<'_>) {
    for (name, instead) in [("ca", CA), ("proxy", PROXY)] {
        fields.refuse(name, instead);
    }
}

/// Refuses every change of network settings, with what to do instead.
pub(crate) fn no_network(given: &str) -> Vec<SettingsError> {
    let refused = kit::object(given, "nothing: Google's client has neither of these settings", |fields| {
        refuse_client_settings(fields);
        fields.refuse(
            "address",
            "nothing: only the operator's configuration names endpoints of Google's services",
        );
        None::<()>
    });
    refused.err().unwrap_or_default()
}

/// Parses the settings of a new connection.
///
/// # Errors
/// Every mistake, with its place.
pub(crate) fn parse(text: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>> {
    kit::parse(text, "an object with key_ring and auth", |fields| {
        let expected = "a key ring's name: projects/PROJECT/locations/LOCATION/keyRings/KEYRING";
        let key_ring = fields.required("key_ring", expected, |text| {
            KeyRing::parse(&text).map(|_| text).map_err(|hint| hint.0.to_owned())
        });
        let expected = "\"software\" or \"hsm\" (keys with an external protection level can only be adopted)";
        let level = fields.optional("protection_level", expected, |text| match text.as_str() {
            "software" => Ok(Level::Software),
            "hsm" => Ok(Level::Hsm),
            _ => Err(expected.to_owned()),
        });
        let hsm_random = fields.switch("hsm_random");
        refuse_client_settings(fields);
        let kms = endpoint(fields, origin, "endpoint");
        let sts = endpoint(fields, origin, "sts_endpoint");
        let iam = endpoint(fields, origin, "iam_endpoint");
        let auth = match fields.take("auth") {
            Some(value) => auth::parse(value, origin, fields.wrong()),
            None => {
                fields.report("auth", AUTH);
                None
            }
        };
        let (auth, secrets) = auth?;
        let settings = Settings {
            key_ring: key_ring?,
            protection_level: level.unwrap_or_default(),
            hsm_random,
            auth,
            endpoint: kms,
            sts_endpoint: sts,
            iam_endpoint: iam,
        };
        Some((settings, secrets))
    })
}

/// Parses new secrets for a connection with the stored settings `public`.
///
/// # Errors
/// Every mistake, with its place.
pub(crate) fn replace(public: &str, text: &str) -> Result<Secrets, Vec<SettingsError>> {
    let settings: Settings = serde_json::from_str(public).map_err(|_| kit::whole("a connection of this provider"))?;
    kit::parse_secrets(text, "an object with the connection's secret", |fields| {
        auth::replacement(&settings.auth, fields)
    })
}
