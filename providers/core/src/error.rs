//! The one error type of everything below the protocols.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::{ConnectionId, ProviderKind, TenantId};

/// What went wrong. Every protocol translates it with an exhaustive match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's input cannot be used.
    InvalidInput,
    /// The key does not exist, or belongs to another tenant.
    KeyNotFound,
    /// The object exists already, or is in use.
    Conflict,
    /// The key's state at the provider forbids the call.
    KeyState,
    /// The input is longer than the operation's limit.
    TooLarge,
    /// The provider rejects the ciphertext, because the ciphertext, its key or its context is
    /// wrong.
    CiphertextRejected,
    /// The provider throttles the gateway.
    RateLimited,
    /// The gateway has no socket for the call, or no memory for its response: others of the tenant, or of all, take what
    /// they may. It says nothing about the provider.
    Crowded,
    /// The provider denies the connection's credential this right.
    ProviderDenied,
    /// The external key manager denies the call.
    ExternalDenied,
    /// The provider does not respond, or responds that it cannot now.
    UpstreamUnavailable,
    /// The circuit breaker is open: the call was not sent.
    CircuitOpen,
    /// The connection is severed: the call was not sent, or ended without its response.
    Severed,
    /// The provider's response is malformed.
    UpstreamProtocol,
    /// No response within the deadline.
    UpstreamTimeout,
    /// The provider does not support this.
    Unsupported,
    /// The connection's settings or credentials are wrong.
    Misconfigured,
    /// A fault of the gateway's.
    Internal,
}

impl ErrorKind {
    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::KeyNotFound => "key_not_found",
            Self::Conflict => "conflict",
            Self::KeyState => "key_state",
            Self::TooLarge => "too_large",
            Self::CiphertextRejected => "ciphertext_rejected",
            Self::RateLimited => "rate_limited",
            Self::Crowded => "crowded",
            Self::ProviderDenied => "provider_denied",
            Self::ExternalDenied => "external_denied",
            Self::UpstreamUnavailable => "upstream_unavailable",
            Self::CircuitOpen => "circuit_open",
            Self::Severed => "severed",
            Self::UpstreamProtocol => "upstream_protocol",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Unsupported => "unsupported",
            Self::Misconfigured => "misconfigured",
            Self::Internal => "internal",
        }
    }
}

/// Whether another attempt can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It cannot succeed.
    Never,
    /// It can succeed, after a jittered pause.
    Backoff,
    /// It can succeed, after at least this time.
    After(Duration),
}

/// What a failure of a provider's is about, for the circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerns {
    /// The call that failed. If it names a key, other keys may work.
    Call,
    /// The connection: no call can get through.
    Connection,
}

/// Whose call failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallOrigin {
    /// The tenant on whose behalf the call was made.
    pub tenant: TenantId,
    /// The connection that it went through.
    pub connection: ConnectionId,
}

/// An error with what the operator needs to find its cause. `context` and `source` are for the log;
/// no protocol shows them to a caller. `message` is, too, unless `owner_may_read` it.
pub struct Error {
    /// The kind of error.
    pub kind: ErrorKind,
    /// Whether another attempt can help.
    pub retry: Retry,
    /// What a provider's failure is about.
    pub concerns: Concerns,
    /// The provider that refused or failed, if a provider was called.
    pub provider: Option<ProviderKind>,
    /// The provider's own error code, if its response has one. Boxed to keep the error small.
    pub upstream_code: Option<Box<str>>,
    /// The attempted operation, without any secret, for the log.
    pub context: String,
    /// What the caller can do about it: our own text, never a provider's.
    pub advice: Option<&'static str>,
    /// The provider's own message. It never has a secret in it. Boxed to keep the error small.
    pub message: Option<Box<UpstreamMessage>>,
    /// What the key is, in the provider's own word, where it is of a kind that the request cannot use: a
    /// caller is told. Boxed to keep the error small.
    pub found: Option<Box<Found>>,
    /// Whether the message may be shown to callers: the provider sent it to the tenant's own
    /// identity, about the tenant's own keys.
    pub owner_may_read: bool,
    /// The cause, for the log.
    pub source: Option<Box<dyn StdError + Send + Sync>>,
    /// Whose call it was, for the log. Boxed to keep the error small.
    pub origin: Option<Box<CallOrigin>>,
    /// Whether the provider was not asked: the gateway repeats a refusal that it logged when it came.
    pub repeated: bool,
}

impl Error {
    /// An error of this kind that no retry fixes. `context` says what was attempted.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            retry: Retry::Never,
            concerns: Concerns::Call,
            provider: None,
            upstream_code: None,
            context: context.into(),
            advice: None,
            message: None,
            found: None,
            owner_may_read: false,
            source: None,
            origin: None,
            repeated: false,
        }
    }

    /// Sets whether another attempt can help.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Sets what the failure is about.
    #[must_use]
    pub fn concerns(mut self, concerns: Concerns) -> Self {
        self.concerns = concerns;
        self
    }

    /// Sets the provider.
    #[must_use]
    pub fn provider(mut self, kind: ProviderKind) -> Self {
        self.provider = Some(kind);
        self
    }

    /// Adds the provider's own code, as printable ASCII, truncated to 128 characters.
    #[must_use]
    pub fn upstream_code(mut self, code: impl AsRef<str>) -> Self {
        let code: String = code.as_ref().chars().take(128).map(printable).collect();
        self.upstream_code = Some(code.into());
        self
    }

    /// Adds what the caller can do.
    #[must_use]
    pub fn advice(mut self, advice: &'static str) -> Self {
        self.advice = Some(advice);
        self
    }

    /// Marks a refusal that is repeated without asking the provider.
    #[must_use]
    pub fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }

    /// Adds the provider's own message.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(Box::new(UpstreamMessage(message.into())));
        self
    }

    /// Adds what the key was found to be, in the provider's own word.
    #[must_use]
    pub fn found(mut self, what: impl Into<String>) -> Self {
        self.found = Some(Box::new(Found(what.into())));
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// The innermost cause of an error as text; it usually names the reason.
pub fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

/// A character of a provider's text as it is shown: a space for white space, `?` for everything else that is not
/// printable ASCII.
pub fn printable(c: char) -> char {
    match c {
        c if c.is_ascii_graphic() => c,
        c if c.is_whitespace() => ' ',
        _ => '?',
    }
}

/// A provider's own message. Displayed as printable ASCII, truncated to 300 characters.
#[derive(Debug)]
pub struct UpstreamMessage(pub String);

impl fmt::Display for UpstreamMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .take(300)
            .map(printable)
            .try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

impl StdError for UpstreamMessage {}

/// A provider's word for a kind of key, such as `RSA_2048`. Displayed as printable ASCII, truncated to 64
/// characters.
#[derive(Debug)]
pub struct Found(String);

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .take(64)
            .map(printable)
            .try_for_each(|c| fmt::Write::write_char(f, c))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.context)?;
        if let Some(provider) = self.provider {
            write!(f, " [{provider}]")?;
        }
        if let Some(code) = &self.upstream_code {
            write!(f, " [code {code}]")?;
        }
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}
