//! The idempotency keys whose first request is under way.

use std::sync::Arc;

use dashmap::DashSet;

use crate::store::model::IdempotencyKey;

/// The keys of requests that are under way.
#[derive(Debug, Default)]
pub(super) struct InFlight(DashSet<IdempotencyKey>);

/// A key whose request is under way until this is dropped.
pub(super) struct UnderWay {
    in_flight: Arc<InFlight>,
    key: IdempotencyKey,
}

impl InFlight {
    /// Begins a request; `None` while another one with the key is under way.
    pub fn begin(self: &Arc<Self>, key: IdempotencyKey) -> Option<UnderWay> {
        self.0.insert(key.clone()).then(|| UnderWay {
            in_flight: Arc::clone(self),
            key,
        })
    }
}

impl UnderWay {
    /// The key.
    pub const fn key(&self) -> &IdempotencyKey {
        &self.key
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.in_flight.0.remove(&self.key);
    }
}
