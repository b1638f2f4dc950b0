//! Why no usable response came: from the HTTP client's errors, by their causes and not by their words, which could repeat
//! what a stranger sent.

use std::error::Error as StdError;
use std::io;

use reqwest::Url;
use rustls::CertificateError;

use crate::error::Error;
use crate::models::ErrorCode;

/// Host and port of a URL, for errors: the rest has names of keys.
pub(crate) fn host(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

/// What the causes of an error say.
#[derive(Default)]
struct Causes {
    untrusted: Option<String>,
    is_not_tls: bool,
    /// Of the TLS alert that ended the connection.
    alert: Option<String>,
    is_not_http: bool,
    /// The words of the operating system or of the TLS library.
    last: String,
}

impl Causes {
    fn of(error: &(dyn StdError + 'static)) -> Self {
        let mut found = Self::default();
        let mut cause = Some(error);
        while let Some(at) = cause {
            if let Some(error) = at.downcast_ref::<rustls::Error>() {
                found.of_tls(error);
            }
            if let Some(error) = at.downcast_ref::<hyper::Error>() {
                found.is_not_http |= error.is_parse();
                if error.is_incomplete_message() {
                    "it was closed".clone_into(&mut found.last);
                    return found;
                }
            }
            found.last = at.to_string();
            // An I/O error displays the error inside it, but does not return it as its source.
            let inner = at.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            cause = match inner {
                Some(inner) => Some(inner),
                None => at.source(),
            };
        }
        found
    }

    fn of_tls(&mut self, error: &rustls::Error) {
        match error {
            rustls::Error::InvalidCertificate(why) => self.untrusted = Some(distrust(why)),
            rustls::Error::InvalidMessage(_) => self.is_not_tls = true,
            rustls::Error::AlertReceived(alert) => self.alert = Some(format!("{alert:?}")),
            // The enum is rustls' and non-exhaustive.
            _ => {}
        }
    }
}

fn distrust(error: &CertificateError) -> String {
    use CertificateError as Why;
    let known = match error {
        Why::UnknownIssuer | Why::BadSignature => "no trusted authority issued it",
        Why::NotValidForName | Why::NotValidForNameContext { .. } => "it is for another host",
        Why::Expired | Why::ExpiredContext { .. } => "it has expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "it is not valid yet",
        // rustls hands on this cause of webpki's without a type of its own.
        Why::Other(cause) if cause.to_string().contains("CaUsedAsEndEntity") => "it is the certificate of an authority, not of a server",
        // The enum is rustls' and non-exhaustive.
        other => return other.to_string(),
    };
    known.to_owned()
}

/// There is no response at all.
pub(crate) fn before_response(error: reqwest::Error, host: &str) -> Error {
    let is_connect = error.is_connect();
    let is_timeout = error.is_timeout();
    let causes = Causes::of(&error.without_url());
    let reason = match (&causes.alert, is_timeout) {
        (_, true) => "it took too long",
        (Some(alert), _) => alert,
        _ => &causes.last,
    };
    if let Some(why) = causes.untrusted {
        let detail = format!("The certificate of {host} is not trusted: {why}.");
        return Error::new(ErrorCode::CertificateUntrusted, "Certificate not trusted", detail)
            .what_to_do_is("Give the authority that signed it by `ca_file`, and use a name in the address that is in the certificate.");
    }
    if is_connect {
        let is_mistaken = causes.is_not_tls || causes.alert.is_some();
        let reason = if causes.is_not_tls {
            "the server does not speak TLS"
        } else {
            reason
        };
        let made = Error::new(
            ErrorCode::GatewayUnreachable,
            "Gateway unreachable",
            format!("No connection to {host}: {reason}."),
        );
        return match is_mistaken {
            true => made.what_to_do_is("Check that the address has the right scheme (http or https) and port."),
            false => made
                .what_to_do_is("Check the address, and that the gateway runs and can be reached from here.")
                .with(|parts| parts.retryable = true),
        };
    }
    if causes.is_not_http {
        return Error::new(
            ErrorCode::UnexpectedResponse,
            "Unexpected response",
            format!("{host} does not speak HTTP."),
        )
        .what_to_do_is("Check that the address has the right scheme (http or https) and port.")
        .with(|parts| parts.maybe_executed = true);
    }
    let detail = format!("The connection to {host} ended before the response: {reason}.");
    Error::new(ErrorCode::ConnectionLost, "Connection lost", detail)
        .what_to_do_is(
            "Repeat the call if that is safe. If it happens again, check that the gateway runs, that the address has the right scheme \
             (http or https), and what is between.",
        )
        .with(may_be_repeated)
}

/// The response began, and its end is missing.
pub(crate) fn in_response(error: reqwest::Error, host: &str) -> Error {
    let causes = Causes::of(&error.without_url());
    let detail = format!("The response of {host} ended too early: {}.", causes.last);
    Error::new(ErrorCode::ResponseTruncated, "Response truncated", detail)
        .what_to_do_is("Repeat the call. If it happens again, check what is between the client and the gateway.")
        .with(may_be_repeated)
}

pub(crate) fn too_large(host: &str) -> Error {
    let detail = format!("The response of {host} is larger than any of a Claviger gateway.");
    Error::new(ErrorCode::UnexpectedResponse, "Unexpected response", detail)
        .what_to_do_is("Check the address, and what is between the client and the gateway.")
        .with(|parts| parts.maybe_executed = true)
}

/// There is no complete response within the deadline.
pub(crate) fn too_late(host: &str) -> Error {
    let detail = format!("{host} did not answer within the deadline.");
    Error::new(ErrorCode::DeadlineExceeded, "Deadline exceeded", detail)
        .what_to_do_is("Allow more time, or check what the gateway waits for (/readyz, and the log of the gateway).")
        .with(may_be_repeated)
}

/// The time of a call was over before it was sent.
pub(crate) fn timeless() -> Error {
    Error::new(
        ErrorCode::DeadlineExceeded,
        "Deadline exceeded",
        "The deadline passed before the request was sent.",
    )
    .what_to_do_is("Allow more time.")
    .with(|parts| parts.retryable = true)
}

fn may_be_repeated(parts: &mut crate::error::Parts) {
    parts.retryable = true;
    parts.maybe_executed = true;
}
