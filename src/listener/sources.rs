//! Whose connections and requests count together, and how many of each are open.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

/// Where a caller comes from: an IPv4 address, or an IPv6 network of 64 bits, because one host
/// commands all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// One address.
    V4(Ipv4Addr),
    /// The first 64 bits of an address.
    V6([u16; 4]),
}

impl From<IpAddr> for Source {
    /// An IPv4-mapped IPv6 address is the IPv4 address.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// Counts what is open for each source, up to a bound.
#[derive(Debug)]
pub struct Sources {
    most: u32,
    open: HashMap<Source, u32>,
}

impl Sources {
    /// At most this many for each source.
    pub fn at_most(most: u32) -> Self {
        Self {
            most,
            open: HashMap::new(),
        }
    }

    /// Whether the source has as many as it may.
    pub fn is_full(&self, source: Source) -> bool {
        self.open.get(&source).is_some_and(|open| *open >= self.most)
    }

    /// Counts one more.
    pub fn enter(&mut self, source: Source) {
        *self.open.entry(source).or_default() += 1;
    }

    /// Counts one less. A source without any takes no memory.
    pub fn leave(&mut self, source: Source) {
        if let Some(open) = self.open.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&source);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    fn of(text: &str) -> Source {
        Source::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_source_is_an_address_of_ipv4_or_a_network_of_ipv6() {
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }

    #[test]
    fn each_source_has_its_own_bound_and_leaves_nothing() {
        let mut sources = Sources::at_most(2);
        let (one, other) = (of("192.0.2.1"), of("192.0.2.2"));
        sources.enter(one);
        assert!(!sources.is_full(one));
        sources.enter(one);
        assert!(sources.is_full(one) && !sources.is_full(other));
        sources.leave(one);
        assert!(!sources.is_full(one));
        sources.leave(one);
        assert!(sources.open.is_empty());
    }
}
