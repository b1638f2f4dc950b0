//! The responses while the gateway is starting: that the process runs, and which step of the start
//! is under way. Every other request gets 503 `not_ready`.
//!
//! Nothing is done here and there is no log yet, so nothing is recorded.

use std::sync::Arc;

use http::{Method, Request, StatusCode};
use parking_lot::Mutex;

use super::errors;
use super::header::finish;
use super::readiness::{ComponentStatus, Readiness};
use super::service::{alive, json};
use crate::broker::{Code, Failure};
use crate::protocols::RequestId;
use crate::protocols::response::AuditedResponse;

/// A step of the start, as `/readyz` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The root key is fetched. This takes as long as its provider does not respond.
    RootKey,
    /// Store and audit log are opened.
    Open,
    /// Store and audit log are reconciled.
    Reconcile,
    /// Declared objects are created.
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
                durability: None,
                disk_lasts: None,
            }],
            jobs: Vec::new(),
        }
    }
}

/// What a listener answers until there is a gateway.
pub(super) struct Starting(Option<Progress>);

impl Starting {
    pub(super) const fn new(progress: Option<Progress>) -> Self {
        Self(progress)
    }

    pub(super) fn answer<B>(&self, request: &Request<B>) -> AuditedResponse {
        let request_id = RequestId::draw();
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        let mut response = match (&self.0, request.uri().path()) {
            (Some(_), "/healthz") if reads => alive(),
            (Some(progress), "/readyz") if reads => json(StatusCode::SERVICE_UNAVAILABLE, &progress.readiness()),
            _ => {
                let failure = Failure::new(Code::NotReady, "The gateway is starting; /readyz says how far it is.");
                errors::response(&failure, request_id.as_str())
            }
        };
        finish(response.headers_mut(), &request_id);
        AuditedResponse::before_the_log(response)
    }
}
