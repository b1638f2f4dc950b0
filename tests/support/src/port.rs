use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Below the ports that the system hands out by itself (from 32768 on Linux): no connection that
/// leaves takes such a port while a test counts on it.
const KEPT: std::ops::Range<u16> = 16_384..32_768;

/// Listens on one free port at each of these addresses, which stays free for whoever takes it again
/// later: a server that restarts, or one that is told its port.
///
/// # Panics
///
/// When no port is free at all of them.
pub fn listen_on<const N: usize>(addresses: [IpAddr; N]) -> [TcpListener; N] {
    let all = u64::from(KEPT.end - KEPT.start);
    // Elsewhere in each process and for each call.
    let first = RandomState::new().hash_one(std::process::id());
    for step in 0..all {
        let port = KEPT.start + u16::try_from(first.wrapping_add(step) % all).expect("less than the range");
        let bound: Result<Vec<_>, _> = addresses.iter().map(|address| TcpListener::bind((*address, port))).collect();
        if let Ok(listeners) = bound {
            return listeners.try_into().expect("one for each address");
        }
    }
    panic!("no port from {} to {} is free at {addresses:?}", KEPT.start, KEPT.end);
}

/// An address of loopback where nobody listens, and that no connection which leaves is given.
///
/// # Panics
///
/// As [`listen_on`].
pub fn free_address() -> SocketAddr {
    let [listener] = listen_on([IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    listener.local_addr().expect("its address")
}
