//! What is served before there is a gateway: that the process lives, and how far its start
//! is. Everything else is answered 503 `not_ready`.
//!
//! Nothing is done here and there is no log yet, so nothing is recorded.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use parking_lot::Mutex;

use super::errors;
use super::response::Answer;
use super::service::{ComponentStatus, Readiness, alive, json};
use super::state::new_request_id;
use crate::broker::{Code, Failure};

/// A step of the start, as `/readyz` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The root key is fetched, which may take as long as whoever holds it is away.
    RootKey,
    /// Store and audit log are opened.
    Open,
    /// Store and audit log are brought to agree.
    Reconcile,
    /// What the configuration declares is made.
    Declare,
}

impl Step {
    const fn as_str(self) -> &'static str {
        match self {
            Self::RootKey => "waiting for the root key",
            Self::Open => "opening the store and the audit log",
            Self::Reconcile => "bringing the store and the audit log to agree",
            Self::Declare => "making what the configuration declares",
        }
    }
}

/// How far the start is. Clones are the same.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Mutex<Step>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Step::RootKey)))
    }
}

impl Progress {
    /// This step is under way from now on.
    pub fn begin(&self, step: Step) {
        *self.0.lock() = step;
    }

    fn readiness(&self) -> Readiness {
        let step = *self.0.lock();
        Readiness {
            ready: false,
            parts: vec![ComponentStatus {
                name: "start",
                ready: false,
                state: step.as_str().to_owned(),
            }],
            jobs: Vec::new(),
        }
    }
}

/// The router of a listener until there is a gateway; with `/healthz` and `/readyz` where the
/// service endpoints stand on it.
pub fn starting(progress: &Progress, with_service: bool) -> Router {
    let router = Router::new().fallback(not_ready);
    if !with_service {
        return router;
    }
    let progress = progress.clone();
    router
        .route("/healthz", get(async || Answer::before_the_log(alive(), &new_request_id())))
        .route(
            "/readyz",
            get(async move || {
                let response = json(StatusCode::SERVICE_UNAVAILABLE, &progress.readiness());
                Answer::before_the_log(response, &new_request_id())
            }),
        )
        .method_not_allowed_fallback(not_ready)
}

async fn not_ready() -> Answer {
    let failure = Failure::new(Code::NotReady, "The gateway is starting; /readyz says how far it is.");
    let request_id = new_request_id();
    Answer::before_the_log(errors::response(&failure, &request_id), &request_id)
}
