//! How a connection's settings become a provider: what `boot` registers for each family.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    BackgroundCalls, BackgroundTrace, BoundContext, Call, Capabilities, ConnectionId, Error, KeySpec, ProviderKind, Secret, TenantId,
    Wrapped,
};

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

impl SettingsError {
    /// A setting that anybody may use, but not so.
    pub fn at(pointer: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            expected: expected.into(),
            operator_only: false,
        }
    }
}

/// Settings that were parsed: what may be shown, and what is kept sealed.
#[derive(Debug)]
pub struct ParsedSettings {
    /// JSON of everything that is no secret; stored and shown as it is.
    pub public: String,
    /// Secrets by name.
    pub secrets: Vec<(String, Secret)>,
}

/// Who wrote a connection's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsOrigin {
    /// A tenant, over the API: nothing that names a file, a variable, a profile, a socket, an
    /// ambient identity or a cloud's endpoint is taken from it.
    Tenant,
    /// The operator, in the configuration's file.
    Operator,
}

/// What a provider is made from.
pub struct ConnectionParts<'a> {
    /// Whose connection it is.
    pub tenant: TenantId,
    /// The connection.
    pub connection: ConnectionId,
    /// 128 random bits of ours in hex, for a trust policy at the provider; no caller can set it.
    pub external_id: &'a str,
    /// The settings that may be shown, as [`Factory::parse`] wrote them.
    pub settings: &'a str,
    /// The secrets, by the names that [`Factory::parse`] gave them.
    pub secrets: Vec<(String, Secret)>,
    /// Is told of the connection's calls that serve no single operation; `None` for nobody.
    pub background: Option<Arc<dyn BackgroundCalls>>,
}

impl ConnectionParts<'_> {
    /// Where the connection reports its background calls.
    pub fn background_trace(&self) -> BackgroundTrace {
        BackgroundTrace::new(self.tenant, self.connection, self.background.clone())
    }
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
    fn parse(&self, settings: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>>;

    /// Parses new secrets for a connection that exists: `given` is the part of `settings`
    /// that holds secrets, JSON text of at most 64 KiB, and `public` what was kept of the
    /// others. Answers the secrets that take the place of those of the same names.
    ///
    /// # Errors
    /// Every member that cannot be used, at once; by default all of them, for a family that
    /// keeps no secrets.
    fn replace_secrets(&self, _public: &str, _given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        Err(vec![SettingsError {
            pointer: String::new(),
            expected: "nothing: connections of this provider have no secrets".to_owned(),
            operator_only: false,
        }])
    }

    /// Makes a provider from kept settings. It may not reach out: a provider that is away
    /// must not keep the gateway from starting.
    ///
    /// # Errors
    /// `Misconfigured` when the kept settings or secrets cannot be used any more.
    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error>;

    /// How a recipient is opened without the gateway: commands of the provider's own tool for
    /// a POSIX shell, the last of which prints the data key in base64. `settings` are those
    /// of the key's connection. Empty where the provider has no such tool.
    fn offline_decrypt(&self, _settings: &str, _spec: KeySpec, _wrapped: &Wrapped, _context: &BoundContext) -> Vec<String> {
        Vec::new()
    }
}

/// Takes a secret out of those of a connection; `None` when it is not among them.
pub fn take_secret(secrets: &mut Vec<(String, Secret)>, wanted: &str) -> Option<Secret> {
    let at = secrets.iter().position(|(name, _)| name == wanted)?;
    Some(secrets.swap_remove(at).1)
}
