//! From a connection's settings to a provider. `boot` registers one factory per kind of provider.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    BackgroundCalls, BackgroundTrace, BoundContext, Call, Capabilities, ConnectionId, Error, ErrorKind, HealthReport, KeyId, KeySpec,
    LoginReport, ProviderKind, Secret, SecretFiles, SeverSwitch, TenantId, Wrapped,
};

/// A mistake in settings: the place and what is expected there, never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// JSON pointer (RFC 6901) within `settings`; empty for the object itself.
    pub pointer: String,
    /// Description of a valid value.
    pub expected: String,
    /// Whether the setting is reserved for the operator's configuration.
    pub operator_only: bool,
}

impl SettingsError {
    /// A mistake in a setting that is not reserved.
    pub fn at(pointer: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            expected: expected.into(),
            operator_only: false,
        }
    }
}

/// Parsed settings, split into a part that may be shown and the secrets.
#[derive(Debug)]
pub struct ParsedSettings {
    /// The settings that are not secret, as JSON text. Stored in plaintext and shown in responses.
    pub public: String,
    /// Secrets by name; stored sealed.
    pub secrets: Vec<(String, Secret)>,
}

/// The author of a connection's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingsOrigin {
    /// A tenant, over the API. Settings that name a file, an environment variable, a profile, a
    /// socket, an ambient identity or a cloud's endpoint are refused.
    Tenant,
    /// The operator, in the configuration file.
    Operator,
}

/// The set of keys within which only one logical key may use a provider key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ClaimSpan {
    /// The keys of the connection's tenant. A tenant that chooses the credential, address or CA can
    /// set up a server that claims to have any key, so its claim must not exclude other tenants.
    #[default]
    Tenant,
    /// The keys of the whole installation. Several tenants use the operator's identity, and none of
    /// them chooses the address, CA or proxy.
    Installation {
        /// The service within which provider key ids are unique; empty where they are unique
        /// everywhere.
        service: String,
    },
}

impl ClaimSpan {
    /// The keys of the whole installation, for provider key ids that are unique everywhere.
    pub const INSTALLATION: Self = Self::Installation { service: String::new() };
}

/// The parts of a connection that a provider is made from.
pub struct ConnectionParts<'a> {
    /// The connection's owner.
    pub tenant: TenantId,
    /// The connection's id.
    pub connection: ConnectionId,
    /// 128 random bits in hex for a trust policy at the provider. The gateway chooses them; no caller
    /// can.
    pub external_id: &'a str,
    /// The public settings that [`Factory::parse`] returned.
    pub settings: &'a str,
    /// The secrets, by the names from [`Factory::parse`].
    pub secrets: Vec<(String, Secret)>,
    /// Receives the connection's calls that serve no single operation; `None` drops them.
    pub background: Option<Arc<dyn BackgroundCalls>>,
    /// Every request of the adapter's passes it, those of its background tasks included.
    pub switch: SeverSwitch,
    /// The operator's files with the secrets, for a declared connection whose settings name some. They are read
    /// at each login; `secrets` are their contents of a moment ago.
    pub files: Option<Arc<dyn SecretFiles>>,
    /// Receives what becomes of the connection's logins.
    pub login: LoginReport,
    /// Receives what the health checks of the connection's service find, where it has some.
    pub health: HealthReport,
}

impl ConnectionParts<'_> {
    /// The trace of the connection's background calls.
    pub fn background_trace(&self) -> BackgroundTrace {
        BackgroundTrace::new(self.tenant, self.connection, self.background.clone())
    }
}

/// What to do about an adoption that is denied, for whichever reason.
const UNPROVEN: &str = "The connection's identity may not read this key, or wrap and unwrap with it, or nothing shows that the key is this \
                        tenant's. Run the connection's check to see which right is missing; else ask the key's owner or the gateway's operator.";

/// Makes the providers of one kind.
#[async_trait]
pub trait Factory: Send + Sync + 'static {
    /// The kind of provider.
    fn kind(&self) -> ProviderKind;

    /// All operations that connections to this kind of provider can support. Sends no request.
    fn capabilities(&self) -> Capabilities;

    /// Parses the `settings` of a new connection, JSON text of at most 64 KiB.
    ///
    /// # Errors
    /// Every invalid setting.
    fn parse(&self, settings: &str, origin: SettingsOrigin) -> Result<ParsedSettings, Vec<SettingsError>>;

    /// Parses new secrets for an existing connection: `given` is the part of `settings` with the
    /// secrets, JSON text of at most 64 KiB; `public` are the connection's public settings. Returns
    /// the secrets that replace those of the same names.
    ///
    /// # Errors
    /// Every mistake in them. By default the connection has no secrets, so all are refused.
    fn replace_secrets(&self, _public: &str, _given: &str) -> Result<Vec<(String, Secret)>, Vec<SettingsError>> {
        Err(vec![SettingsError {
            pointer: String::new(),
            expected: "nothing: connections of this provider have no secrets".to_owned(),
            operator_only: false,
        }])
    }

    /// The settings by which a connection reaches its provider and which can change: CA certificates,
    /// proxy and addresses. All others decide which keys it reaches, and never change.
    fn network_settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// The public settings of a connection after a change of its network settings. `public` are those of
    /// before; `given` is JSON text of at most 64 KiB, an object with some of `ca`, `proxy` and `address`,
    /// where null removes a setting.
    ///
    /// # Errors
    /// Every mistake in `given`. By default there is nothing to change, so all is refused.
    fn change_network(&self, _public: &str, _given: &str) -> Result<String, Vec<SettingsError>> {
        Err(vec![SettingsError::at(
            "",
            "nothing: connections of this provider have neither ca, proxy nor address",
        )])
    }

    /// Within which set of keys a provider key is claimed, by a connection's public settings and by
    /// who wrote them. The set is larger than the tenant's only if the connection uses the
    /// operator's identity, and the tenant chose neither CA, proxy nor address.
    fn claims(&self, _settings: &str, _origin: SettingsOrigin) -> ClaimSpan {
        ClaimSpan::Tenant
    }

    /// The server of a connection with these public settings, where another server of this kind can have a key of the
    /// same id. `None` where ids are unique everywhere. It is how the connection names the server, and no proof: two
    /// names can lead to one server.
    fn server(&self, _settings: &str) -> Option<String> {
        None
    }

    /// The provider's own id of a key to adopt, as [`crate::KeyDescription::id`] will have it, where a connection's
    /// public settings show it without a call. `None` where a call is needed, or no key has that name.
    fn own_id(&self, _settings: &str, _adopt: &str) -> Option<String> {
        None
    }

    /// The id under which another tenant may have claimed a key to adopt ([`crate::KeyRequest::taken`]). By default
    /// [`Factory::own_id`]; where keys also have names that only a call resolves, the given text itself.
    fn claimed_id(&self, settings: &str, adopt: &str) -> Option<String> {
        self.own_id(settings, adopt)
    }

    /// The error of an adoption that does not prove that the tenant owns the key. It must be the
    /// same error that this provider's proof of ownership returns. Where [`Factory::claimed_id`] knows one, it takes the
    /// place of the provider's own denials, too, so it says nothing that is not true of all of them. `settings` are the
    /// connection's public settings.
    fn unproven(&self, _settings: &str) -> Error {
        Error::new(ErrorKind::ProviderDenied, "prove the key's owner")
            .provider(self.kind())
            .advice(UNPROVEN)
    }

    /// Notes the identity of a connection that the operator declares, from its declaration on: `settings` are its
    /// public settings, `None` for one that is no longer declared. Tenants must not have the provider lock such an
    /// identity. By default nothing follows, where the provider locks none.
    fn declare(&self, _connection: ConnectionId, _settings: Option<&str>) {}

    /// Makes a provider from stored settings. It must not connect, because an unreachable provider
    /// must not keep the gateway from starting.
    ///
    /// # Errors
    /// `Misconfigured` when the stored settings or secrets can no longer be used.
    async fn connect(&self, parts: ConnectionParts<'_>) -> Result<Arc<dyn Call>, Error>;

    /// The policy that a check prints ([`crate::Probe::policy`]) for these keys, each provider key id with its logical
    /// key, where rights are granted key by key: a check itself gets some of the keys alone. `settings` are the
    /// connection's public settings; with `partial`, the connection has more keys. `None` for a provider whose policy
    /// names no keys.
    fn policy_of_keys(&self, _settings: &str, _tenant: TenantId, _keys: &[(String, KeyId)], _partial: bool) -> Option<String> {
        None
    }

    /// Commands that unwrap a data key without the gateway: the provider's own tool in a POSIX shell.
    /// The last one prints the data key in base64. `settings` are the public settings of the key's
    /// connection. Empty where the provider has no such tool.
    fn offline_decrypt(&self, _settings: &str, _spec: KeySpec, _wrapped: &Wrapped, _context: &BoundContext) -> Vec<String> {
        Vec::new()
    }
}

/// Removes a secret from those of a connection and returns it; `None` if there is none of that name.
pub fn take_secret(secrets: &mut Vec<(String, Secret)>, wanted: &str) -> Option<Secret> {
    let at = secrets.iter().position(|(name, _)| name == wanted)?;
    Some(secrets.swap_remove(at).1)
}
