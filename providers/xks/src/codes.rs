//! The error names of the specification (section "Errors"), and what each means to the gateway. No other file
//! knows the names.

use std::time::Duration;

use claviger_provider::ErrorKind;
use claviger_provider::kit::meaning::{CodeTable, Meaning};

/// The proxy does not accept the signature.
pub(crate) const UNAUTHENTICATED: &str = "AuthenticationFailedException";

/// What a refused signature means if the clocks differ by more than five minutes.
pub(crate) const SKEWED: Meaning = Meaning::of(ErrorKind::Misconfigured).advice(
    "The proxy rejects the signature because its clock and this machine's differ by more than five minutes: set the one that is wrong \
     (NTP). The access key may be right.",
);

/// Every name.
const NAMES: CodeTable = CodeTable::new(&[
    (&["ValidationException"], Meaning::REJECTED_VALUE),
    (
        &["InvalidStateException"],
        Meaning::of(ErrorKind::KeyState)
            .advice("The state of the external key forbids the call: its owner can enable it in the key manager."),
    ),
    (&["InvalidCiphertextException"], Meaning::of(ErrorKind::CiphertextRejected)),
    (
        &["InvalidKeyUsageException"],
        Meaning::of(ErrorKind::KeyState).advice(
            "The external key may not be used for the call: its owner must permit ENCRYPT and DECRYPT in the key manager. To verify each \
             encryption the proxy decrypts, so even a wrap needs both.",
        ),
    ),
    (
        &[UNAUTHENTICATED],
        Meaning::of(ErrorKind::ProviderDenied).advice(
            "The proxy rejects the signature: the access key id is not known there, its secret is another one, the connection's `region` is \
             not the proxy's, or a clock is wrong.",
        ),
    ),
    (
        &["AccessDeniedException"],
        Meaning::of(ErrorKind::ExternalDenied)
            .advice("The key manager denies the call. Run the connection's check: it prints what the key's owner has to permit."),
    ),
    (&["KeyNotFoundException"], Meaning::of(ErrorKind::KeyNotFound)),
    (
        &["InvalidUriPathException"],
        Meaning::of(ErrorKind::Misconfigured)
            .advice("The proxy has no API at the connection's address: compare the path before /kms/xks/v1 with the proxy's URI path."),
    ),
    (&["ThrottlingException"], Meaning::of_status(429)),
    (&["InternalException"], Meaning::of_status(500)),
    (
        &["UnsupportedOperationException"],
        Meaning::of(ErrorKind::Unsupported)
            .advice("The proxy or its key manager does not support the call: AES-GCM with associated data, and SHA_256 integrity values."),
    ),
    (
        &["DependencyTimeoutException"],
        Meaning::of(ErrorKind::UpstreamTimeout)
            .retryable()
            .advice("The key manager did not answer the proxy in time."),
    ),
]);

/// Whether it is a name of the specification.
pub(crate) fn is_known(name: &str) -> bool {
    NAMES.meaning(name).is_some()
}

/// What a refusal means. `name` is the error name in its body, if it has one; `pause` the one that the proxy asks for.
pub(crate) fn meaning(status: u16, name: Option<&str>, pause: Option<Duration>) -> Meaning {
    let known = name.and_then(|name| NAMES.meaning(name));
    known.unwrap_or_else(|| of_status(status)).after(pause)
}

/// For a response without a name that is known: that of a load balancer or a firewall, say.
const fn of_status(status: u16) -> Meaning {
    match status {
        300..=399 => Meaning::of(ErrorKind::UpstreamProtocol)
            .advice("The proxy redirects, which the gateway never follows: give the connection the address of the proxy itself."),
        // Whoever denies it, its repetition is denied as well, and nothing is out of order.
        403 => Meaning::of(ErrorKind::ExternalDenied).advice(
            "The proxy, or something in between such as a firewall, denies the call and names none of the API's reasons: ask the key's owner.",
        ),
        400..=499 if status != 429 => Meaning::of(ErrorKind::UpstreamProtocol)
            .advice("What answers at the connection's address is no XKS proxy, or something in between refuses the call."),
        _ => Meaning::of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::NAMES;

    #[test]
    fn a_name_has_one_meaning() {
        assert_eq!(NAMES.repeated(), None);
    }
}
