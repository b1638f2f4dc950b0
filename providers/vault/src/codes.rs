//! The error sentences and statuses of Vault and OpenBao, and what each means to the gateway.
//! Transit names most causes by a sentence only; no other file knows the sentences.

use std::time::Duration;

use claviger_provider::ErrorKind;
use claviger_provider::kit::meaning::{CodeTable, Meaning};

/// The key type in every encryption request. The server reads it only when it is about to create a
/// missing key, and then refuses: an encryption never creates a key.
pub(crate) const NO_UPSERT: &str = "never-create";

/// The sentences about associated data for a key type that binds none.
pub(crate) const BINDS_NO_CONTEXT: [&str; 2] = [
    "'[0].associated_data' provided for non-AEAD cipher suite rsa-3072",
    "'[0].associated_data' provided for non-AEAD cipher suite rsa-4096",
];

/// What happened to a key that is of another type than when it was adopted.
pub(crate) const REPLACED: &str = "The Transit key has another type than when it was adopted: its owner replaced it under the same name.";

/// What to do about a key in soft-deleted state.
pub(crate) const SOFT_DELETED: &str = "The Transit key is soft-deleted; its owner can restore it (keys/NAME/soft-delete-restore).";

/// The sentences of Transit in OpenBao 2.4 and Vault, each compared as a whole.
const SENTENCES: CodeTable = CodeTable::new(&[
    (
        &["unknown key type never-create", "encryption key not found", "key not found"],
        Meaning::of(ErrorKind::KeyNotFound),
    ),
    (
        &["requested version for encryption is higher than the latest key version"],
        Meaning::of(ErrorKind::KeyNotFound),
    ),
    (
        &[
            "requested version for encryption is less than the minimum encryption key version",
            "ciphertext or signature version is disallowed by policy (too old)",
        ],
        Meaning::of(ErrorKind::KeyState)
            .advice("The key's min_decryption_version or min_encryption_version excludes this version; its owner can lower it."),
    ),
    (
        &["refusing to use soft-deleted key"],
        Meaning::of(ErrorKind::KeyState).advice(SOFT_DELETED),
    ),
    (&BINDS_NO_CONTEXT, Meaning::of(ErrorKind::KeyState).advice(REPLACED)),
    (
        &[
            "cipher: message authentication failed",
            "chacha20poly1305: message authentication failed",
            "failed to RSA decrypt the ciphertext: crypto/rsa: decryption error",
            "invalid ciphertext: no prefix",
            "invalid ciphertext: wrong number of fields",
            "invalid ciphertext: version number could not be decoded",
            "invalid ciphertext: version is too new",
            "invalid ciphertext: could not decode base64",
            "invalid ciphertext length",
        ],
        Meaning::of(ErrorKind::CiphertextRejected),
    ),
]);

/// The sentence of an error as the tables have it: the server sends internal errors as a list of one.
pub(crate) fn plain(sentence: &str) -> &str {
    sentence.strip_prefix("1 error occurred:\n\t* ").map_or(sentence, str::trim_end)
}

/// What a refusal means. `sentences` are those of the body, `None` where the body is not one of
/// Vault's; `pause` is the one that the server asks for.
pub(crate) fn meaning(status: u16, sentences: Option<&[String]>, pause: Option<Duration>) -> Meaning {
    let known = sentences
        .unwrap_or_default()
        .iter()
        .find_map(|sentence| SENTENCES.meaning(plain(sentence)));
    known.unwrap_or_else(|| of_status(status, sentences, pause))
}

fn of_status(status: u16, sentences: Option<&[String]>, pause: Option<Duration>) -> Meaning {
    let explained = sentences.is_some_and(|sentences| !sentences.is_empty());
    match status {
        400 if explained => Meaning::REJECTED_VALUE,
        300..=399 => Meaning::of(ErrorKind::UpstreamProtocol).advice(
            "The server redirects, which the gateway never follows: give the connection the address of the active node or of a load balancer \
             (`claviger connections update --settings`).",
        ),
        403 if sentences.is_some() => Meaning::of(ErrorKind::ProviderDenied).advice(
            "The server denies this credential the call. Run the connection's check: it names the missing paths and prints a policy.",
        ),
        404 | 405 if explained => Meaning::of(ErrorKind::Misconfigured).advice(
            "There is no Transit engine at the connection's mount in its namespace: make a connection with the right namespace and mount.",
        ),
        404 if sentences.is_some() => Meaning::of(ErrorKind::KeyNotFound),
        // An enterprise replica that lags behind.
        412 => Meaning::of(ErrorKind::UpstreamUnavailable).retryable(),
        429 => Meaning::of_status(status).after(pause),
        472 | 473 => Meaning::of(ErrorKind::UpstreamUnavailable)
            .advice("The server is a standby of a replication pair: give the connection the primary's address."),
        501 => Meaning::of(ErrorKind::UpstreamUnavailable).advice("The server is not initialised."),
        503 => Meaning::of_status(status).advice("The server is sealed, on standby or overloaded."),
        _ => Meaning::of_status(status),
    }
}

#[cfg(test)]
mod tests {
    use super::SENTENCES;

    #[test]
    fn a_sentence_has_one_meaning() {
        assert_eq!(SENTENCES.repeated(), None);
    }
}
