//! Why a call failed: what the gateway returned, or what came in between.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::models::{ErrorCode, ProviderName};
use crate::values::Extra;

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed. Decide by [`Error::kind`], and by [`Error::code`] where the exact reason matters.
///
/// Its text is one line with everything that helps: what happened, what to do, and the id of the request.
pub struct Error(Box<Parts>);

/// A place in the request with an unusable value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[non_exhaustive]
pub struct Place {
    /// A JSON pointer into the body, or `header:`, `query:` or `path:` and a name.
    pub pointer: String,
    /// What the gateway expects there.
    pub expected: String,
}

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) code: ErrorCode,
    pub(crate) title: String,
    pub(crate) detail: String,
    pub(crate) what_to_do: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) request_id: Option<String>,
    pub(crate) audit_index: Option<String>,
    pub(crate) retryable: bool,
    pub(crate) maybe_executed: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) places: Vec<Place>,
    pub(crate) created_id: Option<String>,
    pub(crate) provider: Option<ProviderName>,
    pub(crate) provider_message: Option<String>,
    pub(crate) extra: Extra,
    pub(crate) source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Error codes that callers treat alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The gateway refuses the request as it is; [`Error::places`] has the places.
    InvalidRequest,
    /// The wrapped key is damaged, is none, or is of a later version of the format.
    InvalidEnvelope,
    /// There is no valid token: it is expired, revoked or damaged.
    Unauthenticated,
    /// The token does not permit the operation. It is the same whether or not the object exists.
    PermissionDenied,
    /// There is no such object.
    NotFound,
    /// The request does not go with the state of an object, or with another request.
    Conflict,
    /// The name or the provider key is taken.
    AlreadyExists,
    /// A request with this idempotency key has made the token, whose text was shown once. [`Error::created_id`] is its id.
    AlreadyCreated,
    /// The object changed since its etag was read: read it again, then decide again.
    PreconditionFailed,
    /// The tenant has as many objects, or as many bytes of audit records today, as its quota allows.
    QuotaExceeded,
    /// The key is switched off: disabled, in a state without this use, or on a severed connection.
    KeyUnusable,
    /// The wrapped key does not open: another key, tenant or context. The gateway does not say which.
    CiphertextRejected,
    /// The key's provider is set up wrongly, or does not work.
    Provider,
    /// The provider refuses the gateway, or the owner of an external key denies the call.
    ProviderDenied,
    /// The provider is not reached or fails, or the gateway pauses the calls to it.
    ProviderUnavailable,
    /// The credential, the tenant or the connection has its share under way, or the provider throttles.
    RateLimited,
    /// The provider, or this gateway, does not support the operation.
    Unsupported,
    /// The deadline passed, here or at the gateway. There is no [`Error::request_id`] if it passed here.
    DeadlineExceeded,
    /// The gateway cannot serve the request now.
    Unavailable,
    /// The revocation took effect, but is not yet recorded, or ends when the gateway ends.
    RevocationNotDurable,
    /// The connection was refused or could not be made, or not before the deadline. Nothing was sent.
    GatewayUnreachable,
    /// The gateway's certificate is not trusted. Nothing was sent.
    UntrustedCertificate,
    /// The connection ended before a response came. [`Error::maybe_executed`] says that the request may have been carried out.
    ConnectionLost,
    /// The response ended too early.
    TruncatedResponse,
    /// The response is not one of a gateway, such as the HTML page of a proxy.
    UnexpectedResponse,
    /// There is no usable token to send: the file is missing, unreadable or no token.
    Token,
    /// The arguments or settings are such that no request can be made of them. Nothing was sent.
    InvalidArgument,
    /// An encrypted file does not open because of its own bytes. Another attempt gives the same; take another copy.
    File,
    /// A file, a source or a target cannot be read or written. The error's source is the [`io::Error`].
    Io,
    /// Everything else: an internal error of the gateway, or a code that this release of the client does not know. Go by
    /// [`Error::status`] and [`Error::is_retryable`].
    Other,
}

impl ErrorKind {
    fn of(code: &ErrorCode) -> Self {
        use ErrorCode as Code;
        match code {
            Code::InvalidRequest
            | Code::OperatorOnlySetting
            | Code::ConnectionRefusedAtCheck
            | Code::MethodNotAllowed
            | Code::TooLarge
            | Code::UnsupportedMediaType => Self::InvalidRequest,
            Code::InvalidEnvelope | Code::EnvelopeVersionUnsupported => Self::InvalidEnvelope,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::PermissionDenied => Self::PermissionDenied,
            Code::NotFound => Self::NotFound,
            Code::InProgress | Code::IdempotencyMismatch | Code::InUse | Code::ManagedByConfig => Self::Conflict,
            Code::AlreadyExists | Code::ProviderKeyTaken => Self::AlreadyExists,
            Code::AlreadyCreated => Self::AlreadyCreated,
            Code::PreconditionFailed => Self::PreconditionFailed,
            Code::QuotaExceeded => Self::QuotaExceeded,
            Code::KeyDisabled | Code::KeyState | Code::ConnectionSevered => Self::KeyUnusable,
            Code::CiphertextRejected => Self::CiphertextRejected,
            Code::ConnectionMisconfigured | Code::ProviderProtocol => Self::Provider,
            Code::ProviderDenied | Code::ExternalDenied => Self::ProviderDenied,
            Code::ProviderUnavailable | Code::CircuitOpen => Self::ProviderUnavailable,
            Code::RateLimited => Self::RateLimited,
            Code::Unsupported => Self::Unsupported,
            Code::DeadlineExceeded => Self::DeadlineExceeded,
            Code::AuditUnavailable | Code::NotReady => Self::Unavailable,
            Code::EffectiveNotRecorded | Code::EffectiveInMemoryOnly => Self::RevocationNotDurable,
            Code::GatewayUnreachable => Self::GatewayUnreachable,
            Code::CertificateUntrusted => Self::UntrustedCertificate,
            Code::ConnectionLost => Self::ConnectionLost,
            Code::ResponseTruncated => Self::TruncatedResponse,
            Code::UnexpectedResponse => Self::UnexpectedResponse,
            Code::TokenUnusable => Self::Token,
            Code::InvalidArgument => Self::InvalidArgument,
            Code::FileUnrecognized | Code::FileVersionUnsupported | Code::FileTruncated | Code::FileHeaderMismatch | Code::FileDamaged => {
                Self::File
            }
            Code::IoFailed => Self::Io,
            Code::Internal | Code::Other(_) => Self::Other,
        }
    }
}

impl Error {
    /// What callers decide by.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::of(&self.0.code)
    }

    /// The exact reason.
    pub fn code(&self) -> &ErrorCode {
        &self.0.code
    }

    /// Short name of the kind of problem.
    pub fn title(&self) -> &str {
        &self.0.title
    }

    /// What happened, in one sentence.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// How to correct the problem.
    pub fn what_to_do(&self) -> Option<&str> {
        self.0.what_to_do.as_deref()
    }

    /// The HTTP status. `None` if no response came, and for an item of a batch.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// The gateway's id of the request, which is in its audit record, too.
    pub fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }

    /// The place of the request's record in the audit log.
    pub fn audit_index(&self) -> Option<&str> {
        self.0.audit_index.as_deref()
    }

    /// Whether the same call may succeed later. The client has then repeated it already where that is safe.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Whether the gateway may have carried out the request although no usable response came.
    pub fn maybe_executed(&self) -> bool {
        self.0.maybe_executed
    }

    /// After which time the gateway expects a repetition to help, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The places in the request with unusable values.
    pub fn places(&self) -> &[Place] {
        &self.0.places
    }

    /// Of [`ErrorCode::AlreadyCreated`]: the id of what the first request created.
    pub fn created_id(&self) -> Option<&str> {
        self.0.created_id.as_deref()
    }

    /// The kind of provider that refused the call or failed.
    pub fn provider(&self) -> Option<&ProviderName> {
        self.0.provider.as_ref()
    }

    /// The provider's own message.
    pub fn provider_message(&self) -> Option<&str> {
        self.0.provider_message.as_deref()
    }

    /// Members of the problem document that this release of the client does not know.
    pub fn extra(&self) -> &Extra {
        &self.0.extra
    }

    /// An error of the client's own, which is not retryable and of which nothing was sent.
    pub(crate) fn new(code: ErrorCode, title: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            title: title.to_owned(),
            detail: detail.into(),
            what_to_do: None,
            status: None,
            request_id: None,
            audit_index: None,
            retryable: false,
            maybe_executed: false,
            retry_after: None,
            places: Vec::new(),
            created_id: None,
            provider: None,
            provider_message: None,
            extra: Extra::default(),
            source: None,
        }))
    }

    pub(crate) fn invalid_argument(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, "Invalid argument", detail)
    }

    pub(crate) fn io(what: &str, error: io::Error) -> Self {
        let detail = format!("{what}: {error}.");
        Self::new(ErrorCode::IoFailed, "Input or output failed", detail).source(error)
    }

    /// From an error of files' format, or of its source or target.
    pub(crate) fn file(error: claviger_encrypted_file::Error) -> Self {
        use claviger_encrypted_file::Error as Refusal;
        let what_to_do = match &error {
            Refusal::Io(_) => None,
            Refusal::Unrecognized => Some("Check that this is the file which was encrypted, or take another copy."),
            Refusal::VersionUnsupported(_) => Some("Take a later release of the client."),
            Refusal::TooLong | Refusal::KeyLength => Some("Check that this release of the client goes with the gateway."),
            Refusal::Truncated | Refusal::HeaderMismatch | Refusal::Damaged => Some("Take another copy of the file."),
        };
        let code = error.code().map(ErrorCode::from);
        let made = match (error, code) {
            (Refusal::Io(error), _) => return Self::io("The source or the target failed", error),
            (error, Some(code)) => Self::new(code, "File not opened", format!("{}.", capitalized(&error.to_string()))),
            (error, None) => Self::new(
                ErrorCode::UnexpectedResponse,
                "Unexpected response",
                format!("{}.", capitalized(&error.to_string())),
            ),
        };
        match what_to_do {
            Some(text) => made.what_to_do_is(text),
            None => made,
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Parts)) -> Self {
        change(&mut self.0);
        self
    }

    pub(crate) fn what_to_do_is(self, text: &str) -> Self {
        self.with(|parts| parts.what_to_do = Some(text.to_owned()))
    }

    pub(crate) fn source(self, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.with(|parts| parts.source = Some(error.into()))
    }

    /// From a problem document (RFC 9457). Members of another type than documented are left out: they must not hide what
    /// failed.
    pub(crate) fn from_problem(mut members: Map<String, Value>) -> Self {
        let mut text = |name: &str| match members.remove(name) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let code = text("code").map(ErrorCode::from).unwrap_or_else(|| ErrorCode::Other(String::new()));
        let mut parts = Parts {
            title: text("title").unwrap_or_default(),
            detail: text("detail").unwrap_or_else(|| "The request failed.".to_owned()),
            what_to_do: text("what_to_do"),
            request_id: text("request_id"),
            created_id: text("created_id"),
            provider: text("provider").map(ProviderName::from),
            provider_message: text("provider_message"),
            maybe_executed: code == ErrorCode::DeadlineExceeded,
            code,
            status: None,
            audit_index: None,
            retryable: false,
            retry_after: None,
            places: Vec::new(),
            extra: Extra::default(),
            source: None,
        };
        parts.status = members.remove("status").and_then(|status| u16::try_from(status.as_u64()?).ok());
        parts.retryable = members.remove("retryable").is_some_and(|retryable| retryable == Value::Bool(true));
        let places = members.remove("errors").and_then(|places| serde_json::from_value(places).ok());
        parts.places = places.unwrap_or_default();
        drop(members.remove("type"));
        parts.extra = members.into_iter().collect();
        Self(Box::new(parts))
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self::from_problem)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.0;
        write!(f, "{} [{}]", parts.detail, parts.code)?;
        for place in &parts.places {
            write!(f, " {}: expected {}.", place.pointer, place.expected)?;
        }
        if let Some(message) = &parts.provider_message {
            write!(f, " The provider: {message}")?;
        }
        if let Some(what_to_do) = &parts.what_to_do {
            write!(f, " {what_to_do}")?;
        }
        if let Some(id) = &parts.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|error| error as &(dyn StdError + 'static))
    }
}
