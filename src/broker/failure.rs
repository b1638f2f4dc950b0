//! Why an operation failed: one closed list of codes, which every protocol renders and the audit
//! record names.

use std::time::Duration;

use claviger_provider::{Concerns, Error, ErrorKind, ProviderKind, Retry};

use crate::access::{Action, Ended};
use crate::cache::Fault;
use crate::keys::{Gone, LoadError};
use crate::store::StoreError;
use crate::store::model::Resource;

/// The closed list of codes (`docs/api.md`, Errors). A code is never renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is a code of the contract's list")]
pub enum Code {
    InvalidRequest,
    InvalidEnvelope,
    EnvelopeVersionUnsupported,
    OperatorOnlySetting,
    ConnectionRefusedAtCheck,
    Unauthenticated,
    PermissionDenied,
    NotFound,
    MethodNotAllowed,
    TooLarge,
    UnsupportedMediaType,
    AlreadyExists,
    AlreadyCreated,
    InProgress,
    IdempotencyMismatch,
    ProviderKeyTaken,
    KeyDisabled,
    KeyState,
    ConnectionSevered,
    InUse,
    ManagedByConfig,
    QuotaExceeded,
    PreconditionFailed,
    CiphertextRejected,
    ProviderDenied,
    ExternalDenied,
    ConnectionMisconfigured,
    RateLimited,
    Internal,
    Unsupported,
    ProviderProtocol,
    ProviderUnavailable,
    CircuitOpen,
    AuditUnavailable,
    EffectiveNotRecorded,
    EffectiveInMemoryOnly,
    NotReady,
    DeadlineExceeded,
}

impl Code {
    /// Every code, in the order of `docs/api.md`.
    pub const ALL: [Self; 38] = [
        Self::InvalidRequest,
        Self::InvalidEnvelope,
        Self::EnvelopeVersionUnsupported,
        Self::OperatorOnlySetting,
        Self::ConnectionRefusedAtCheck,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::AlreadyExists,
        Self::AlreadyCreated,
        Self::InProgress,
        Self::IdempotencyMismatch,
        Self::ProviderKeyTaken,
        Self::KeyDisabled,
        Self::KeyState,
        Self::ConnectionSevered,
        Self::InUse,
        Self::ManagedByConfig,
        Self::QuotaExceeded,
        Self::PreconditionFailed,
        Self::CiphertextRejected,
        Self::ProviderDenied,
        Self::ExternalDenied,
        Self::ConnectionMisconfigured,
        Self::RateLimited,
        Self::Internal,
        Self::Unsupported,
        Self::ProviderProtocol,
        Self::ProviderUnavailable,
        Self::CircuitOpen,
        Self::AuditUnavailable,
        Self::EffectiveNotRecorded,
        Self::EffectiveInMemoryOnly,
        Self::NotReady,
        Self::DeadlineExceeded,
    ];

    /// The code's text in answers and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidEnvelope => "invalid_envelope",
            Self::EnvelopeVersionUnsupported => "envelope_version_unsupported",
            Self::OperatorOnlySetting => "operator_only_setting",
            Self::ConnectionRefusedAtCheck => "connection_refused_at_check",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission_denied",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::AlreadyExists => "already_exists",
            Self::AlreadyCreated => "already_created",
            Self::InProgress => "in_progress",
            Self::IdempotencyMismatch => "idempotency_mismatch",
            Self::ProviderKeyTaken => "provider_key_taken",
            Self::KeyDisabled => "key_disabled",
            Self::KeyState => "key_state",
            Self::ConnectionSevered => "connection_severed",
            Self::InUse => "in_use",
            Self::ManagedByConfig => "managed_by_config",
            Self::QuotaExceeded => "quota_exceeded",
            Self::PreconditionFailed => "precondition_failed",
            Self::CiphertextRejected => "ciphertext_rejected",
            Self::ProviderDenied => "provider_denied",
            Self::ExternalDenied => "external_denied",
            Self::ConnectionMisconfigured => "connection_misconfigured",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Unsupported => "unsupported",
            Self::ProviderProtocol => "provider_protocol",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::CircuitOpen => "circuit_open",
            Self::AuditUnavailable => "audit_unavailable",
            Self::EffectiveNotRecorded => "effective_not_recorded",
            Self::EffectiveInMemoryOnly => "effective_in_memory_only",
            Self::NotReady => "not_ready",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }
}

/// A part of the request that is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A JSON pointer into the body, or `header:Name`, `query:name`, `path:name`.
    pub pointer: String,
    /// Description of a valid value.
    pub expected: String,
}

/// A failure as the caller sees it. Details for the operator alone are logged where the failure
/// is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// Description of what happened, in one sentence without text of the caller or provider.
    pub detail: std::borrow::Cow<'static, str>,
    /// The invalid parts of the request.
    pub places: Vec<Place>,
    /// The provider that failed.
    pub provider: Option<ProviderKind>,
    /// What the caller can do.
    pub advice: Option<&'static str>,
    /// The provider's own message, where the caller's tenant may read it.
    pub provider_message: Option<Box<str>>,
    /// The id of what an earlier request created.
    pub created_id: Option<Box<str>>,
    /// The time to wait before another attempt.
    pub retry_after: Option<Duration>,
    /// Whether the provider itself rejected the ciphertext. The cache remembers such a rejection
    /// for a moment, and no other.
    pub(super) rejected_by_provider: bool,
    /// Whether it is not known if a change took effect in the store.
    pub(super) outcome_unknown: bool,
    /// Whether there was not enough time before the request's deadline, whatever the code says: another request may
    /// have more. The cache gives such a failure to no other request.
    pub(super) of_request_alone: bool,
}

impl Failure {
    /// The invalid parts and the advice as text, for where there is no body to hold them.
    pub fn hints(&self) -> impl Iterator<Item = String> {
        let places = self.places.iter();
        let places = places.map(|place| format!("{}: expected {}", place.pointer, place.expected));
        places.chain(self.advice.map(str::to_owned))
    }

    /// A failure with its detail text.
    pub fn new(code: Code, detail: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::with_detail(code, detail.into())
    }

    const fn with_detail(code: Code, detail: std::borrow::Cow<'static, str>) -> Self {
        Self {
            code,
            detail,
            places: Vec::new(),
            provider: None,
            advice: None,
            provider_message: None,
            created_id: None,
            retry_after: None,
            rejected_by_provider: false,
            outcome_unknown: false,
            of_request_alone: false,
        }
    }

    /// `invalid_request` for one part of the request.
    pub fn invalid(pointer: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::new(Code::InvalidRequest, "The request has an invalid value.").at(pointer, expected)
    }

    /// Adds an invalid part of the request.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, expected: impl Into<String>) -> Self {
        self.places.push(Place {
            pointer: pointer.into(),
            expected: expected.into(),
        });
        self
    }

    /// Adds the id of what an earlier request created.
    #[must_use]
    pub fn created(mut self, id: String) -> Self {
        self.created_id = Some(id.into());
        self
    }

    /// Sets the advice.
    #[must_use]
    pub const fn advice(mut self, advice: &'static str) -> Self {
        self.advice = Some(advice);
        self
    }

    /// The error for everything that can be wrong with a decoded ciphertext. It has one message, so
    /// that no caller learns which check failed.
    pub const fn ciphertext_rejected() -> Self {
        let detail = std::borrow::Cow::Borrowed("The wrapped key does not open here under this key and context.");
        Self::with_detail(Code::CiphertextRejected, detail)
            .advice("Check that the key, the context and the tenant are those it was wrapped under, and that the text is complete.")
    }

    /// The caller may not do this. The same answer whether or not the object exists.
    /// It names the operation, which follows from the request alone.
    pub fn denied(action: Action) -> Self {
        let detail = format!("The credential does not permit the operation {} on this object.", action.as_str());
        Self::new(Code::PermissionDenied, detail)
            .advice("Ask the issuer of the credential for one that allows this operation on this object.")
    }

    /// There is no such object. For callers who would be allowed, had it existed.
    pub fn not_found() -> Self {
        Self::new(Code::NotFound, "There is no such object in this tenant.")
    }

    /// [`Failure::not_found`] for an object of which the request names one kind alone.
    pub fn none_named(what: &'static str) -> Self {
        Self::new(Code::NotFound, format!("There is no {what} of that name in this tenant."))
    }

    /// A fault of the gateway. The cause goes to the log only.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(Code::Internal, "The gateway failed. The request is not at fault.")
            .advice("Ask the operator to look for this request id in the log.")
    }

    /// The request's deadline passed.
    pub const fn deadline() -> Self {
        let detail = std::borrow::Cow::Borrowed("There was no answer before the request's deadline.");
        Self::with_detail(Code::DeadlineExceeded, detail)
    }
}

impl Fault for Failure {
    fn timed_out() -> Self {
        Self::deadline()
    }

    fn is_of_request_alone(&self) -> bool {
        // What is the credential's own is decided before an unwrap, but for its end.
        let own = matches!(self.code, Code::DeadlineExceeded | Code::Unauthenticated | Code::PermissionDenied);
        own || self.of_request_alone
    }

    fn rejected() -> Self {
        Self::ciphertext_rejected()
    }

    fn is_rejected(&self) -> bool {
        self.rejected_by_provider
    }
}

impl From<Gone> for Failure {
    fn from(Gone: Gone) -> Self {
        Self::not_found()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::not_found(),
            StoreError::AlreadyExists => Self::new(Code::AlreadyExists, "An object of that name exists."),
            StoreError::ProviderKeyTaken => Self::new(
                Code::ProviderKeyTaken,
                "Another key of this tenant is based on that provider key, or was when it was detached.",
            )
            .advice(
                "`claviger keys list` shows the tenant's keys, and `claviger keys list --state detached` what brings a detached one back.",
            ),
            // The same error as for a failed proof of ownership, so that a tenant does not learn
            // that another tenant has the key.
            StoreError::ClaimedElsewhere => Error::new(ErrorKind::ProviderDenied, "another tenant has claimed the provider key").into(),
            StoreError::InUse(key) => Self::new(Code::InUse, format!("A version of the key `{key}` still uses the connection."))
                .advice("Detach the keys that use it: their versions name their connections. To end its use at once, sever it."),
            StoreError::OverQuota(resource, quota) => over_quota(resource, quota),
            StoreError::Precondition => Self::new(Code::PreconditionFailed, "The object changed since the given etag.")
                .advice("Read the object again and repeat the change with its new etag."),
            StoreError::IdempotencyTaken => Self::new(Code::InProgress, "Another request with this idempotency key is under way."),
            StoreError::CredentialEnded => Ended::Credential.into(),
            StoreError::TenantSuspended => Ended::Tenant.into(),
            StoreError::Busy => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(Code::NotReady, "The store has as many requests under way as it takes.")
            },
            StoreError::FilesLost => Self::new(
                Code::NotReady,
                "The store's files were removed or replaced, so it takes no change; nothing was done.",
            )
            .advice("An operator must put the files back; the gateway's log names them."),
            StoreError::Damaged(_) | StoreError::Database(_) => Self::internal(&error),
            StoreError::CommitFailed(_) => Self {
                outcome_unknown: true,
                ..Self::internal(&error)
            },
        }
    }
}

fn over_quota(resource: Resource, quota: u32) -> Failure {
    let (what, advice) = match resource {
        Resource::Keys => (
            "keys",
            "Ask the operator to raise `quotas.keys`. Detached keys count, because they can be adopted again.",
        ),
        Resource::Versions => ("key versions", "Ask the operator to raise `quotas.versions`."),
        Resource::Connections => (
            "connections",
            "Delete connections that no key uses, or ask the operator to raise `quotas.connections`.",
        ),
        Resource::Principals => (
            "principals",
            "Delete principals that are no longer used, or ask the operator to raise `quotas.principals`.",
        ),
        Resource::Tokens => (
            "tokens",
            "Delete principals that are no longer used, or ask the operator to raise `quotas.tokens`. A token counts until 30 days after its end.",
        ),
        Resource::IdempotencyKeys => (
            "stored responses",
            "Repeat the request without Idempotency-Key, or later: responses are stored for 24 hours. The operator can raise `quotas.idempotency_keys`.",
        ),
    };
    Failure::new(Code::QuotaExceeded, format!("The tenant has reached its quota of {quota} {what}.")).advice(advice)
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => error.into(),
            LoadError::Provider(error) => error.into(),
            LoadError::Full => Self::new(
                Code::NotReady,
                "Requests in flight hold every key or connection that memory has room for.",
            )
            .advice("Repeat the request. If it happens often, the operator raises `memory.keys` and `memory.connections`."),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Failure {
    /// Logs the provider's own error text. Callers see its message only where it was sent to their
    /// tenant's own identity.
    fn from(error: &Error) -> Self {
        let tenant = error.origin.as_ref().map(|origin| tracing::field::display(origin.tenant));
        let connection = error.origin.as_ref().map(|origin| tracing::field::display(origin.connection));
        if error.repeated {
            tracing::debug!(%error, tenant, connection, "a refusal of the provider's was repeated");
        } else {
            tracing::info!(%error, tenant, connection, "provider call failed");
        }
        let mut failure = match error.kind {
            ErrorKind::InvalidInput => Self::new(Code::InvalidRequest, "The provider rejected a value of the request.")
                .advice("Its reason is in `provider_message` or, where that is absent, in the gateway's log under this request id."),
            // An adoption and a creation have their own words for what the provider never had.
            ErrorKind::KeyNotFound => Self::new(
                Code::KeyState,
                "The key, or the version in use, is not at the provider any more, or the provider hides it from the connection's identity.",
            )
            .advice(
                "Ask the key's owner: a key that was deleted may be recovered, and rights that were taken away given back. If the key is \
                 lost, move to another one: `claviger keys rotate` with `--connection` and another connection, or with `--provider-key` and \
                 another key.",
            ),
            ErrorKind::Conflict => Self::new(Code::InProgress, "Another change of this key is under way at the provider."),
            ErrorKind::KeyState => Self::new(Code::KeyState, "The key's state at the provider forbids this."),
            ErrorKind::TooLarge => Self::new(Code::TooLarge, "The data is larger than the provider accepts."),
            ErrorKind::CiphertextRejected => Self::ciphertext_rejected(),
            ErrorKind::RateLimited => Self::new(Code::RateLimited, "The provider throttles this connection.")
                .advice("Repeat the request after the pause. If it happens often, use the cache, or ask the provider for a higher quota."),
            ErrorKind::Crowded => Self::new(Code::RateLimited, "The tenant's connections to providers are all taken by other calls.")
                .advice("Send fewer requests at once, and repeat this one after the pause."),
            ErrorKind::ProviderDenied => Self::new(
                Code::ProviderDenied,
                "The provider denies the connection's credential this operation.",
            )
            .advice("Run the connection's check to see which right is missing."),
            ErrorKind::ExternalDenied => Self::new(Code::ExternalDenied, "The external key manager denied the operation.")
                .advice("Ask the key's owner to permit the operation in the key manager, whose own log says why it was denied."),
            ErrorKind::UpstreamUnavailable => Self::new(Code::ProviderUnavailable, "The provider is unreachable or unavailable.")
                .advice("Repeat the request. If it fails again, the connection's check says why: `claviger connections check`."),
            ErrorKind::CircuitOpen => Self::new(
                Code::CircuitOpen,
                match error.concerns {
                    Concerns::Connection => "The provider failed repeatedly, so calls to it are paused for a moment.",
                    Concerns::Call => "The provider failed repeatedly for this key, so calls with it are paused for a moment.",
                },
            )
            .advice("Repeat the request after the pause. The connection's check says why calls fail: `claviger connections check`."),
            ErrorKind::Severed => Self::new(
                Code::ConnectionSevered,
                "The connection was severed, so the provider was not called, or its response was not awaited.",
            )
            .advice("Restore the connection; the key's versions name theirs."),
            ErrorKind::UpstreamProtocol => Self::new(Code::ProviderProtocol, "The provider sent an invalid response.").advice(
                "The gateway's log has the cause under this request id. Check that the connection's address is the provider's own, \
                 without a proxy's error page in between.",
            ),
            ErrorKind::UpstreamTimeout => Self::new(Code::DeadlineExceeded, "The provider did not answer before the deadline."),
            ErrorKind::Unsupported => Self::new(Code::Unsupported, "The provider does not support this operation."),
            ErrorKind::Misconfigured => Self::new(Code::ConnectionMisconfigured, "The connection's settings or credentials are wrong.")
                .advice(
                    "The connection's check says what is wrong: `claviger connections check`. Then give the connection other secrets \
                 (`claviger connections update --secrets`), or make another one with the right settings and move its keys there.",
                ),
            ErrorKind::Internal => Self::internal(error),
        };
        if let Some(found) = &error.found {
            failure.detail = format!("The provider's key is of the kind `{found}`, which cannot be used here.").into();
        }
        failure.rejected_by_provider = failure.code == Code::CiphertextRejected;
        // Every rejected ciphertext has the same message, and the provider is not named either.
        if failure.code != Code::CiphertextRejected {
            failure.provider = error.provider;
            // The adapter's advice is specific to its provider.
            failure.advice = error.advice.or(failure.advice);
            let message = error.message.as_ref().filter(|_| error.owner_may_read);
            failure.provider_message = message.map(|message| message.to_string().into());
        }
        let passing = matches!(failure.code, Code::ProviderUnavailable | Code::CircuitOpen | Code::RateLimited);
        failure.retry_after = match error.retry {
            Retry::After(pause) => Some(pause),
            Retry::Never | Retry::Backoff => passing.then_some(Duration::from_secs(1)),
        };
        failure
    }
}

#[cfg(test)]
mod tests {
    use super::{Code, Failure, StoreError};

    #[test]
    fn a_store_that_is_full_of_requests_is_no_fault() {
        let failure = Failure::from(StoreError::Busy);
        assert_eq!(failure.code, Code::NotReady);
        assert!(failure.retry_after.is_some_and(|after| !after.is_zero()));
    }
}
