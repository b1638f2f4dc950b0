//! The room for connections of one listener: how many are open at once, in all and from one source,
//! and which one is closed for a new one.
//!
//! First to be closed are connections on which no request was authenticated, in the order in which
//! they were accepted: their requests buy them no time. Then come authenticated ones without a
//! request, longest idle first. A connection with a request under way, or with a response on its way
//! to an authenticated peer, is left alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection_state::ConnectionState;
use super::service::PeerAddress;
use super::sources::{Source, Sources};
use crate::config::server::Limits;

/// How soon a new connection that waits for a place looks again: a busy one may have become idle,
/// or the one that was asked to close got a request first.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One source has as many connections as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SourceIsFull;

/// The room of one listener.
pub(super) struct Room {
    most: usize,
    unlimited: Vec<IpNet>,
    open: Mutex<Open>,
    freed: Notify,
}

struct Open {
    next: u64,
    /// In the order in which they were accepted.
    connections: BTreeMap<u64, Arc<ConnectionState>>,
    sources: Sources,
}

impl Room {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            most: limits.max_connections.try_into().unwrap_or(usize::MAX),
            unlimited: limits.unlimited_sources.clone(),
            open: Mutex::new(Open {
                next: 0,
                connections: BTreeMap::new(),
                sources: Sources::at_most(limits.max_connections_per_source),
            }),
            freed: Notify::new(),
        })
    }

    /// The place of a new connection. Without a free one, asks the connection that is to make room
    /// to close, and waits for its end; if every one is at work, waits for the first that is not.
    ///
    /// # Errors
    /// When its source has as many connections as it may: close it at once.
    pub(super) async fn enter(self: &Arc<Self>, address: &PeerAddress, state: &Arc<ConnectionState>) -> Result<Place, SourceIsFull> {
        let source = self.source(address);
        loop {
            if let Some(place) = self.try_enter(source, state)? {
                return Ok(place);
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, self.freed.notified()).await;
        }
    }

    fn try_enter(self: &Arc<Self>, source: Option<Source>, state: &Arc<ConnectionState>) -> Result<Option<Place>, SourceIsFull> {
        let mut open = self.open.lock();
        if source.is_some_and(|source| open.sources.is_full(source)) {
            return Err(SourceIsFull);
        }
        if open.connections.len() >= self.most {
            if let Some(leaving) = open.makes_room() {
                leaving.ask_to_close();
            }
            return Ok(None);
        }
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Arc::clone(state));
        if let Some(source) = source {
            open.sources.enter(source);
        }
        Ok(Some(Place {
            room: Arc::clone(self),
            id,
            source,
        }))
    }

    /// Every open connection.
    pub(super) fn connections(&self) -> Vec<Arc<ConnectionState>> {
        self.open.lock().connections.values().cloned().collect()
    }

    /// The source to which the connection counts; `None` where there is no bound.
    fn source(&self, address: &PeerAddress) -> Option<Source> {
        match address {
            PeerAddress::Unix { .. } => None,
            PeerAddress::Ip(address) => {
                let ip = address.ip();
                let unlimited = self.unlimited.iter().any(|network| network.contains(&ip));
                (!unlimited).then(|| ip.into())
            }
        }
    }
}

impl Open {
    /// The connection to close for a new one.
    fn makes_room(&self) -> Option<&ConnectionState> {
        // The first one is the one that was accepted first.
        let stranger = self
            .connections
            .values()
            .find(|state| !state.is_authenticated() && state.idle_since().is_some());
        match stranger {
            Some(state) => Some(state),
            None => {
                let idle = self.connections.values().filter_map(|state| Some((state.idle_since()?, state)));
                idle.min_by_key(|(since, _)| *since).map(|(_, state)| state.as_ref())
            }
        }
    }
}

/// The place of an open connection, until it is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    id: u64,
    source: Option<Source>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.room.open.lock();
        open.connections.remove(&self.id);
        if let Some(source) = self.source {
            open.sources.leave(source);
        }
        drop(open);
        self.room.freed.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn neither_a_proxy_nor_a_unix_socket_is_bounded() {
        let limits = Limits {
            unlimited_sources: vec!["10.0.0.0/8".parse().unwrap()],
            ..Limits::default()
        };
        let room = Room::new(&limits);
        let ip = |text: &str| PeerAddress::Ip(format!("{text}:1").parse().unwrap());
        assert_eq!(room.source(&ip("10.1.2.3")), None);
        assert_eq!(room.source(&PeerAddress::Unix { uid: 0, gid: 0 }), None);
        assert!(room.source(&ip("11.1.2.3")).is_some());
    }
}
