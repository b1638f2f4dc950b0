//! A change of a connection's network settings: CA certificates, proxy and address.

use serde::Serialize;

use super::settings::{object, whole};
use crate::egress::{Egress, authorities_setting};
use crate::factory::SettingsError;
use crate::fields::Fields;

const EXPECTED: &str = "an object with some of ca, proxy and address";

/// Whether a provider's connections have the setting `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// They have one, which can change.
    Changes,
    /// They have none; or it is part of the names of their keys. The text says what to do instead.
    Fixed(&'static str),
}

/// New network settings; `None` leaves a setting as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NetworkChange {
    /// The CA certificates as PEM text; `Some(None)` for those of the system.
    pub ca: Option<Option<String>>,
    /// The proxy; `Some(None)` for none.
    pub proxy: Option<Option<String>>,
    /// The address, normalized.
    pub address: Option<String>,
}

impl NetworkChange {
    /// Parses a change. `egress` checks the addresses.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn parse(egress: &Egress, given: &str, address: Address) -> Result<Self, Vec<SettingsError>> {
        object(given, EXPECTED, |fields| {
            let ca = removable(fields, "ca", authorities_setting);
            let proxy = removable(fields, "proxy", |fields| egress.proxy_setting(fields));
            let address = match address {
                Address::Changes => egress.address_setting(fields),
                Address::Fixed(instead) => {
                    fields.refuse("address", instead);
                    None
                }
            };
            Some(Self { ca, proxy, address })
        })
    }

    /// Changes the settings that every such connection has.
    pub fn apply(self, ca: &mut Option<String>, proxy: &mut Option<String>) {
        if let Some(new) = self.ca {
            *ca = new;
        }
        if let Some(new) = self.proxy {
            *proxy = new;
        }
    }
}

/// Changed settings as they are stored.
///
/// # Errors
/// When they cannot be written as JSON, which no settings are.
pub fn stored(settings: &impl Serialize) -> Result<String, Vec<SettingsError>> {
    serde_json::to_string(settings).map_err(|_| whole(EXPECTED))
}

fn removable(fields: &mut Fields<'_>, name: &'static str, read: impl FnOnce(&mut Fields<'_>) -> Option<String>) -> Option<Option<String>> {
    if fields.take_null(name) {
        Some(None)
    } else {
        read(fields).map(Some)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{Address, NetworkChange};
    use crate::egress::{Egress, EgressPolicy};

    fn parse(given: &str, address: Address) -> Result<NetworkChange, Vec<String>> {
        let parsed = NetworkChange::parse(&Egress::new(EgressPolicy::default()), given, address);
        parsed.map_err(|mistakes| mistakes.into_iter().map(|mistake| mistake.pointer).collect())
    }

    #[test]
    fn a_setting_is_changed_removed_or_left_as_it_is() {
        let change = parse(r#"{"proxy": null, "address": "https://Vault.Example"}"#, Address::Changes).unwrap();
        assert_eq!(
            change,
            NetworkChange {
                ca: None,
                proxy: Some(None),
                address: Some("https://vault.example/".to_owned()),
            }
        );
        let (mut ca, mut proxy) = (Some("ca".to_owned()), Some("proxy".to_owned()));
        change.apply(&mut ca, &mut proxy);
        assert_eq!((ca.as_deref(), proxy.as_deref()), (Some("ca"), None));
        assert_eq!(parse("{}", Address::Changes).unwrap(), NetworkChange::default());
    }

    #[test]
    fn every_mistake_has_its_place() {
        for (given, places) in [
            (
                r#"{"ca": "no certificate", "proxy": "ftp://proxy.example"}"#,
                &["/ca", "/proxy"][..],
            ),
            (r#"{"address": "https://127.0.0.1:8200"}"#, &["/address"]),
            (r#"{"address": null}"#, &["/address"]),
            (r#"{"mount": "kms"}"#, &[""]),
            (r#"["ca"]"#, &[""]),
            ("ca", &[""]),
        ] {
            assert_eq!(parse(given, Address::Changes).unwrap_err(), places, "{given}");
        }
        let fixed = parse(r#"{"address": "https://vault.example"}"#, Address::Fixed("nothing"));
        assert_eq!(fixed.unwrap_err(), ["/address"]);
    }
}
