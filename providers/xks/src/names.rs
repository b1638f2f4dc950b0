//! Names of keys and regions, the proxy's address, and the ARNs that the key manager's owner sees.

use claviger_provider::egress::Egress;
use claviger_provider::{KeyId, TenantId};
use reqwest::Url;

/// The path of the API below the proxy's prefix. Version 1 is the only one.
pub(crate) const API: &str = "/kms/xks/v1";
/// The longest path of the API with its prefix, in bytes.
const MAX_PATH: usize = 128;
/// The longest key id, in bytes.
const MAX_KEY: usize = 128;
/// The longest name of a region, in bytes.
const MAX_REGION: usize = 32;

/// The id of an external key: 1 to 128 of `[A-Za-z0-9._-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyName(String);

impl KeyName {
    /// `None` for another form, and for the two ids that a URL cannot have as a segment of its path.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let fits = (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(plain) && !matches!(text, "." | "..");
        fits.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The region that requests are signed for: 1 to 32 of `[a-z0-9-]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Region(String);

impl Region {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=MAX_REGION).contains(&text.len()) && text.bytes().all(plain);
        fits.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is expected of the setting `address`.
const ADDRESS: &str = "an address such as \"https://xks.example\", with the proxy's path prefix if it has one: letters, digits, '_', '-' and \
                       single slashes, at most 128 bytes with /kms/xks/v1";

/// The address of a proxy as it is stored: with the prefix, without `/kms/xks/v1` and a slash at the end.
///
/// # Errors
/// What is expected instead.
pub(crate) fn address(egress: &Egress, text: &str) -> Result<String, String> {
    let destination = egress.destination(text).map_err(|error| error.to_string())?;
    let address = destination.as_str().trim_end_matches('/');
    let address = address.strip_suffix(API).unwrap_or(address).trim_end_matches('/');
    let url = Url::parse(address).map_err(|_| ADDRESS.to_owned())?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let prefix = url.path().trim_start_matches('/');
    let fits = prefix.is_empty()
        || (prefix.split('/').all(|segment| !segment.is_empty() && segment.bytes().all(plain)) && 1 + prefix.len() + API.len() <= MAX_PATH);
    fits.then(|| address.to_owned()).ok_or_else(|| ADDRESS.to_owned())
}

/// Names a principal of a tenant.
pub(crate) fn principal_arn(tenant: TenantId, principal: &str) -> String {
    format!("arn:claviger:iam::{tenant}:principal/{principal}")
}

/// Names a logical key of a tenant.
pub(crate) fn key_arn(region: &Region, tenant: TenantId, key: KeyId) -> String {
    format!("arn:claviger:kms:{}:{tenant}:key/{key}", region.as_str())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::egress::{Egress, EgressPolicy};
    use claviger_provider::{KeyId, TenantId};

    use super::{KeyName, Region, address, key_arn, principal_arn};

    #[test]
    fn a_key_has_the_form_of_the_specification() {
        for text in ["a", "key.1", "_-.x", &"k".repeat(128)] {
            assert!(KeyName::parse(text).is_some(), "{text}");
        }
        for text in ["", ".", "..", "a/b", "a b", "a%2Fb", "k\u{e4}", &"k".repeat(129)] {
            assert!(KeyName::parse(text).is_none(), "{text}");
        }
        assert!(Region::parse("eu-central-1").is_some());
        for text in ["", "EU", "eu_central", "eu/1", &"r".repeat(33)] {
            assert!(Region::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn an_address_has_a_prefix_or_none() {
        let egress = Egress::new(EgressPolicy::default());
        for (given, stored) in [
            ("https://Xks.example", "https://xks.example"),
            ("https://xks.example:8443/", "https://xks.example:8443"),
            ("https://xks.example/a/b-c_d", "https://xks.example/a/b-c_d"),
            ("https://xks.example/kms/xks/v1", "https://xks.example"),
            ("https://xks.example/a/kms/xks/v1/", "https://xks.example/a"),
        ] {
            assert_eq!(address(&egress, given).unwrap(), stored, "{given}");
        }
        let long = format!("https://xks.example/{}", "p".repeat(117));
        assert!(address(&egress, &long).is_err() && address(&egress, &long[..long.len() - 1]).is_ok());
        for given in [
            "https://xks.example/a.b",
            "https://xks.example/a//b",
            "https://xks.example/a%2Fb",
            "https://127.0.0.1/a",
        ] {
            assert!(address(&egress, given).is_err(), "{given}");
        }
    }

    #[test]
    fn arns_name_the_tenant() {
        let (tenant, key) = (TenantId::from_bytes([1; 16]), KeyId::from_bytes([2; 16]));
        let (ones, twos) = ("01".repeat(16), "02".repeat(16));
        let region = Region::parse("eu-west-3").unwrap();
        assert_eq!(
            principal_arn(tenant, "system"),
            format!("arn:claviger:iam::{ones}:principal/system")
        );
        assert_eq!(
            key_arn(&region, tenant, key),
            format!("arn:claviger:kms:eu-west-3:{ones}:key/{twos}")
        );
    }
}
