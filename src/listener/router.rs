//! What a listener serves: one router, until another takes its place for good.

use std::sync::{Arc, OnceLock};

use axum::Router;

/// Leads each request to the router that serves now. Clones lead to the same.
#[derive(Clone)]
pub struct SwappableRouter(Arc<Routers>);

struct Routers {
    first: Router,
    then: OnceLock<Router>,
}

impl SwappableRouter {
    /// Leads to this router.
    pub fn to(first: Router) -> Self {
        Self(Arc::new(Routers {
            first,
            then: OnceLock::new(),
        }))
    }

    /// Leads to this one from the next request on, open connections included. It counts
    /// once: a second call changes nothing.
    pub fn replace_with(&self, then: Router) {
        let _ = self.0.then.set(then);
    }

    pub(super) fn router(&self) -> Router {
        self.0.then.get().unwrap_or(&self.0.first).clone()
    }
}
