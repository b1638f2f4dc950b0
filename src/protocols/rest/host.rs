//! The host that a request is for. `claviger dev` answers requests for this machine only: a web page
//! whose name was made to lead to 127.0.0.1 (DNS rebinding) sends that name.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::uri::Authority;
use http::{HeaderMap, Uri, header};

/// Whether a request names this machine: `localhost` or a loopback address, with any port. A request
/// without a host names none.
pub fn is_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut named = false;
    // HTTP/2 has it in the URI; where both exist, both count.
    let in_uri = uri.authority().into_iter().map(Some).map(|authority| authority.cloned());
    let in_headers = headers
        .get_all(header::HOST)
        .iter()
        .map(|value| Authority::try_from(value.as_bytes()).ok());
    for authority in in_uri.chain(in_headers) {
        if !authority.is_some_and(|authority| is_loopback_host(authority.host())) {
            return false;
        }
        named = true;
    }
    named
}

fn is_loopback_host(host: &str) -> bool {
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = v6 {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    host.eq_ignore_ascii_case("localhost") || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn names(uri: &str, hosts: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        is_loopback(&uri.parse().unwrap(), &headers)
    }

    #[test]
    fn loopback_addresses_and_localhost_are_this_machine() {
        for host in [
            "localhost",
            "LocalHost:8420",
            "127.0.0.1",
            "127.0.0.1:8420",
            "127.9.9.9",
            "[::1]",
            "[::1]:8420",
        ] {
            assert!(names("/v1/keys", &[host]), "{host}");
        }
        assert!(names("http://localhost:8420/v1/keys", &[]));
        assert!(names("http://localhost:8420/v1/keys", &["127.0.0.1:8420"]));
    }

    #[test]
    fn every_other_name_is_not() {
        for host in [
            "rebind.example",
            "rebind.example:8420",
            "localhost.rebind.example",
            "127.0.0.1.rebind.example",
            "xlocalhost",
            "10.0.0.1",
            "0.0.0.0",
            "2130706433",
            "[::ffff:10.0.0.1]",
            "[fe80::1]",
            "localhost:1:2",
            "",
            "127.0.0.1@rebind.example",
        ] {
            assert!(!names("/v1/keys", &[host]), "{host}");
        }
        assert!(!names("/v1/keys", &[]));
        assert!(!names("/v1/keys", &["localhost", "rebind.example"]));
        assert!(!names("http://rebind.example/v1/keys", &["localhost"]));
        assert!(!names("http://localhost/v1/keys", &["rebind.example"]));
    }
}
