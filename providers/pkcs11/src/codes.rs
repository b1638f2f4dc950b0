//! The return values of PKCS#11 modules and the helper's own codes, and what each means to the gateway.

use claviger_pkcs11_host::messages::code;
use claviger_provider::ErrorKind;
use claviger_provider::kit::meaning::{CodeTable, Meaning};

/// The helper ended before it got the request.
pub(crate) const HELPER_ENDED: &str = "HELPER_ENDED";
/// The token refused this PIN before, and is not asked again.
pub(crate) const PIN_REFUSED_BEFORE: &str = "PIN_REFUSED_BEFORE";

/// The token may have counted logins with this PIN as refused, and is asked again after a pause.
pub(crate) const PIN_UNANSWERED: &str = "PIN_UNANSWERED";

/// The advice for a module that cannot be loaded.
pub(crate) const NO_MODULE: &str =
    "The file that the setting `module` names is no PKCS#11 module, or cannot be loaded: the gateway's log has the loader's reason.";

/// Codes of a generation that made no key. With the others of [`LOST`] the device may have been lost while it made one.
pub(crate) const NOT_BEGUN: [&str; 3] = [HELPER_ENDED, code::LOGGED_OUT, "CKR_USER_NOT_LOGGED_IN"];

/// Codes after which another helper, with another login, can serve the call. The module did nothing then, unless it
/// generated a key.
pub(crate) const LOST: [&str; 12] = [
    HELPER_ENDED,
    code::LOGGED_OUT,
    code::TOKEN_GONE,
    "CKR_USER_NOT_LOGGED_IN",
    "CKR_SESSION_HANDLE_INVALID",
    "CKR_SESSION_CLOSED",
    "CKR_DEVICE_REMOVED",
    "CKR_TOKEN_NOT_PRESENT",
    "CKR_TOKEN_NOT_RECOGNIZED",
    "CKR_SLOT_ID_INVALID",
    "CKR_CRYPTOKI_NOT_INITIALIZED",
    "CKR_OPERATION_ACTIVE",
];

/// Codes of a login whose PIN is not the token's.
pub(crate) const WRONG_PIN: [&str; 3] = ["CKR_PIN_INCORRECT", "CKR_PIN_INVALID", "CKR_PIN_LEN_RANGE"];

/// Codes by which modules say that they lack a mechanism, or take its parameters in no such form.
pub(crate) const NO_MECHANISM: [&str; 4] = [
    "CKR_MECHANISM_INVALID",
    "CKR_MECHANISM_PARAM_INVALID",
    "CKR_ARGUMENTS_BAD",
    "CKR_FUNCTION_NOT_SUPPORTED",
];

const PIN: &str = "The token refused the connection's PIN. It is not tried again, since some wrong PINs lock a token: the operator gives the \
                   connection the right one, in its file, or in the configuration and with `claviger apply`.";

const fn denied(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::ProviderDenied).advice(advice)
}

const fn key_state(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::KeyState).advice(advice)
}

const fn misconfigured(advice: &'static str) -> Meaning {
    Meaning::of(ErrorKind::Misconfigured).advice(advice)
}

const UNAVAILABLE: Meaning = Meaning::of(ErrorKind::UpstreamUnavailable).retryable();

const CODES: CodeTable = CodeTable::new(&[
    (&LOST, UNAVAILABLE),
    (
        &[code::NO_TOKEN],
        UNAVAILABLE.advice(
            "The module shows no token with the connection's label or serial number: it is not connected, or the setting `token` is wrong.",
        ),
    ),
    (
        &[code::SEVERAL_TOKENS],
        misconfigured("Several tokens of the module have this label: name the token by its serial number."),
    ),
    (
        &[code::NO_KEY, "CKR_KEY_HANDLE_INVALID", "CKR_OBJECT_HANDLE_INVALID"],
        Meaning::of(ErrorKind::KeyNotFound),
    ),
    (&[code::KEY_EXISTS], Meaning::of(ErrorKind::Conflict)),
    (
        &[code::SEVERAL_KEYS],
        key_state("Several keys of the token have this CKA_ID: give each one its own (`pkcs11-tool --set-id`)."),
    ),
    (
        &["CKR_KEY_FUNCTION_NOT_PERMITTED"],
        key_state("The key may not encrypt or decrypt: its owner can set CKA_ENCRYPT and CKA_DECRYPT, if the token permits it."),
    ),
    (
        &["CKR_KEY_TYPE_INCONSISTENT", "CKR_KEY_SIZE_RANGE"],
        key_state("The key is of another type than its wrapped keys need: another key has its CKA_ID now."),
    ),
    (
        &["CKR_MECHANISM_INVALID", "CKR_MECHANISM_PARAM_INVALID", "CKR_FUNCTION_NOT_SUPPORTED"],
        Meaning::of(ErrorKind::Unsupported)
            .advice("The token offers neither AES-GCM for AES keys nor RSA-OAEP for RSA keys as the gateway uses them."),
    ),
    (
        &["CKR_ENCRYPTED_DATA_INVALID", "CKR_ENCRYPTED_DATA_LEN_RANGE"],
        Meaning::of(ErrorKind::CiphertextRejected),
    ),
    (&["CKR_DATA_LEN_RANGE", "CKR_DATA_INVALID"], Meaning::REJECTED_VALUE),
    (&WRONG_PIN, denied(PIN)),
    (&[PIN_REFUSED_BEFORE], denied(PIN)),
    (
        &[PIN_UNANSWERED],
        denied(
            "Two logins with the connection's PIN got no answer from the token, or none that is clear. It may have counted them as wrong, and \
             some tokens lock themselves after one more, so the next one is made a day later; a minute later with a PIN that the token took \
             before, unless its flags show a wrong PIN; with another PIN, at once.",
        ),
    ),
    // The token did not look at the PIN, so the login counts as none, and a repetition is no use.
    (
        &["CKR_USER_ALREADY_LOGGED_IN", "CKR_USER_ANOTHER_ALREADY_LOGGED_IN"],
        Meaning::of(ErrorKind::Unsupported).advice(
            "The token was logged in to before the connection's login, so nothing shows that its PIN is right. The module logs in by itself, \
             or has one login for all processes: turn that off in its configuration.",
        ),
    ),
    (
        &["CKR_PIN_LOCKED"],
        denied("The user's PIN of the token is locked: its security officer can set another one (`pkcs11-tool --init-pin`)."),
    ),
    (
        &["CKR_PIN_EXPIRED", "CKR_USER_PIN_NOT_INITIALIZED"],
        denied("The user's PIN of the token has expired, or was never set: set it with the vendor's tool."),
    ),
    (
        &["CKR_TOKEN_WRITE_PROTECTED", "CKR_SESSION_READ_ONLY", "CKR_ATTRIBUTE_READ_ONLY"],
        denied("The token makes no keys for the connection's user: make the key with the vendor's tool, and adopt it."),
    ),
    // The owner's own word, of tokens that ask for consent or have a policy.
    (
        &["CKR_FUNCTION_REJECTED", "CKR_ACTION_PROHIBITED", "CKR_FUNCTION_CANCELED"],
        Meaning::of(ErrorKind::ExternalDenied),
    ),
    (
        &["CKR_SESSION_COUNT", "CKR_HOST_MEMORY", "CKR_DEVICE_MEMORY"],
        UNAVAILABLE.advice("The token has no room for more sessions or objects: lower the connection's setting `sessions`."),
    ),
    (
        &[
            "CKR_TEMPLATE_INCOMPLETE",
            "CKR_TEMPLATE_INCONSISTENT",
            "CKR_ATTRIBUTE_TYPE_INVALID",
            "CKR_ATTRIBUTE_VALUE_INVALID",
        ],
        Meaning::of(ErrorKind::Unsupported)
            .advice("The token does not make keys as the gateway needs them: make the key with the vendor's tool, and adopt it."),
    ),
]);

/// What a code means. Most modules return `CKR_GENERAL_ERROR`, `CKR_FUNCTION_FAILED` and `CKR_DEVICE_ERROR` for
/// whatever has no code of its own.
pub(crate) fn meaning(code: &str) -> Meaning {
    CODES.meaning(code).unwrap_or(UNAVAILABLE)
}

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn no_code_is_repeated() {
        assert_eq!(CODES.repeated(), None);
    }
}
