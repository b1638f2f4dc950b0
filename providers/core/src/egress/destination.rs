//! Addresses that a tenant may give, parsed and checked against the egress policy.

use std::fmt;
use std::net::IpAddr;

use reqwest::Url;

use super::EgressPolicy;

/// The longest address, in bytes.
pub const MAX_ADDRESS: usize = 1024;

/// The server or proxy that a client connects to: scheme, host, port and, for a server, a path prefix.
///
/// Only [`super::Egress`] makes one, which guarantees: `https`, or `http` where the operator allows
/// it; no user, query or fragment; a host that is a name, or an IP address that the policy permits,
/// in whatever notation (the URL standard's parser reads `0x7f.1`, `2130706433` and
/// `[::ffff:127.0.0.1]` as addresses). The policy applies to a name when it is resolved.
#[derive(Clone, PartialEq, Eq)]
pub struct Destination(Url);

/// Why an address is refused. The text says what is expected, and nothing of what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// The text is not an address.
    #[error("an address such as \"https://host.example:8200\", of at most 1024 bytes of printable ASCII")]
    Form,
    /// The scheme is not HTTPS, or plain HTTP that the operator does not allow.
    #[error("an address that begins with https:// (plain http:// only where the operator's [egress] allows it)")]
    Scheme,
    /// It has a user, a password, a query or a fragment.
    #[error("an address without user, password, query and fragment")]
    Extra,
    /// A proxy's address has a path.
    #[error("an address without a path")]
    Path,
    /// The policy refuses its IP address.
    #[error("a public address (loopback, link-local, private and other special ranges only where the operator's [egress] allows them)")]
    Refused,
}

impl Destination {
    pub(super) fn server(address: &str, policy: &EgressPolicy) -> Result<Self, DestinationError> {
        let destination = Self::parse(address, policy)?;
        if destination.0.scheme() == "http" && !policy.allow_plain_http {
            return Err(DestinationError::Scheme);
        }
        Ok(destination)
    }

    pub(super) fn proxy(address: &str, policy: &EgressPolicy) -> Result<Self, DestinationError> {
        let destination = Self::parse(address, policy)?;
        if destination.0.path() != "/" {
            return Err(DestinationError::Path);
        }
        Ok(destination)
    }

    /// Parses an address from the operator. The same form applies, but any IP address and plain HTTP
    /// are permitted.
    ///
    /// # Errors
    /// See [`DestinationError`].
    pub fn of_operator(address: &str) -> Result<Self, DestinationError> {
        Self::server(address, &EgressPolicy::everywhere())
    }

    fn parse(address: &str, policy: &EgressPolicy) -> Result<Self, DestinationError> {
        // The URL standard's parser drops white space and reads backslashes as slashes. An address must
        // not be parsed as another one than it looks like.
        let printable = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        if address.len() > MAX_ADDRESS || !address.bytes().all(printable) {
            return Err(DestinationError::Form);
        }
        let url = Url::parse(address).map_err(|_| DestinationError::Form)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(DestinationError::Scheme);
        }
        // The standard's parser also accepts `https:host` and `https:///host`.
        let Some(rest) = address.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://")) else {
            return Err(DestinationError::Form);
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.is_empty() || url.port() == Some(0) {
            return Err(DestinationError::Form);
        }
        // Empty users, queries and fragments count too, so look for their delimiters.
        if address.contains(['?', '#']) || authority.contains('@') {
            return Err(DestinationError::Extra);
        }
        let destination = Self(url);
        match destination.ip() {
            Some(ip) if !policy.permits(ip) => Err(DestinationError::Refused),
            Some(_) | None => Ok(destination),
        }
    }

    /// The host, if it is an IP address.
    fn ip(&self) -> Option<IpAddr> {
        let host = self.0.host_str()?;
        host.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The normalized address: lower-case host, no default port.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether connections to it are encrypted.
    pub fn encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host's name, or its IP address without brackets.
    pub(super) fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// Whether an address has this scheme, host and port, and no user.
    pub(super) fn hosts(&self, address: &Url) -> bool {
        address.origin() == self.0.origin() && address.username().is_empty() && address.password().is_none()
    }

    /// The URL of a path below the destination's. Each segment stays one segment, whatever characters
    /// it contains.
    pub(super) fn join<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Url {
        let mut url = self.0.clone();
        // Cannot fail: an `http` address always has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Destination({})", self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::{Destination, DestinationError, EgressPolicy};

    fn strict(address: &str) -> Result<Destination, DestinationError> {
        Destination::server(address, &EgressPolicy::default())
    }

    #[test]
    fn an_address_gets_its_normal_form() {
        for (given, normal) in [
            ("https://Vault.Example", "https://vault.example/"),
            ("HTTPS://vault.example:443/", "https://vault.example/"),
            ("https://vault.example:8200/kms/", "https://vault.example:8200/kms/"),
            ("https://[2606:4700:0:0::1111]:8200", "https://[2606:4700::1111]:8200/"),
            ("https://1.1.1.1", "https://1.1.1.1/"),
        ] {
            assert_eq!(strict(given).unwrap().as_str(), normal, "{given}");
        }
    }

    #[test]
    fn odd_spellings_of_an_address_are_read_as_what_they_mean() {
        for address in [
            "https://127.0.0.1",
            "https://127.1",
            "https://0x7f.1",
            "https://0x7f000001",
            "https://2130706433",
            "https://017700000001",
            "https://0177.0.0.1",
            "https://127.0.0.1.",
            "https://0",
            "https://0.0.0.0",
            "https://%31%32%37.0.0.1",
            // Full-width digits and an ideographic full stop are normalized to ASCII.
            "https://%EF%BC%91%EF%BC%92%EF%BC%97.0.0.1",
            "https://127%E3%80%820.0.1",
            "https://127.0.0.1:65535/v1",
            "https://169.254.169.254/latest",
            "https://0xa9fea9fe",
            "https://[::1]",
            "https://[::]",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:7f00:1]",
            "https://[0:0:0:0:0:ffff:a9fe:a9fe]",
            "https://[64:ff9b::a9fe:a9fe]",
            "https://[2002:7f00:1::]",
            "https://[fe80::1]",
            "https://[fd00:ec2::254]",
        ] {
            assert_eq!(strict(address), Err(DestinationError::Refused), "{address}");
        }
    }

    #[test]
    fn what_is_no_plain_https_address_is_refused() {
        use DestinationError::{Extra, Form, Scheme};
        for (address, why) in [
            ("", Form),
            ("vault.example", Form),
            ("https://", Form),
            ("https:vault.example", Form),
            ("https:///vault.example", Form),
            ("https:\\\\vault.example", Form),
            ("https://vault.example\\@127.0.0.1", Form),
            ("https://vault .example", Form),
            (" https://vault.example", Form),
            ("https://vault.example\n", Form),
            ("https://vault.example:0", Form),
            ("https://vault.example:65536", Form),
            ("https://[fe80::1%25eth0]", Form),
            ("https://v\u{e4}ult.example", Form),
            ("http://vault.example", Scheme),
            ("ftp://vault.example", Scheme),
            ("file:///etc/passwd", Scheme),
            ("unix:///run/vault.sock", Scheme),
            ("https://user@vault.example", Extra),
            ("https://user:secret@vault.example", Extra),
            ("https://@vault.example", Extra),
            ("https://vault.example/?", Extra),
            ("https://vault.example?a=b", Extra),
            ("https://vault.example/#", Extra),
        ] {
            assert_eq!(strict(address), Err(why), "{address:?}");
        }
        assert_eq!(strict(&format!("https://{}.example", "a".repeat(1024))), Err(Form));
    }

    #[test]
    fn the_operator_opens_ranges_and_plain_http() {
        let policy = EgressPolicy {
            allow: vec!["127.0.0.0/8".parse().unwrap()],
            allow_plain_http: true,
        };
        assert!(Destination::server("http://127.0.0.1:8200", &policy).is_ok());
        assert!(Destination::server("http://[::ffff:127.0.0.1]:8200", &policy).is_ok());
        assert_eq!(Destination::server("http://10.0.0.1", &policy), Err(DestinationError::Refused));
    }

    #[test]
    fn the_operators_own_address_leads_anywhere_in_the_same_form() {
        for address in [
            "http://127.0.0.1:4566",
            "https://10.0.0.1/kms",
            "http://[::1]:1",
            "https://kms.example",
        ] {
            assert!(Destination::of_operator(address).is_ok(), "{address}");
        }
        for address in [
            "",
            "kms.example",
            "ftp://kms.example",
            "http://user@kms.example",
            "http://kms.example/?a",
        ] {
            assert!(Destination::of_operator(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_proxy_has_no_path_and_may_be_plain() {
        let policy = EgressPolicy::default();
        assert!(Destination::proxy("http://proxy.example:3128", &policy).is_ok());
        assert_eq!(
            Destination::proxy("http://proxy.example/path", &policy),
            Err(DestinationError::Path)
        );
        assert_eq!(Destination::proxy("http://10.1.2.3:3128", &policy), Err(DestinationError::Refused));
    }

    #[test]
    fn a_whole_address_is_one_of_the_same_host() {
        let base = strict("https://vault.example").unwrap();
        let hosts = |address: &str| base.hosts(&address.parse().unwrap());
        assert!(hosts("https://vault.example/a?b") && hosts("https://VAULT.example:443/"));
        for other in [
            "http://vault.example/",
            "https://vault.example:8443/",
            "https://evil.example/vault.example",
            "https://vault.example.evil.example/",
            "https://vault.example@evil.example/",
            "https://user@vault.example/",
        ] {
            assert!(!hosts(other), "{other}");
        }
    }

    #[test]
    fn a_segment_stays_one_segment() {
        let base = strict("https://vault.example/kms").unwrap();
        assert_eq!(
            base.join(["v1", "a/../b", "c?d"]).as_str(),
            "https://vault.example/kms/v1/a%2F..%2Fb/c%3Fd"
        );
    }
}
