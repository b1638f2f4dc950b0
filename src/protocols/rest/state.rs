//! What the service endpoints need.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::store_check::StoreCheck;
use crate::audit::CountedRight;
use crate::listener::Tls;
use crate::telemetry::jobs::JobState;
use crate::telemetry::metrics::Metrics;

/// The state of the service endpoints.
pub struct ServiceState {
    pub(super) counted: CountedRight,
    pub(super) metrics: Option<Metrics>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) certificates: Vec<Arc<Tls>>,
    pub(super) jobs: Vec<Arc<JobState>>,
    pub(super) store: Arc<StoreCheck>,
}

impl ServiceState {
    /// Takes the right to respond without a record, the metrics if they are on, and what `/readyz`
    /// reports: the shutdown, the presented certificates, and the background jobs.
    pub fn new(
        counted: CountedRight,
        metrics: Option<Metrics>,
        draining: Arc<AtomicBool>,
        certificates: Vec<Arc<Tls>>,
        jobs: Vec<Arc<JobState>>,
    ) -> Self {
        Self {
            counted,
            metrics,
            draining,
            certificates,
            jobs,
            store: Arc::default(),
        }
    }
}
