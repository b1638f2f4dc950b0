//! The identities that the operator declares, from their declaration on.
//!
//! A tenant reads the identity of a connection that is declared for it, and may make connections of its own with that
//! identity and wrong secrets. One refused login of all tenants' own connections is as much as a declared identity
//! takes within the time in which the service counts. The name of the identity alone tells it, because a server has many
//! addresses, and accepts its namespaces in many spellings.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::ConnectionId;
use crate::kit::call_error::CallError;

/// The declared identities of one provider's connections.
#[derive(Default)]
pub(super) struct Declared(Mutex<All>);

#[derive(Default)]
struct All {
    connections: HashMap<ConnectionId, String>,
    identities: HashMap<String, Entry>,
}

#[derive(Default)]
struct Entry {
    guard: Arc<Guard>,
    connections: usize,
}

impl Declared {
    /// Notes the identity of a declared connection; `None` for one that is no longer declared, or has none.
    pub(super) fn note(&self, connection: ConnectionId, identity: Option<String>) {
        let mut all = self.0.lock();
        // In this order, so that what is known of an identity that stays the same is kept.
        let before = match identity {
            Some(identity) => {
                all.identities.entry(identity.clone()).or_default().connections += 1;
                all.connections.insert(connection, identity)
            }
            None => all.connections.remove(&connection),
        };
        let Some(before) = before else { return };
        if let Some(entry) = all.identities.get_mut(&before) {
            entry.connections -= 1;
            if entry.connections == 0 {
                all.identities.remove(&before);
            }
        }
    }

    /// The guard of an identity that is declared.
    pub(super) fn guard(&self, identity: &str) -> Option<Arc<Guard>> {
        let all = self.0.lock();
        all.identities.get(identity).map(|entry| Arc::clone(&entry.guard))
    }
}

/// When a login of a tenant's own connection with a declared identity began that was not accepted.
#[derive(Default)]
pub(super) struct Guard(Mutex<Option<Instant>>);

impl Guard {
    /// The right to a login that the service may refuse.
    ///
    /// # Errors
    /// `NoSource` if another one was refused within `pause`.
    pub(super) fn right<R>(self: Arc<Self>, pause: Duration) -> Result<Right, CallError<R>> {
        let now = Instant::now();
        let mut last = self.0.lock();
        if last.is_some_and(|at| now - at < pause) {
            return Err(CallError::NoSource {
                advice: "The operator's configuration declares a connection with this identity, which the service would lock for all \
                         after more refused logins. Use the declared connection, or an identity of your own.",
                cause: "a login of a tenant's own connection with an identity of the operator's was refused a moment ago".to_owned(),
            });
        }
        *last = Some(now);
        drop(last);
        Ok(Right(self))
    }
}

/// A tenant's right to one login that the service may refuse.
pub(super) struct Right(Arc<Guard>);

impl Right {
    /// Gives it back: the service did not count the login as refused.
    pub(super) fn give_back(self) {
        *self.0.0.lock() = None;
    }
}
