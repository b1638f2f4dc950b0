//! What a test controls of a running fake.

use std::sync::Arc;

use crate::{Appearance, Clock, Faults, Journal};

/// The controls of a fake, shared between a test and the running fake.
#[derive(Debug, Clone, Default)]
pub struct Switches {
    /// The received requests.
    pub journal: Arc<Journal>,
    /// The injected faults.
    pub faults: Arc<Faults>,
    /// The fake's time.
    pub clock: Arc<Clock>,
    /// When its new keys are found.
    pub appearance: Arc<Appearance>,
}
