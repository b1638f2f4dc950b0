//! Names of vaults, keys and key versions.

use std::fmt;

use claviger_provider::KeyId;
use claviger_provider::egress::{Destination, Egress};

use crate::cloud::{Cloud, Service};
use crate::installation::Installation;

/// The longest name of a key, in bytes.
const MAX_NAME: usize = 127;

/// Why a name is refused: a description of the right form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hint(pub(crate) &'static str);

/// A vault that a connection may use.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Vault {
    /// The vault's normalized URL: `https://host/`.
    pub(crate) destination: Destination,
    pub(crate) service: Service,
    /// The cloud whose directories authenticate its callers.
    pub(crate) cloud: Cloud,
    /// Whether the operator configured it, outside of Azure's clouds.
    pub(crate) own: bool,
}

const FORM: Hint = Hint(
    "the address of a vault: \"https://NAME.vault.azure.net\" or \"https://NAME.managedhsm.azure.net\", or the same in another of Azure's clouds",
);

impl Vault {
    /// Parses the URL in a connection's settings.
    ///
    /// # Errors
    /// Description of a valid URL.
    pub(crate) fn parse(text: &str, installation: &Installation, egress: &Egress) -> Result<Self, String> {
        for (service, address) in installation.vaults() {
            if address.trim_end_matches('/') == text.trim_end_matches('/') {
                let destination = egress.destination(address).map_err(|error| error.to_string())?;
                return Ok(Self {
                    destination,
                    service,
                    cloud: Cloud::Public,
                    own: true,
                });
            }
        }
        let (service, cloud) = Self::of_cloud(text).map_err(|hint| hint.0.to_owned())?;
        let destination = egress.destination(text).map_err(|error| error.to_string())?;
        Ok(Self {
            destination,
            service,
            cloud,
            own: false,
        })
    }

    /// The service and the cloud of a vault's URL.
    fn of_cloud(text: &str) -> Result<(Service, Cloud), Hint> {
        let Some(rest) = text.strip_prefix("https://") else {
            return Err(match text.starts_with("http://") {
                true => Hint("an address that begins with https://, which vaults require"),
                false => FORM,
            });
        };
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.contains('/') {
            return Err(Hint(
                "the vault's address only, without a path: give a key's address as provider_key when it is adopted",
            ));
        }
        if host.contains(".privatelink.") {
            return Err(Hint(
                "the vault's own name, such as \"https://NAME.vault.azure.net\": DNS resolves it to the private endpoint",
            ));
        }
        for cloud in Cloud::ALL {
            for service in Service::ALL {
                let name = host.strip_suffix(cloud.suffix(service)).and_then(|rest| rest.strip_suffix('.'));
                if let Some(name) = name {
                    return match vault_name(name) {
                        true => Ok((service, cloud)),
                        false => Err(Hint(
                            "a vault's name of 3 to 24 lower-case letters, digits and hyphens before the cloud's suffix",
                        )),
                    };
                }
            }
        }
        Err(FORM)
    }

    /// The vault's URL, with a trailing slash.
    pub(crate) fn base(&self) -> &str {
        self.destination.as_str()
    }

    /// The provider key id of a key in this vault.
    pub(crate) fn id(&self, name: &KeyName) -> String {
        format!("{}keys/{name}", self.base())
    }

    /// The key name in a provider key id; `None` for one of another vault.
    pub(crate) fn key(&self, id: &str) -> Option<KeyName> {
        KeyName::parse(id.strip_prefix(self.base())?.strip_prefix("keys/")?)
    }

    /// The key and version that a response's `kid` names. It is only compared, never requested.
    pub(crate) fn kid(&self, kid: &str) -> Option<(KeyName, Version)> {
        let (base, rest) = kid.split_at_checked(self.base().len())?;
        if !base.eq_ignore_ascii_case(self.base()) {
            return None;
        }
        let (name, version) = rest.strip_prefix("keys/")?.split_once('/')?;
        Some((KeyName::parse(name)?, Version::parse(version)?))
    }

    /// The key to adopt, by its name or by its URL in this vault.
    ///
    /// # Errors
    /// Description of a valid name.
    pub(crate) fn adoptable(&self, text: &str) -> Result<KeyName, Hint> {
        if let Some(name) = KeyName::parse(text) {
            return Ok(name);
        }
        let Some(rest) = text.strip_prefix("https://") else {
            return Err(Hint(
                "provider_key is a key's name (letters, digits and hyphens, at most 127), or its address without a version: \
                 https://VAULT/keys/NAME.",
            ));
        };
        let (_, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut segments = path.trim_end_matches('/').split('/');
        match segments.next() {
            Some("keys") => {}
            Some("secrets") => {
                return Err(Hint(
                    "This is the address of a secret, which cannot wrap: adopt a key, https://VAULT/keys/NAME.",
                ));
            }
            Some("certificates") => {
                return Err(Hint(
                    "This is the address of a certificate, whose key is replaced at renewal. Adopt a key that was created as a key, \
                     https://VAULT/keys/NAME.",
                ));
            }
            Some(_) | None => return Err(Hint("A key's address is https://VAULT/keys/NAME.")),
        }
        // Only the host is case-insensitive.
        let base = self.base().strip_prefix("https://").unwrap_or_default();
        let here = rest.get(..base.len()).is_some_and(|host| host.eq_ignore_ascii_case(base));
        if !here {
            return Err(Hint(
                "The address belongs to another vault than the connection's. Create a connection to that vault.",
            ));
        }
        match (segments.next().and_then(KeyName::parse), segments.next()) {
            (Some(_), Some(_)) => Err(Hint(
                "Leave the version out: https://VAULT/keys/NAME. All versions of the key are adopted.",
            )),
            (Some(name), None) => Ok(name),
            (None, _) => Err(Hint(
                "A key's name has letters, digits and hyphens, at most 127: https://VAULT/keys/NAME.",
            )),
        }
    }
}

fn vault_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (3..=24).contains(&text.len()) && text.bytes().all(fits)
}

/// The name of a key in a vault; case-insensitive in Azure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyName(String);

impl KeyName {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        ((1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits)).then(|| Self(text.to_owned()))
    }

    /// The name of a key that is created.
    pub(crate) fn of_made_key(id: KeyId) -> Self {
        Self(format!("claviger-{id}"))
    }

    /// Whether both name the same key.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The tag of a key that names its tenant. An adopted key proves by it whose key it is.
pub(crate) const TENANT_TAG: &str = "claviger-tenant";

/// A version of a key: 32 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version(String);

impl Version {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 32 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::egress::{Egress, EgressPolicy};

    use super::{Cloud, Service, Vault};
    use crate::installation::Installation;

    fn vault(text: &str) -> Result<Vault, String> {
        Vault::parse(text, &Installation::default(), &Egress::new(EgressPolicy::default()))
    }

    #[test]
    fn a_vault_is_one_of_the_clouds() {
        for (text, service, cloud) in [
            ("https://acme.vault.azure.net", Service::KeyVault, Cloud::Public),
            ("https://acme-2.vault.azure.net/", Service::KeyVault, Cloud::Public),
            ("https://acme.managedhsm.azure.net", Service::ManagedHsm, Cloud::Public),
            ("https://acme.vault.usgovcloudapi.net", Service::KeyVault, Cloud::UsGovernment),
            (
                "https://acme.managedhsm.usgovcloudapi.net",
                Service::ManagedHsm,
                Cloud::UsGovernment,
            ),
            ("https://acme.vault.azure.cn", Service::KeyVault, Cloud::China),
            ("https://acme.managedhsm.azure.cn", Service::ManagedHsm, Cloud::China),
        ] {
            let read = vault(text).unwrap();
            assert_eq!((read.service, read.cloud, read.own), (service, cloud, false), "{text}");
        }
    }

    #[test]
    fn what_is_no_vault_is_told_the_right_form() {
        for (text, says) in [
            ("acme", "https://NAME.vault.azure.net"),
            ("acme.vault.azure.net", "https://NAME.vault.azure.net"),
            ("http://acme.vault.azure.net", "https://"),
            ("https://acme.vault.azure.net/keys/orders", "without a path"),
            ("https://acme.vault.azure.net/secrets/orders", "without a path"),
            ("https://acme.vault.azure.net:8443", "address of a vault"),
            ("https://user@acme.vault.azure.net", "3 to 24"),
            ("https://acme.privatelink.vaultcore.azure.net", "private endpoint"),
            ("https://vault.azure.net", "address of a vault"),
            ("https://a.b.vault.azure.net", "3 to 24"),
            ("https://ab.vault.azure.net", "3 to 24"),
            ("https://ACME.vault.azure.net", "3 to 24"),
            ("https://acme.vault.azure.net.evil.example", "address of a vault"),
            ("https://evil.example/.vault.azure.net", "without a path"),
            ("https://evil.example?.vault.azure.net", "3 to 24"),
            ("https://evilvault.azure.net", "address of a vault"),
            ("https://127.0.0.1:8443", "address of a vault"),
            ("https://login.microsoftonline.com", "address of a vault"),
        ] {
            let expected = vault(text).map(|_| ()).unwrap_err();
            assert!(expected.contains(says), "{text}: {expected}");
        }
    }

    #[test]
    fn a_key_is_named_by_its_name_or_its_address() {
        let vault = vault("https://acme.vault.azure.net").unwrap();
        for text in [
            "orders",
            "Orders-2",
            "https://acme.vault.azure.net/keys/orders",
            "https://ACME.vault.azure.net/keys/orders",
            "https://acme.vault.azure.net/keys/orders/",
        ] {
            assert!(vault.adoptable(text).is_ok(), "{text}");
        }
        let version = "0123456789abcdef0123456789abcdef";
        for (text, says) in [
            ("", "a key's name"),
            ("my_key", "a key's name"),
            ("orders/1", "a key's name"),
            (
                &format!("https://acme.vault.azure.net/keys/orders/{version}"),
                "Leave the version out",
            ),
            ("https://acme.vault.azure.net/keys/orders/1", "Leave the version out"),
            ("https://acme.vault.azure.net/secrets/orders", "a secret"),
            ("https://acme.vault.azure.net/certificates/orders", "a certificate"),
            ("https://acme.vault.azure.net/", "/keys/NAME"),
            ("https://acme.vault.azure.net", "/keys/NAME"),
            ("https://acme.vault.azure.net/keys/", "A key's name"),
            ("https://other.vault.azure.net/keys/orders", "another vault"),
            ("https://acme.vault.azure.net.evil.example/keys/orders", "another vault"),
            ("acme.vault.azure.net/keys/orders", "a key's name"),
        ] {
            let hint = vault.adoptable(text).unwrap_err();
            assert!(hint.0.contains(says), "{text}: {hint:?}");
        }
    }

    #[test]
    fn only_the_vaults_own_kid_is_read() {
        let vault = vault("https://acme.vault.azure.net").unwrap();
        let version = "0123456789abcdef0123456789abcdef";
        let (name, read) = vault.kid(&format!("https://acme.vault.azure.net/keys/orders/{version}")).unwrap();
        assert_eq!((name.as_str(), read.as_str()), ("orders", version));
        assert_eq!(vault.key(&vault.id(&name)), Some(name));
        for kid in [
            format!("https://acme.vault.azure.net/keys/orders/{}", version.to_uppercase()),
            format!("https://evil.vault.azure.net/keys/orders/{version}"),
            format!("https://acme.vault.azure.net.evil.example/keys/orders/{version}"),
            format!("http://acme.vault.azure.net/keys/orders/{version}"),
            format!("https://acme.vault.azure.net/secrets/orders/{version}"),
            format!("https://acme.vault.azure.net/keys/orders/{version}/x"),
            format!("https://acme.vault.azure.net/keys/../orders/{version}"),
            "https://acme.vault.azure.net/keys/orders".to_owned(),
            String::new(),
        ] {
            assert!(vault.kid(&kid).is_none(), "{kid}");
        }
    }
}
