//! How a gateway is started, besides its configuration.

use std::path::PathBuf;

use crate::store::sealing::RootKey;
use crate::telemetry::metrics::Metrics;

/// How a gateway is started, besides its configuration.
#[derive(Default)]
pub struct StartOptions {
    /// What the operator accepts at this start.
    pub accepted: Accepted,
    /// Started by `claviger dev`: creates what is missing, and may use the fault-injecting fake.
    pub dev: bool,
    /// The root key, if it does not come from the configured source (`dev` only).
    pub root_key: Option<RootKey>,
    /// Source of the configuration, to read its declared objects again later.
    pub source: Option<ConfigSource>,
    /// The metrics recorder, if metrics are on. A process has only one.
    pub metrics: Option<Metrics>,
}

/// What the operator accepts at a start that would otherwise be refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accepted {
    /// The store is older than the audit log.
    pub rollback: bool,
    /// Parts of the audit log are gone: it was removed, put back to an older state, cut or damaged.
    pub lost_log: bool,
    /// The clock is earlier than the audit log's last record, and right.
    pub clock: bool,
}

/// Source of the configuration.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file. None: environment variables only.
    pub file: Option<PathBuf>,
}
