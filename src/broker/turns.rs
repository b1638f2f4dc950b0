//! Limits how many items of a batch use one connection at once, so that one slow provider does not
//! block the whole batch.

use std::sync::Arc;
use std::time::Instant;

use claviger_provider::ConnectionId;
use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Failure;

/// The most items of one batch that use one connection at once.
const PER_CONNECTION: usize = 16;

/// The bounds of one batch.
#[derive(Debug, Default)]
pub(super) struct Turns(DashMap<ConnectionId, Arc<Semaphore>>);

/// A place among the items that use one connection; free again when dropped.
#[derive(Debug, Default)]
pub(super) struct Turn(#[expect(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

impl Turns {
    /// Waits for a place.
    ///
    /// # Errors
    /// `deadline_exceeded`.
    pub async fn take(&self, connection: ConnectionId, deadline: Instant) -> Result<Turn, Failure> {
        let places = Arc::clone(&self.0.entry(connection).or_insert_with(|| Arc::new(Semaphore::new(PER_CONNECTION))));
        match tokio::time::timeout_at(deadline.into(), places.acquire_owned()).await {
            Ok(Ok(place)) => Ok(Turn(Some(place))),
            Ok(Err(closed)) => Err(Failure::internal(&closed)),
            Err(_) => Err(Failure::deadline()),
        }
    }
}
