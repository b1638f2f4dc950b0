//! Why a request got no response: from the HTTP client's errors, by their causes and not by their
//! words, to the one error.

use std::error::Error as StdError;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::dial::{Crowded, Refused};
use crate::error::{Concerns, Error, ErrorKind, Retry};
use crate::sever_switch::Severed;

/// Why there is no response. It names no address and no secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    /// The egress policy permits none of the host's addresses.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The server's certificate is not trusted.
    #[error("the server's certificate is not trusted: {0}")]
    Untrusted(Distrust),
    /// The server wants a client certificate, or another one than it was shown.
    #[error("the server rejects the client certificate, or requires one")]
    ClientCertificateRejected,
    /// The server does not speak TLS on this port.
    #[error("the server does not speak TLS on this port")]
    NotTls,
    /// The server's bytes are no HTTP response.
    #[error("the response is not HTTP")]
    NotHttp,
    /// No complete response in time.
    #[error("no response in time")]
    Timeout,
    /// No connection was opened.
    #[error("no connection ({0})")]
    Unreachable(String),
    /// The connection broke before the response was complete.
    #[error("the connection broke ({0})")]
    Broken(String),
    /// The response is longer than the limit.
    #[error("the response is too long")]
    TooLong,
    /// The request's URL names another scheme, host or port than the destination that the egress
    /// policy approved.
    #[error("the request names another host")]
    WrongHost,
    /// The tenant, or all together, have too many calls under way.
    #[error("too many calls are under way")]
    Crowded,
    /// The tenant, or all together, have too many long responses under way: this one was not read to its end.
    #[error("too many long responses are being read")]
    Unread,
    /// The connection is severed.
    #[error(transparent)]
    Severed(#[from] Severed),
}

/// Why a server's certificate is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// No trusted authority issued it.
    #[error("no trusted authority issued it")]
    Authority,
    /// It was issued for another name.
    #[error("it is for another host")]
    Name,
    /// It is not valid yet, or has expired.
    #[error("it is not valid at this time")]
    Time,
    /// It is an authority's own certificate.
    #[error("it is the certificate of an authority, not of a server")]
    OfAuthority,
    /// It is malformed, revoked, or not a server's.
    #[error("it is malformed, revoked, or not a server's")]
    Unfit,
}

impl Distrust {
    fn of(error: &CertificateError) -> Self {
        use CertificateError as Why;
        match error {
            Why::UnknownIssuer | Why::BadSignature => Self::Authority,
            Why::NotValidForName | Why::NotValidForNameContext { .. } => Self::Name,
            Why::Expired | Why::ExpiredContext { .. } | Why::NotValidYet | Why::NotValidYetContext { .. } => Self::Time,
            // rustls hands on this cause of webpki's without a type of its own.
            Why::Other(cause) if cause.to_string().contains("CaUsedAsEndEntity") => Self::OfAuthority,
            // The enum is rustls' and non-exhaustive.
            _ => Self::Unfit,
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Authority => {
                "The server's certificate is not trusted: add the certificate of its authority (the server's own if it is self-signed) to \
                 the connection's setting `ca`."
            }
            Self::Name => "The server's certificate is for another host: give the connection an address with a name from the certificate.",
            Self::Time => "The server's certificate has expired or is not valid yet: renew it, or set this machine's clock.",
            Self::OfAuthority => {
                "The server presents the certificate of an authority: give the server a certificate with CA:FALSE that this authority issued."
            }
            Self::Unfit => {
                "The server's certificate cannot be used for a server: it must be a version 3 certificate with CA:FALSE and, if it \
                 lists uses, serverAuth among them."
            }
        }
    }
}

impl SendError {
    /// The error kind of a call that failed with it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(_) | Self::Untrusted(_) | Self::ClientCertificateRejected => ErrorKind::Misconfigured,
            Self::Timeout => ErrorKind::UpstreamTimeout,
            Self::NotTls | Self::NotHttp | Self::Unreachable(_) | Self::Broken(_) => ErrorKind::UpstreamUnavailable,
            Self::TooLong | Self::WrongHost => ErrorKind::UpstreamProtocol,
            Self::Crowded | Self::Unread => ErrorKind::Crowded,
            Self::Severed(_) => ErrorKind::Severed,
        }
    }

    /// Whether the server cannot have received the request.
    pub const fn is_unsent(&self) -> bool {
        match self {
            Self::Refused(_)
            | Self::Untrusted(_)
            | Self::ClientCertificateRejected
            | Self::NotTls
            | Self::Unreachable(_)
            | Self::WrongHost
            | Self::Crowded => true,
            Self::NotHttp | Self::Timeout | Self::Broken(_) | Self::TooLong | Self::Unread | Self::Severed(_) => false,
        }
    }

    /// Converts it to the error that an adapter returns. `operation` says what was attempted, for
    /// the log.
    pub fn into_error(self, operation: &'static str) -> Error {
        let error = Error::new(self.kind(), operation);
        let error = match &self {
            Self::Refused(_) => error.advice(
                "The connection's host has an address in a network that this gateway may not reach; the operator allows it in [egress].",
            ),
            Self::Untrusted(why) => error.advice(why.advice()),
            Self::ClientCertificateRejected => error.advice(
                "The server rejects the connection's client certificate, or requires one: log in with a certificate that the server's \
                 authority issued.",
            ),
            Self::NotTls => error.retry(Retry::Backoff).advice(
                "The server does not speak TLS on this port: give the connection an address with the port of its TLS listener, or \
                 with http:// where the operator sets egress.allow_plain_http.",
            ),
            Self::NotHttp => error.retry(Retry::Backoff).advice(
                "What the server sent is not HTTP: if it speaks TLS on this port, give the connection an address that begins with https://.",
            ),
            Self::Crowded | Self::Unread | Self::Timeout | Self::Unreachable(_) | Self::Broken(_) => error.retry(Retry::Backoff),
            Self::TooLong | Self::WrongHost | Self::Severed(_) => error,
        };
        let concerns = match (self.is_unsent() && !matches!(self, Self::Crowded)) || matches!(self, Self::NotHttp) {
            true => Concerns::Connection,
            false => Concerns::Call,
        };
        error.concerns(concerns).source(self)
    }

    /// Converts the HTTP client's error.
    pub fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
        let mut last = String::new();
        while let Some(at) = cause {
            // An I/O error displays the error inside it, but does not return it as its source.
            let inner: Option<&(dyn StdError + 'static)> = match at.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => None,
            };
            for at in [Some(at), inner].into_iter().flatten() {
                if let Some(refused) = at.downcast_ref::<Refused>() {
                    return Self::Refused(*refused);
                }
                if at.is::<Crowded>() {
                    return Self::Crowded;
                }
                if let Some(error) = at.downcast_ref::<rustls::Error>().and_then(Self::of_tls) {
                    return error;
                }
                // A TLS alert in the place of a status line is one.
                let parsed = at.downcast_ref::<hyper::Error>();
                if parsed.is_some_and(|error| error.is_parse() && !error.is_parse_too_large()) {
                    return Self::NotHttp;
                }
            }
            last = at.to_string();
            cause = inner.or_else(|| at.source());
        }
        // The HTTP/2 library hands on the text of a TLS error alone.
        let rejects = |alert: &AlertDescription| rustls::Error::AlertReceived(*alert).to_string() == last;
        if REJECTING.iter().any(rejects) {
            return Self::ClientCertificateRejected;
        }
        // A connection that never opened means that the host is down; a later timeout, that it is slow.
        if error.is_connect() {
            Self::Unreachable(last)
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Broken(last)
        }
    }

    /// What a failure of TLS says about the server or the client certificate, if anything.
    fn of_tls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(why) => Some(Self::Untrusted(Distrust::of(why))),
            rustls::Error::AlertReceived(alert) if REJECTING.contains(alert) => Some(Self::ClientCertificateRejected),
            rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => Some(Self::NotTls),
            // The enum is rustls' and non-exhaustive.
            _ => None,
        }
    }

    /// Converts the error of a connection without HTTP.
    pub fn of_stream(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let known = cause.and_then(Self::of_tls);
        known.unwrap_or_else(|| Self::Broken(error.kind().to_string()))
    }
}

/// The alerts by which a server rejects the client's certificate.
const REJECTING: [AlertDescription; 9] = [
    AlertDescription::CertificateRequired,
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
    AlertDescription::DecryptError,
];
