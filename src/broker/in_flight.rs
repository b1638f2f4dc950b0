//! The idempotency keys with a request under way. A second request with one of them is refused.

use std::sync::Arc;

use dashmap::DashSet;

use crate::store::model::IdempotencyKey;

/// The idempotency keys of requests under way.
#[derive(Debug, Default)]
pub(super) struct InFlight(DashSet<IdempotencyKey>);

/// A request under way. Dropping it releases its idempotency key.
pub(super) struct UnderWay {
    in_flight: Arc<InFlight>,
    key: IdempotencyKey,
}

impl InFlight {
    /// Begins a request; `None` if another request with the same idempotency key is under way.
    pub fn begin(self: &Arc<Self>, key: IdempotencyKey) -> Option<UnderWay> {
        self.0.insert(key.clone()).then(|| UnderWay {
            in_flight: Arc::clone(self),
            key,
        })
    }
}

impl UnderWay {
    /// The idempotency key.
    pub const fn key(&self) -> &IdempotencyKey {
        &self.key
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.in_flight.0.remove(&self.key);
    }
}
