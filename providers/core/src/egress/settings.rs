//! The settings `proxy` and `ca` of a connection.

use super::{Authorities, Egress};
use crate::Fields;

/// The longest `ca`, in bytes.
const MAX_CA: usize = 32 * 1024;

impl Egress {
    /// Parses the setting `address` of a server that a tenant names; returns it as it is stored.
    pub fn address_setting(&self, fields: &mut Fields<'_>) -> Option<String> {
        fields.optional("address", "an address such as \"https://vault.example:8200\"", |text| {
            let destination = self.destination(&text).map_err(|error| error.to_string())?;
            Ok(destination.as_str().to_owned())
        })
    }

    /// Parses the setting `proxy`; returns it as it is stored.
    pub fn proxy_setting(&self, fields: &mut Fields<'_>) -> Option<String> {
        fields.optional("proxy", "an address such as \"http://proxy.example:3128\"", |text| {
            let proxy = self.proxy(&text).map_err(|error| error.to_string())?;
            Ok(proxy.as_str().to_owned())
        })
    }
}

/// Parses the setting `ca`: the CA certificates that a connection trusts instead of the system's.
pub fn authorities_setting(fields: &mut Fields<'_>) -> Option<String> {
    let expected = "one or more certificates as PEM text, without any key, at most 32 KiB";
    fields.optional("ca", expected, |text| {
        // The API shows it, so it must not contain a private key.
        let fits = text.len() <= MAX_CA && !text.contains("PRIVATE KEY") && Authorities::from_pem(&text).is_some();
        fits.then_some(text).ok_or_else(|| expected.to_owned())
    })
}
