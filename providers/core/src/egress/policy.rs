//! The IP addresses that the gateway connects to on a tenant's behalf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What the operator allows in addition to the public internet.
///
/// The default allows HTTPS to globally reachable unicast addresses only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Networks that are allowed although they are not public. An IPv4 network also covers its
    /// addresses in their IPv6 forms.
    pub allow: Vec<IpNet>,
    /// Whether `http://` destinations are allowed. Anyone on the network path can read what is sent to
    /// them, credentials included.
    pub allow_plain_http: bool,
}

impl EgressPolicy {
    /// Allows every address and plain HTTP: for addresses from the operator, or from an adapter for its
    /// own cloud, and never from a tenant.
    pub fn everywhere() -> Self {
        Self {
            allow: vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
            allow_plain_http: true,
        }
    }

    /// Whether a connection to this address may be opened.
    pub fn permits(&self, address: IpAddr) -> bool {
        let meant = embedded(address).map_or(address, IpAddr::V4);
        let allowed = |address: IpAddr| self.allow.iter().any(|network| network.contains(&address));
        allowed(address) || allowed(meant) || public(meant)
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(a: u16, b: u16, c: u16, d: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

/// IPv4 addresses that are not globally reachable unicast: IANA's registry of special-purpose addresses
/// (RFC 6890), and Azure's host service at a public address.
const SPECIAL_V4: [Ipv4Net; 16] = [
    v4(0, 0, 0, 0, 8),        // this network, unspecified
    v4(10, 0, 0, 0, 8),       // private
    v4(100, 64, 0, 0, 10),    // carrier-grade NAT; cloud metadata
    v4(127, 0, 0, 0, 8),      // loopback
    v4(168, 63, 129, 16, 32), // Azure's host, from every virtual machine
    v4(169, 254, 0, 0, 16),   // link-local; cloud metadata
    v4(172, 16, 0, 0, 12),    // private
    v4(192, 0, 0, 0, 24),     // protocol assignments; cloud metadata
    v4(192, 0, 2, 0, 24),     // documentation
    v4(192, 88, 99, 0, 24),   // 6to4 relays
    v4(192, 168, 0, 0, 16),   // private
    v4(198, 18, 0, 0, 15),    // benchmarking
    v4(198, 51, 100, 0, 24),  // documentation
    v4(203, 0, 113, 0, 24),   // documentation
    v4(224, 0, 0, 0, 4),      // multicast
    v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

/// Globally reachable IPv6 unicast (RFC 4291). Everything else is refused, so loopback, unspecified,
/// link-local, unique-local and multicast need no entry.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 0, 3);

/// Parts of [`GLOBAL_V6`] that are not globally reachable.
const SPECIAL_V6: [Ipv6Net; 3] = [
    v6(0x2001, 0, 0, 0, 23),     // protocol assignments: Teredo, benchmarking, ORCHID
    v6(0x2001, 0xdb8, 0, 0, 32), // documentation
    v6(0x3fff, 0, 0, 0, 20),     // documentation
];

fn public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address)),
    }
}

/// The IPv4 address inside an IPv6 address: mapped and compatible (RFC 4291), NAT64 with the well-known
/// prefix (RFC 6052) and 6to4 (RFC 3056).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (a, b, c, d, e, f) {
        // `::` and `::1` are the unspecified and the loopback address of IPv6.
        (0, 0, 0, 0, 0, 0) if g != 0 || h > 1 => join(g, h),
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => join(g, h),
        (0x2002, high, low, ..) => join(high, low),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::EgressPolicy;

    fn policy(allow: &[&str]) -> EgressPolicy {
        EgressPolicy {
            allow: allow.iter().map(|network| network.parse().unwrap()).collect(),
            allow_plain_http: false,
        }
    }

    #[test]
    fn what_is_not_public_is_refused_by_default() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::2",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            "64:ff9b:1::7f00:1",
            "::ffff:0:127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "::10.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2002:a00:1::",
        ] {
            assert!(!policy(&[]).permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn what_is_public_is_reached() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.1",
            "169.253.0.1",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert!(policy(&[]).permits(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn an_allowance_covers_every_form_of_its_addresses_and_no_other() {
        let allowed = policy(&["127.0.0.0/8", "fd00::/8"]);
        for address in ["127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "fd00::1"] {
            assert!(allowed.permits(address.parse().unwrap()), "{address}");
        }
        for address in ["::1", "10.0.0.1", "::ffff:10.0.0.1", "fc00::1", "0.0.0.1"] {
            assert!(!allowed.permits(address.parse().unwrap()), "{address}");
        }
        assert!(!policy(&["0.0.0.0/8"]).permits("::1".parse().unwrap()));
    }
}
