//! One provider call for all requests that need the same entry at the same time.

use std::sync::Arc;

use claviger_provider::Secret;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;

use super::key::CacheKey;

/// The result of a load, shared by the requests that wait for it, and zeroed with the last one.
type Landed<F> = Result<(Arc<Secret>, u32), F>;

/// The loads under way.
pub(super) type Flights<F> = DashMap<CacheKey, Arc<Flight<F>>>;

/// A load under way.
pub(super) struct Flight<F> {
    leader: String,
    landing: watch::Receiver<Option<Landed<F>>>,
}

/// Whether this request loads or waits.
pub(super) enum Turn<'a, F> {
    /// No load of the entry is under way: load, then call [`Lead::land`].
    Lead(Lead<'a, F>),
    /// Another request is loading the entry.
    Wait(Wait<F>),
}

/// Joins the load of this entry, or begins it.
pub(super) fn join<'a, F: Clone>(flights: &'a Flights<F>, key: CacheKey, request_id: &str) -> Turn<'a, F> {
    match flights.entry(key) {
        Entry::Occupied(there) => Turn::Wait(Wait(Arc::clone(there.get()))),
        Entry::Vacant(free) => {
            let (land, landing) = watch::channel(None);
            let flight = Arc::new(Flight {
                leader: request_id.to_owned(),
                landing,
            });
            free.insert(Arc::clone(&flight));
            Turn::Lead(Lead {
                flights,
                key,
                flight,
                land,
            })
        }
    }
}

/// The request that loads. Dropped without [`Lead::land`] (after a panic), it wakes the waiting
/// requests, and one of them loads in its place.
pub(super) struct Lead<'a, F> {
    flights: &'a Flights<F>,
    key: CacheKey,
    flight: Arc<Flight<F>>,
    land: watch::Sender<Option<Landed<F>>>,
}

impl<F: Clone> Lead<'_, F> {
    /// Gives the result to the waiting requests.
    pub(super) fn land(self, loaded: &Result<(Secret, u32), F>) {
        self.leave();
        // The flight is not in the map any more, so no further request can join it.
        if Arc::strong_count(&self.flight) > 1 {
            self.land.send_replace(Some(match loaded {
                Ok((plaintext, version)) => Ok((Arc::new(Secret::copy_from(plaintext.expose())), *version)),
                Err(fault) => Err(fault.clone()),
            }));
        }
    }
}

impl<F> Lead<'_, F> {
    /// Removes this flight from the map, but not a later one of the same key.
    fn leave(&self) {
        self.flights.remove_if(&self.key, |_, flight| Arc::ptr_eq(flight, &self.flight));
    }
}

impl<F> Drop for Lead<'_, F> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request that waits.
pub(super) struct Wait<F>(Arc<Flight<F>>);

impl<F: Clone> Wait<F> {
    /// The id of the request that makes the provider call.
    pub(super) fn leader(&self) -> &str {
        &self.0.leader
    }

    /// Waits for the result; `None` when the leader was dropped without one.
    pub(super) async fn landing(&self) -> Option<Result<(Secret, u32), F>> {
        let mut landing = self.0.landing.clone();
        let landed = landing.wait_for(Option::is_some).await.ok()?;
        landed.as_ref().map(|landed| match landed {
            Ok((plaintext, version)) => Ok((Secret::copy_from(plaintext.expose()), *version)),
            Err(fault) => Err(fault.clone()),
        })
    }
}
