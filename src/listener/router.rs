//! The service of a listener, which can be replaced once while the listener works.

use std::sync::{Arc, OnceLock};

/// Passes each request to the current service. Clones share it.
pub struct SwappableRouter<S>(Arc<Services<S>>);

struct Services<S> {
    first: S,
    then: OnceLock<S>,
}

impl<S> SwappableRouter<S> {
    /// Begins with this service.
    pub fn to(first: S) -> Self {
        Self(Arc::new(Services {
            first,
            then: OnceLock::new(),
        }))
    }

    /// Replaces the service from the next request on, on open connections too. Only the first
    /// call has an effect.
    pub fn replace_with(&self, then: S) {
        let _ = self.0.then.set(then);
    }

    pub(super) fn current(&self) -> &S {
        self.0.then.get().unwrap_or(&self.0.first)
    }
}

impl<S> Clone for SwappableRouter<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
