//! The enumeration Result Reason (KMIP 2.0, section 11.46), and what each means to the gateway.

use claviger_provider::ErrorKind;
use claviger_provider::kit::meaning::Meaning;

pub(crate) const INVALID_MESSAGE: u32 = 0x04;
pub(crate) const OPERATION_NOT_SUPPORTED: u32 = 0x05;
pub(crate) const INVALID_FIELD: u32 = 0x07;
pub(crate) const CRYPTOGRAPHIC_FAILURE: u32 = 0x0A;
pub(crate) const ILLEGAL_OPERATION: u32 = 0x0B;
pub(crate) const PERMISSION_DENIED: u32 = 0x0C;
pub(crate) const GENERAL_FAILURE: u32 = 0x100;
pub(crate) const UNSUPPORTED_PROTOCOL_VERSION: u32 = 0x3F;
pub(crate) const AUTHENTICATION_NOT_SUCCESSFUL: u32 = 0x03;

const NOT_ACTIVE: &str = "The key is not active at the key manager: its owner activates it there, or adopts another one. A key that was \
                          deactivated or compromised cannot be activated again.";
const LOGIN: &str = "The key manager does not accept the connection's client certificate: it is unknown there, has expired, or lacks the \
                     extended key usage clientAuth.";
const DENIED: &str = "The key manager permits the connection's client the operation no more, or not on this key: its administrator permits that \
                      client Get Attributes, Encrypt and Decrypt on the key, and for keys that the gateway makes Create, Activate and \
                      Locate. The key manager's own log names the rule.";
const ATTESTATION: &str = "The key manager demands an attestation of its clients, which the gateway does not make: its administrator exempts \
                           the connection's client from it.";
const USAGE: &str = "The key's Cryptographic Usage Mask at the key manager must have the bits Encrypt and Decrypt.";
const PARAMETERS: &str = "The key manager does not offer AES-GCM with associated data and a 16-byte tag, or makes its own initialization \
                          vectors: try the setting `server_iv`.";

/// A reason with its name and meaning.
pub(crate) struct Reason {
    pub(crate) code: u32,
    pub(crate) name: &'static str,
    pub(crate) meaning: Meaning,
}

const fn reason(code: u32, name: &'static str, meaning: Meaning) -> Reason {
    Reason { code, name, meaning }
}

const fn of(kind: ErrorKind) -> Meaning {
    Meaning::of(kind)
}

/// The reasons that have a meaning of their own. Any other one says that the request was wrong.
pub(crate) const REASONS: [Reason; 36] = [
    reason(0x01, "Item Not Found", of(ErrorKind::KeyNotFound)),
    reason(0x02, "Response Too Large", of(ErrorKind::UpstreamProtocol)),
    reason(
        AUTHENTICATION_NOT_SUCCESSFUL,
        "Authentication Not Successful",
        of(ErrorKind::ProviderDenied).advice(LOGIN),
    ),
    reason(INVALID_MESSAGE, "Invalid Message", of(ErrorKind::UpstreamProtocol)),
    reason(OPERATION_NOT_SUPPORTED, "Operation Not Supported", of(ErrorKind::Unsupported)),
    reason(0x06, "Missing Data", of(ErrorKind::InvalidInput)),
    reason(INVALID_FIELD, "Invalid Field", of(ErrorKind::InvalidInput)),
    reason(0x08, "Feature Not Supported", of(ErrorKind::Unsupported)),
    reason(CRYPTOGRAPHIC_FAILURE, "Cryptographic Failure", of(ErrorKind::UpstreamUnavailable)),
    reason(ILLEGAL_OPERATION, "Illegal Operation", of(ErrorKind::InvalidInput)),
    reason(PERMISSION_DENIED, "Permission Denied", of(ErrorKind::ExternalDenied).advice(DENIED)),
    reason(
        0x0D,
        "Object Archived",
        of(ErrorKind::KeyState).advice("The key is archived at the key manager: its owner recovers it there."),
    ),
    reason(0x13, "Key Value Not Present", of(ErrorKind::KeyState)),
    reason(0x14, "Attestation Required", of(ErrorKind::ExternalDenied).advice(ATTESTATION)),
    reason(0x15, "Attestation Failed", of(ErrorKind::ExternalDenied).advice(ATTESTATION)),
    reason(0x18, "Object Already Exists", of(ErrorKind::Conflict)),
    reason(GENERAL_FAILURE, "General Failure", of(ErrorKind::UpstreamUnavailable)),
    reason(
        0x1A,
        "Usage Limit Exceeded",
        of(ErrorKind::ExternalDenied).advice("The key's usage limit at the key manager is used up: its owner raises it there."),
    ),
    reason(0x24, "Bad Cryptographic Parameters", of(ErrorKind::InvalidInput).advice(PARAMETERS)),
    reason(0x25, "Bad Password", of(ErrorKind::ProviderDenied).advice(LOGIN)),
    reason(
        0x28,
        "Illegal Object Type",
        of(ErrorKind::KeyState).advice("The object at the key manager is not a symmetric key."),
    ),
    reason(0x29, "Incompatible Cryptographic Usage Mask", of(ErrorKind::KeyState).advice(USAGE)),
    reason(0x2A, "Internal Server Error", of(ErrorKind::UpstreamUnavailable).retryable()),
    reason(
        0x34,
        "Missing Initialization Vector",
        of(ErrorKind::InvalidInput).advice(PARAMETERS),
    ),
    reason(0x35, "Non Unique Name Attribute", of(ErrorKind::Conflict)),
    reason(
        0x36,
        "Object Destroyed",
        of(ErrorKind::KeyState).advice("The key was destroyed at the key manager. That cannot be undone."),
    ),
    reason(0x37, "Object Not Found", of(ErrorKind::KeyNotFound)),
    reason(0x39, "Not Authorised", of(ErrorKind::ExternalDenied).advice(DENIED)),
    reason(0x3A, "Server Limit Exceeded", of(ErrorKind::RateLimited).retryable()),
    reason(
        0x3E,
        "Unsupported Cryptographic Parameters",
        of(ErrorKind::Unsupported).advice(PARAMETERS),
    ),
    reason(
        UNSUPPORTED_PROTOCOL_VERSION,
        "Unsupported Protocol Version",
        of(ErrorKind::UpstreamProtocol),
    ),
    reason(0x43, "Wrong Key Lifecycle State", of(ErrorKind::KeyState).advice(NOT_ACTIVE)),
    reason(
        0x44,
        "Protection Storage Unavailable",
        of(ErrorKind::UpstreamUnavailable).retryable(),
    ),
    reason(0x1F, "Unsupported Attribute", of(ErrorKind::InvalidInput)),
    reason(0x2C, "Invalid Attribute", of(ErrorKind::InvalidInput)),
    reason(0x2D, "Invalid Attribute Value", of(ErrorKind::InvalidInput)),
];

/// The row of a reason, if it has a meaning of its own.
pub(crate) fn known(code: u32) -> Option<&'static Reason> {
    REASONS.iter().find(|reason| reason.code == code)
}

/// Whether a refusal for this reason certainly changed nothing: not a failure inside the server, which may come after
/// its work.
pub(crate) fn rules_out_effect(code: u32) -> bool {
    match known(code) {
        Some(reason) => reason.meaning.kind != ErrorKind::UpstreamUnavailable && code != 0x02,
        None => code != 0,
    }
}

/// The error of a key in another state than active.
pub(crate) const fn not_active() -> Meaning {
    of(ErrorKind::KeyState).advice(NOT_ACTIVE)
}

/// The advice about a key's usage mask.
pub(crate) const fn usage_advice() -> &'static str {
    USAGE
}

#[cfg(test)]
mod tests {
    use claviger_provider::ErrorKind;

    use super::REASONS;

    #[test]
    fn a_denial_says_what_to_do() {
        for reason in REASONS.iter().filter(|reason| reason.meaning.kind == ErrorKind::ExternalDenied) {
            assert!(reason.meaning.advice.is_some(), "{}", reason.name);
        }
    }

    #[test]
    fn a_reason_has_one_meaning() {
        for (at, reason) in REASONS.iter().enumerate() {
            assert!(!REASONS[..at].iter().any(|other| other.code == reason.code), "{}", reason.name);
        }
    }
}
