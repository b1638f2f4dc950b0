//! What the service endpoints need.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::audit::CountedRight;
use crate::listener::Tls;
use crate::telemetry::metrics::Metrics;

/// What the service endpoints need.
pub struct ServiceState {
    pub(super) counted: CountedRight,
    pub(super) metrics: Option<Metrics>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) certificates: Vec<Arc<Tls>>,
}

impl ServiceState {
    /// With the right to answer without a record, the metrics if they are on, and the certificates
    /// that the listeners present.
    pub fn new(counted: CountedRight, metrics: Option<Metrics>, draining: Arc<AtomicBool>, certificates: Vec<Arc<Tls>>) -> Self {
        Self {
            counted,
            metrics,
            draining,
            certificates,
        }
    }
}
