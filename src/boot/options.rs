//! How a gateway is started, besides its configuration.

use std::path::PathBuf;

use crate::store::sealing::RootKey;
use crate::telemetry::metrics::Metrics;

/// How a gateway is started, besides its configuration.
#[derive(Default)]
pub struct StartOptions {
    /// Start although the store is older than the audit log, or the log older than the store.
    pub accept_rollback: bool,
    /// Started by `claviger dev`: creates what is missing, and may use the fault-injecting fake.
    pub dev: bool,
    /// The root key, if it does not come from the configured source (`dev` only).
    pub root_key: Option<RootKey>,
    /// Source of the configuration, to read its declared objects again later.
    pub source: Option<ConfigSource>,
    /// The metrics recorder, if metrics are on. A process has only one.
    pub metrics: Option<Metrics>,
}

/// Source of the configuration.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file. None: environment variables only.
    pub file: Option<PathBuf>,
}
