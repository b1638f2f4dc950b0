//! From a server's answer to the one error. Transit tells most causes by a sentence only:
//! the sentences are listed here, each compared whole, and nowhere else.

use std::time::Duration;

use claviger_provider::egress::SendError;
use claviger_provider::{Error, ErrorKind, ProviderKind, Retry};

/// The longest pause that a server can ask for.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Why a call brought nothing.
pub(crate) enum CallError {
    /// There was no answer.
    Unsent(SendError),
    /// The server refused.
    Refused(Refusal),
    /// The server refused the login.
    NoLogin(Refusal),
    /// The connection's secret is a wrapping token.
    Wrapped,
    /// The answer makes no sense; says which part.
    MalformedResponse(&'static str),
}

/// An answer other than success.
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The server's sentences; `None` where the body is not one of Vault's.
    pub(crate) sentences: Option<Vec<String>>,
    /// How long the server asks us to wait.
    pub(crate) pause: Option<Duration>,
}

/// What a sentence of Transit means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    NoKey,
    NoVersion,
    /// A version that the key's owner has switched off.
    VersionOff,
    SoftDeleted,
    Rejected,
    /// Associated data for a key that binds none.
    BindsNothing,
}

/// The key type that is sent with every encryption. The server looks at it only when it is
/// about to make a missing key, and then refuses: an encryption never makes a key.
pub(crate) const NO_UPSERT: &str = "never-create";

/// Transit's sentences, of OpenBao 2.4 and Vault alike, each compared whole.
const SENTENCES: [(&str, Meaning); 18] = [
    ("unknown key type never-create", Meaning::NoKey),
    ("encryption key not found", Meaning::NoKey),
    ("key not found", Meaning::NoKey),
    (
        "requested version for encryption is higher than the latest key version",
        Meaning::NoVersion,
    ),
    (
        "requested version for encryption is less than the minimum encryption key version",
        Meaning::VersionOff,
    ),
    (
        "ciphertext or signature version is disallowed by policy (too old)",
        Meaning::VersionOff,
    ),
    ("refusing to use soft-deleted key", Meaning::SoftDeleted),
    ("cipher: message authentication failed", Meaning::Rejected),
    ("chacha20poly1305: message authentication failed", Meaning::Rejected),
    (
        "failed to RSA decrypt the ciphertext: crypto/rsa: decryption error",
        Meaning::Rejected,
    ),
    (
        "'[0].associated_data' provided for non-AEAD cipher suite rsa-3072",
        Meaning::BindsNothing,
    ),
    (
        "'[0].associated_data' provided for non-AEAD cipher suite rsa-4096",
        Meaning::BindsNothing,
    ),
    ("invalid ciphertext: no prefix", Meaning::Rejected),
    ("invalid ciphertext: wrong number of fields", Meaning::Rejected),
    ("invalid ciphertext: version number could not be decoded", Meaning::Rejected),
    ("invalid ciphertext: version is too new", Meaning::Rejected),
    ("invalid ciphertext: could not decode base64", Meaning::Rejected),
    ("invalid ciphertext length", Meaning::Rejected),
];

fn meaning(text: &str) -> Option<Meaning> {
    // What goes wrong inside comes as a list of one.
    let text = text.strip_prefix("1 error occurred:\n\t* ").map_or(text, str::trim_end);
    SENTENCES.iter().find(|(known, _)| *known == text).map(|(_, meaning)| *meaning)
}

impl Refusal {
    /// Whether the server itself said no, and would again.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.status, 400 | 401 | 403 | 404 | 405) && self.sentences.is_some()
    }

    fn meaning(&self) -> Option<Meaning> {
        self.sentences.as_ref()?.iter().find_map(|text| meaning(text))
    }

    /// As an adapter's error.
    fn into_error(self, operation: &'static str) -> Error {
        let (status, pause) = (self.status, self.pause);
        let told = self.sentences.as_ref().is_some_and(|sentences| !sentences.is_empty());
        let error = match (self.meaning(), status) {
            (Some(Meaning::NoKey), _) => Error::new(ErrorKind::KeyNotFound, operation),
            (Some(Meaning::NoVersion), _) => Error::new(ErrorKind::KeyNotFound, operation),
            (Some(Meaning::VersionOff), _) => Error::new(ErrorKind::KeyState, operation)
                .advice("The key's min_decryption_version or min_encryption_version excludes this version; its owner can lower it."),
            (Some(Meaning::SoftDeleted), _) => Error::new(ErrorKind::KeyState, operation)
                .advice("The key is soft-deleted; its owner can restore it (keys/NAME/soft-delete-restore)."),
            (Some(Meaning::Rejected), _) => Error::new(ErrorKind::CiphertextRejected, operation),
            (Some(Meaning::BindsNothing), _) => Error::new(ErrorKind::KeyState, operation)
                .advice("The Transit key is of another type than when it was adopted: its owner has replaced it under the same name."),
            (None, 300..=399) => Error::new(ErrorKind::UpstreamProtocol, operation).advice(
                "The server redirects, which is never followed: make a connection whose address is the active node's or a load balancer's.",
            ),
            (None, 403) if self.sentences.is_some() => Error::new(ErrorKind::ProviderDenied, operation).advice(
                "The server refuses this credential the call. Run the connection's check: it names the missing paths and prints a policy.",
            ),
            (None, 404 | 405) if told => Error::new(ErrorKind::Misconfigured, operation).advice(
                "There is no Transit engine at the connection's mount in its namespace: make a connection that names the right ones.",
            ),
            (None, 404) if self.sentences.is_some() => Error::new(ErrorKind::KeyNotFound, operation),
            // An enterprise replica that has not caught up.
            (None, 412) => Error::new(ErrorKind::UpstreamUnavailable, operation).retry(Retry::Backoff),
            (None, 429) => Error::new(ErrorKind::RateLimited, operation)
                .retry(pause.map_or(Retry::Backoff, |pause| Retry::After(pause.min(MAX_PAUSE)))),
            (None, 472 | 473) => Error::new(ErrorKind::UpstreamUnavailable, operation)
                .advice("The server is a standby of a replication pair: make a connection whose address is the primary's."),
            (None, 501) => Error::new(ErrorKind::UpstreamUnavailable, operation).advice("The server is not initialised."),
            (None, 503) => Error::new(ErrorKind::UpstreamUnavailable, operation)
                .retry(Retry::Backoff)
                .advice("The server is sealed, on standby or overloaded."),
            (None, 500..=599) => Error::new(ErrorKind::UpstreamUnavailable, operation).retry(Retry::Backoff),
            (None, _) => Error::new(ErrorKind::UpstreamProtocol, operation),
        };
        let error = error.provider(ProviderKind::Vault).upstream_code(status.to_string());
        match self.sentences.as_deref() {
            Some([first, ..]) => error.source(Sentence::of(first)),
            Some([]) | None => error,
        }
    }
}

/// A server's own words, for the log alone: printable ASCII, cut at 200 characters.
#[derive(Debug, thiserror::Error)]
#[error("the server says: {0}")]
struct Sentence(String);

impl Sentence {
    fn of(text: &str) -> Self {
        let shown = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        Self(text.chars().take(200).map(shown).collect())
    }
}

impl CallError {
    /// Whether the key is one that binds no associated data, and was sent some.
    pub(crate) fn binds_nothing(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.meaning() == Some(Meaning::BindsNothing),
            Self::Unsent(_) | Self::NoLogin(_) | Self::Wrapped | Self::MalformedResponse(_) => false,
        }
    }

    /// Whether the server refused the credential: what a new token may mend.
    pub(crate) fn denied(&self) -> bool {
        match self {
            Self::Refused(refusal) => refusal.status == 403 && refusal.sentences.is_some(),
            Self::Unsent(_) | Self::NoLogin(_) | Self::Wrapped | Self::MalformedResponse(_) => false,
        }
    }

    /// As an adapter's error; `operation` says what was being done.
    pub(crate) fn into_error(self, operation: &'static str) -> Error {
        match self {
            Self::Unsent(error) => error.into_error(operation).provider(ProviderKind::Vault),
            Self::Refused(refusal) => refusal.into_error(operation),
            Self::NoLogin(refusal) => {
                let mut error = refusal.into_error("log in");
                error.kind = ErrorKind::ProviderDenied;
                error.advice(
                    "The server refused the login: the role or its secret is wrong or has expired, is bound to other networks, or the auth \
                     method is mounted elsewhere.",
                )
            }
            Self::Wrapped => fault(ErrorKind::ProviderDenied, "log in").advice(
                "The connection's secret is a wrapping token: unwrap it once (`bao unwrap`) and give the connection what comes out.",
            ),
            Self::MalformedResponse(part) => fault(ErrorKind::UpstreamProtocol, operation).source(MalformedResponse(part)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the response's {0} is malformed")]
struct MalformedResponse(&'static str);

/// An error that no answer of the server's caused.
pub(crate) fn fault(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Vault)
}
