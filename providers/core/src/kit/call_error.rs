//! Why a call to a provider failed: from the response that an adapter reads to the common [`Error`].

use std::fmt;
use std::sync::Arc;

use super::meaning::Meaning;
use crate::call_trace::CallResult;
use crate::egress::SendError;
use crate::error::{Concerns, Error, ErrorKind, Retry, UpstreamMessage};
use crate::ids::ProviderKind;
use crate::sever_switch::Severed;

/// A refusal in the words of one provider. An adapter implements it over its code tables.
pub trait Refusal: fmt::Debug + Clone + Send + Sync + 'static {
    /// The provider.
    const PROVIDER: ProviderKind;
    /// What the adapter does to get a credential, for the log: `log in`.
    const LOGIN: &'static str;
    /// What to do about a host that cannot be reached, where the adapter knows more than that.
    const UNREACHABLE: Option<&'static str> = None;

    /// The meaning of the refusal: kind of error, retry and advice.
    fn meaning(&self) -> Meaning;

    /// The meaning of the refusal if it is the response to a login.
    fn login_meaning(&self) -> Meaning {
        self.meaning()
    }

    /// The HTTP status of the response, where that is known.
    fn status(&self) -> Option<u16> {
        None
    }

    /// Whether the provider certainly did nothing: a redirect, or an error of the client's.
    fn rules_out_effect(&self) -> bool {
        matches!(self.status(), Some(300..=499))
    }

    /// Whether the credential itself was not accepted, so that no call of the connection can succeed.
    fn is_of_credential(&self) -> bool {
        self.status() == Some(401)
    }

    /// Whether the provider may have counted a login as refused that it answered with this, though the answer does not
    /// say so: that of a gateway before the provider (RFC 9110, sections 15.6.3 and 15.6.5).
    fn may_be_counted(&self) -> bool {
        matches!(self.status(), Some(502 | 504))
    }

    /// The provider's own code, or the HTTP status where it gave none; `None` where there was no
    /// such response.
    fn code(&self) -> Option<String>;

    /// The provider's own message, for the log and for the owner of the connection. One that may repeat
    /// what was sent goes through [`super::scrub::scrubbed`].
    fn message(&self) -> Option<String>;
}

/// What to do where logins got no response, or none that is clear.
const UNANSWERED: &str = "The provider did not answer the connection's logins, or not clearly. It may have counted them as refused, and \
                          locks an identity after a few more, so the next one is made after a pause. Find out why the provider does not \
                          answer; the login is tried at once with another secret.";

/// Why a call failed. A login's is shared by all calls that wait for it, so it can be cloned.
#[derive(Debug, Clone)]
pub enum CallError<R> {
    /// The provider refused it.
    Refused(R),
    /// There was no credential to send: getting one failed.
    NoCredential {
        /// Why.
        why: Arc<CallError<R>>,
        /// Whether the provider was not asked again: it refused an earlier login.
        repeated: bool,
    },
    /// The place that credentials come from has none: no such profile, file or role.
    NoSource {
        /// What the operator or the tenant can do.
        advice: &'static str,
        /// The cause, for the log.
        cause: String,
    },
    /// The gateway's own HTTP client got no response.
    Unsent(SendError),
    /// A vendor's client got no response in time.
    Timeout,
    /// A vendor's client got a connection that broke. Where it got none, that is
    /// [`CallError::Unsent`] with [`SendError::Unreachable`].
    Unreachable(String),
    /// A part of the response that is missing or cannot be read.
    MalformedResponse(&'static str),
    /// The request could not be built: a fault of the gateway's.
    Unbuilt(String),
}

/// A part of a provider's response that is missing or cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the response's {0} is missing or malformed")]
pub struct MalformedResponse(pub &'static str);

impl<R> From<SendError> for CallError<R> {
    fn from(error: SendError) -> Self {
        Self::Unsent(error)
    }
}

impl<R> From<Severed> for CallError<R> {
    fn from(severed: Severed) -> Self {
        Self::Unsent(severed.into())
    }
}

impl<R: Refusal> CallError<R> {
    /// This error as the reason why there is no credential.
    #[must_use]
    pub fn in_login(self) -> Self {
        Self::NoCredential {
            why: Arc::new(self),
            repeated: false,
        }
    }

    /// This error of a login for a call that came later and makes no login of its own.
    #[must_use]
    pub fn repeated(self) -> Self {
        match self {
            Self::NoCredential { why, .. } => Self::NoCredential { why, repeated: true },
            other => other,
        }
    }

    /// Whether the provider refused a login and would refuse it again. A provider that is sealed, on standby,
    /// busy or away does not, nor does a page of something in between.
    pub fn is_refused_login(&self) -> bool {
        let Self::NoCredential { why, .. } = self else { return false };
        let Self::Refused(refusal) = &**why else { return false };
        let meaning = of_login(refusal);
        meaning.retry == Retry::Never && matches!(meaning.kind, ErrorKind::ProviderDenied | ErrorKind::Misconfigured)
    }

    /// Whether the provider may have processed the login, and counted it as refused, though no response says so: it was
    /// sent, and got none, half of one, or one that is unclear ([`Refusal::may_be_counted`]).
    pub fn may_have_been_processed(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.may_be_counted(),
            Self::NoCredential { why, .. } => why.may_have_been_processed(),
            Self::Unsent(error) => !error.is_unsent(),
            Self::Timeout | Self::Unreachable(_) => true,
            Self::NoSource { .. } | Self::MalformedResponse(_) | Self::Unbuilt(_) => false,
        }
    }

    /// The refusal of the call itself, not of a login before it.
    pub const fn refusal(&self) -> Option<&R> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::NoCredential { .. }
            | Self::NoSource { .. }
            | Self::Unsent(_)
            | Self::Timeout
            | Self::Unreachable(_)
            | Self::MalformedResponse(_)
            | Self::Unbuilt(_) => None,
        }
    }

    /// The result of the call, for its trace.
    pub fn result(&self) -> CallResult {
        let kind = self.kind();
        match self {
            Self::NoCredential { .. } | Self::NoSource { .. } | Self::Unbuilt(_) => CallResult::WithoutEffect(kind),
            Self::Unsent(error) if error.is_unsent() => CallResult::WithoutEffect(kind),
            Self::Refused(refusal) if refusal.rules_out_effect() => CallResult::WithoutEffect(kind),
            Self::Refused(_) | Self::Unsent(_) | Self::Timeout | Self::Unreachable(_) | Self::MalformedResponse(_) => {
                CallResult::Error(kind)
            }
        }
    }

    /// The error kind of an operation that failed with it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.meaning().kind,
            Self::NoCredential { why, .. } => match &**why {
                Self::Refused(refusal) => of_login(refusal).kind,
                other => other.kind(),
            },
            Self::NoSource { .. } => ErrorKind::Misconfigured,
            Self::Unsent(error) => error.kind(),
            Self::Timeout => ErrorKind::UpstreamTimeout,
            Self::Unreachable(_) => ErrorKind::UpstreamUnavailable,
            Self::MalformedResponse(_) => ErrorKind::UpstreamProtocol,
            Self::Unbuilt(_) => ErrorKind::Internal,
        }
    }

    /// Converts a refused decryption whose cause is the ciphertext, its key or its context. The log has
    /// the provider's own reason; callers get the one answer for all of them.
    pub fn into_rejection(self, operation: &'static str) -> Error {
        Error {
            kind: ErrorKind::CiphertextRejected,
            retry: Retry::Never,
            advice: None,
            ..self.into_error(operation)
        }
    }

    /// Converts it to the error that an adapter returns. `operation` says what was attempted, for
    /// the log.
    pub fn into_error(self, operation: &'static str) -> Error {
        let error = Error::new(self.kind(), operation).provider(R::PROVIDER);
        match self {
            Self::Refused(refusal) => {
                let error = refused(&refusal, refusal.meaning(), operation);
                if refusal.is_of_credential() {
                    error.concerns(Concerns::Connection)
                } else {
                    error
                }
            }
            Self::NoCredential { why, repeated } => {
                let error = match Arc::unwrap_or_clone(why) {
                    Self::Refused(refusal) => refused(&refusal, of_login(&refusal), R::LOGIN),
                    // The advice is about the key service's host, and a login may be another's.
                    Self::Unsent(why @ SendError::Unreachable(_)) => why.into_error(R::LOGIN).provider(R::PROVIDER),
                    other => other.into_error(R::LOGIN),
                }
                .concerns(Concerns::Connection);
                match repeated {
                    // A login that counts as refused without a response.
                    true if error.retry != Retry::Never => error.retry(Retry::Never).advice(UNANSWERED).repeated(),
                    true => error.repeated(),
                    false => error,
                }
            }
            Self::NoSource { advice, cause } => error.advice(advice).source(UpstreamMessage(cause)),
            Self::Unsent(why) => {
                let advice = R::UNREACHABLE.filter(|_| matches!(why, SendError::Unreachable(_)));
                let error = why.into_error(operation).provider(R::PROVIDER);
                match advice {
                    Some(advice) => error.advice(advice),
                    None => error,
                }
            }
            Self::Timeout => error.retry(Retry::Backoff),
            Self::Unreachable(why) => error.retry(Retry::Backoff).source(UpstreamMessage(why)),
            Self::MalformedResponse(part) => error.source(MalformedResponse(part)),
            Self::Unbuilt(why) => error.source(UpstreamMessage(why)),
        }
    }
}

/// The meaning of a refused login. Its request has no value of the caller's: what the provider rejects
/// in it comes from the connection's settings, and what it does not find is a role, an account or a directory.
fn of_login<R: Refusal>(refusal: &R) -> Meaning {
    let mut meaning = refusal.login_meaning();
    meaning.kind = match meaning.kind {
        ErrorKind::InvalidInput | ErrorKind::TooLarge | ErrorKind::Misconfigured => ErrorKind::Misconfigured,
        ErrorKind::KeyNotFound
        | ErrorKind::Conflict
        | ErrorKind::KeyState
        | ErrorKind::CiphertextRejected
        | ErrorKind::ProviderDenied
        | ErrorKind::ExternalDenied => ErrorKind::ProviderDenied,
        ErrorKind::RateLimited
        | ErrorKind::Crowded
        | ErrorKind::UpstreamUnavailable
        | ErrorKind::CircuitOpen
        | ErrorKind::Severed
        | ErrorKind::UpstreamProtocol
        | ErrorKind::UpstreamTimeout
        | ErrorKind::Unsupported
        | ErrorKind::Internal => meaning.kind,
    };
    meaning
}

fn refused<R: Refusal>(refusal: &R, meaning: Meaning, operation: &'static str) -> Error {
    let error = meaning.into_error(R::PROVIDER, operation);
    let error = match refusal.code() {
        Some(code) => error.upstream_code(code),
        None => error,
    };
    match refusal.message() {
        Some(message) => error.message(message),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::{CallError, Refusal};
    use crate::egress::SendError;
    use crate::kit::meaning::Meaning;
    use crate::{ErrorKind, ProviderKind, Retry};

    #[derive(Debug, Clone)]
    struct Denied;

    impl Refusal for Denied {
        const PROVIDER: ProviderKind = ProviderKind::Aws;
        const LOGIN: &'static str = "assume the role";
        const UNREACHABLE: Option<&'static str> = Some("Compare the address.");

        fn meaning(&self) -> Meaning {
            Meaning::of(ErrorKind::ProviderDenied)
        }

        fn login_meaning(&self) -> Meaning {
            self.meaning().advice("Let it assume the role.")
        }

        fn code(&self) -> Option<String> {
            Some("AccessDenied".to_owned())
        }

        fn message(&self) -> Option<String> {
            Some("not\nauthorized".to_owned())
        }
    }

    #[test]
    fn a_refusal_names_provider_code_and_message() {
        let error = CallError::Refused(Denied).into_error("decrypt");
        assert_eq!(
            error.to_string(),
            "ProviderDenied: decrypt [aws] [code AccessDenied]: not authorized"
        );
        assert_eq!(error.advice, None);
    }

    #[test]
    fn a_code_is_one_line_of_printable_ascii() {
        let error = crate::Error::new(ErrorKind::ProviderDenied, "decrypt").upstream_code("No\nINFO all is well\u{1b}[31m\u{e4}");
        assert_eq!(error.upstream_code.as_deref(), Some("No INFO all is well?[31m?"));
        let long = crate::Error::new(ErrorKind::ProviderDenied, "decrypt").upstream_code("\u{e4}".repeat(200));
        assert_eq!(long.upstream_code.as_deref(), Some("?".repeat(128).as_str()));
    }

    #[test]
    fn a_refused_login_says_so() {
        let failed = CallError::Refused(Denied).in_login();
        assert!(failed.refusal().is_none() && failed.is_refused_login());
        assert!(!CallError::Refused(Denied).is_refused_login() && !CallError::<Denied>::Timeout.in_login().is_refused_login());
        assert!(failed.clone().repeated().into_error("decrypt").repeated);
        let error = failed.into_error("decrypt");
        assert_eq!(
            (error.context.as_str(), error.advice),
            ("assume the role", Some("Let it assume the role."))
        );
    }

    #[test]
    fn what_was_not_answered_is_tried_again() {
        for failed in [
            CallError::<Denied>::Timeout,
            CallError::Unreachable("reset".to_owned()),
            CallError::Unsent(SendError::Timeout),
        ] {
            let kind = failed.kind();
            let error = failed.into_error("decrypt");
            assert_eq!((error.kind, error.retry, error.advice), (kind, Retry::Backoff, None));
        }
        let error = CallError::<Denied>::Unsent(SendError::Unreachable("refused".to_owned())).into_error("decrypt");
        assert_eq!(error.advice, Some("Compare the address."));
        let login = CallError::<Denied>::Unsent(SendError::Unreachable("refused".to_owned())).in_login();
        assert_eq!(login.into_error("decrypt").advice, None);
    }
}
