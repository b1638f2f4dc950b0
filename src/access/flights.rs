//! One load of a credential at a time, however many requests present it: a burst of requests with a
//! token that is not in memory yet costs one read, and fills no queue that others wait in.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::store::is_for_revocation;

/// What is loaded: its name, and whether for a revocation. A revocation waits for no load of another
/// request, which may have to wait for its turn at the store.
type Name = (bool, Box<str>);

/// The loads under way.
#[derive(Default)]
pub(super) struct Flights(DashMap<Name, Arc<Mutex<()>>>);

/// The right to load; it ends when this is dropped.
pub(super) struct Flight<'f> {
    flights: &'f Flights,
    name: Name,
    _alone: OwnedMutexGuard<()>,
}

impl Flights {
    /// Waits until nobody else loads this. Look into memory again before you load.
    pub(super) async fn enter(&self, name: &str) -> Flight<'_> {
        let name: Name = (is_for_revocation(), name.into());
        let place = Arc::clone(&self.0.entry(name.clone()).or_default());
        Flight {
            flights: self,
            name,
            _alone: place.lock_owned().await,
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        // The map has it, and this flight: nobody waits.
        self.flights.0.remove_if(&self.name, |_, place| Arc::strong_count(place) == 2);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::poll;

    use super::*;
    use crate::store::for_revocation;

    #[tokio::test]
    async fn one_loads_at_a_time_and_a_revocation_waits_for_no_other() {
        let flights = Flights::default();
        let first = flights.enter("token").await;
        let mut second = pin!(flights.enter("token"));
        assert!(poll!(second.as_mut()).is_pending());
        drop(flights.enter("another").await);
        drop(for_revocation(flights.enter("token")).await);
        drop(first);
        drop(second.await);
        assert!(flights.0.is_empty(), "nothing is left behind");
    }
}
