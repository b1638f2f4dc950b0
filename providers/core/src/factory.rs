//! How a connection's settings become a provider: what `boot` registers for each family.

use async_trait::async_trait;

use crate::{Call, Capabilities, ConnectionId, Error, ProviderKind, Secret, TenantId};
use std::sync::Arc;

/// A setting that cannot be used. It names the place and what belongs there, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// JSON pointer within `settings`; empty for the object itself.
    pub pointer: String,
    /// What is expected there.
    pub expected: String,
    /// Whether the setting exists but only the operator's configuration may use it.
    pub operator_only: bool,
}

/// Settings that were parsed: what may be shown, and what is kept sealed.
#[derive(Debug)]
pub struct ParsedSettings {
    /// JSON of everything that is no secret; stored and shown as it is.
    pub public: String,
    /// Secrets by name.
    pub secrets: Vec<(String, Secret)>,
}

/// Makes providers of one family. One value for each family is registered at boot.
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// Which family.
    fn kind(&self) -> ProviderKind;

    /// What a connection of this family can do, before anything is reached.
    fn capabilities(&self) -> Capabilities;

    /// Parses the `settings` of a new connection, JSON text of at most 64 KiB.
    ///
    /// # Errors
    /// Every setting that cannot be used, at once.
    fn parse(&self, settings: &str) -> Result<ParsedSettings, Vec<SettingsError>>;

    /// Makes a provider from kept settings. It may not reach out: a provider that is away
    /// must not keep the gateway from starting.
    ///
    /// # Errors
    /// `Misconfigured` when the kept settings or secrets cannot be used any more.
    async fn connect(
        &self,
        tenant: TenantId,
        connection: ConnectionId,
        settings: &str,
        secrets: Vec<(String, Secret)>,
    ) -> Result<Arc<dyn Call>, Error>;
}
