//! The settings of a connection: the region, the endpoints, and the identity that signs.

use claviger_provider::egress::{Destination, Egress, authorities_setting};
use claviger_provider::kit::network::{self, Address, NetworkChange};
use claviger_provider::kit::settings::{self, Secrets, whole};
use claviger_provider::{ClaimSpan, Fields, ParsedSettings, SettingsError, SettingsOrigin};
use serde::{Deserialize, Serialize};

use crate::auth::{self, Auth, Base, FORMS};
use crate::names::Region;

/// The settings that may be shown, as they are stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) region: String,
    /// Whether to use the region's endpoints that are validated under FIPS 140.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) fips: bool,
    pub(crate) auth: Auth,
    /// An endpoint of KMS instead of the region's own; in the operator's configuration only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// The same for STS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sts_endpoint: Option<String>,
    /// CA certificates as PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) proxy: Option<String>,
}

impl Settings {
    /// Whether the connection's provider keys are claimed within the tenant or within the
    /// installation. ARNs are unique everywhere, and only the operator names an endpoint.
    pub(crate) fn claims(&self, origin: SettingsOrigin) -> ClaimSpan {
        let tenant_s_way = origin == SettingsOrigin::Tenant && (self.ca.is_some() || self.proxy.is_some());
        match self.auth.operator_lends() && !tenant_s_way {
            true => ClaimSpan::INSTALLATION,
            false => ClaimSpan::Tenant,
        }
    }
}

const WHOLE: &str = "an object with region and auth";
const ENDPOINT: &str = "nothing: only the operator's configuration may name an endpoint";

/// Parses the settings of a new connection. `custom_endpoints` says that the installation sends all
/// its connections to endpoints of its own; `egress` checks a proxy's address.
///
/// # Errors
/// Every invalid setting.
pub(crate) fn parse(
    text: &str,
    origin: SettingsOrigin,
    custom_endpoints: bool,
    egress: &Egress,
) -> Result<ParsedSettings, Vec<SettingsError>> {
    settings::parse(text, WHOLE, |fields| read(fields, origin, custom_endpoints, egress))
}

fn read(fields: &mut Fields<'_>, origin: SettingsOrigin, custom_endpoints: bool, egress: &Egress) -> Option<(Settings, Secrets)> {
    let expected = "a region's code such as \"eu-central-1\"";
    let region = fields.required("region", expected, |text| {
        Region::parse(&text).map(|_| text).ok_or_else(|| expected.to_owned())
    });
    let fips = fields.switch("fips");
    let endpoint = endpoint(fields, "endpoint", origin);
    let sts_endpoint = self::endpoint(fields, "sts_endpoint", origin);
    let ca = authorities_setting(fields);
    let proxy = egress.proxy_setting(fields);
    if fips && (custom_endpoints || endpoint.is_some() || sts_endpoint.is_some()) {
        fields.report("fips", "false: with a custom endpoint the operator chooses one that is validated");
    }
    let auth = match fields.take("auth") {
        Some(value) => auth::parse(value, origin, fields.wrong()),
        None => {
            fields.report("auth", FORMS);
            None
        }
    };
    let (auth, secrets) = auth?;
    let settings = Settings {
        region: region?,
        fips,
        auth,
        endpoint,
        sts_endpoint,
        ca,
        proxy,
    };
    Some((settings, secrets))
}

fn endpoint(fields: &mut Fields<'_>, name: &'static str, origin: SettingsOrigin) -> Option<String> {
    match origin {
        SettingsOrigin::Tenant => {
            fields.reserve(name, ENDPOINT);
            None
        }
        SettingsOrigin::Operator => {
            let example = "an address such as \"https://vpce-....kms.eu-central-1.vpce.amazonaws.com\"";
            fields.optional(name, example, |text| {
                let destination = Destination::of_operator(&text).map_err(|error| error.to_string())?;
                Ok(destination.as_str().to_owned())
            })
        }
    }
}

/// The settings of a connection after a change of its network settings.
///
/// # Errors
/// Every mistake in the change.
pub(crate) fn change_network(public: &str, given: &str, egress: &Egress) -> Result<String, Vec<SettingsError>> {
    let mut stored: Settings = serde_json::from_str(public).map_err(|_| whole("a connection of this provider"))?;
    let instead = "nothing: AWS's own endpoints follow from the region, and only the operator's configuration names others";
    let change = NetworkChange::parse(egress, given, Address::Fixed(instead))?;
    change.apply(&mut stored.ca, &mut stored.proxy);
    network::stored(&stored)
}

/// Parses the secrets that replace a connection's: a complete access key, in the members that it
/// has in the settings.
///
/// # Errors
/// Every invalid secret.
pub(crate) fn replace(public: &str, given: &str) -> Result<Secrets, Vec<SettingsError>> {
    let stored: Settings = serde_json::from_str(public).map_err(|_| whole("a connection of this provider"))?;
    match stored.auth.base() {
        Base::Static {} => {}
        Base::Profile { .. } | Base::WebIdentity { .. } | Base::Ambient {} => {
            return Err(whole("nothing: the connection has no secrets of its own"));
        }
    }
    let expected = "an object with access_key_id, secret_access_key and perhaps session_token";
    settings::parse_secrets(given, expected, auth::secrets)
}
