//! The differences between the emulators and AWS, and the one case in which AWS differs from the
//! battery. A listed case that passes is a failure, so that this list stays true.

use crate::server::Server;

/// A case with a known different outcome.
pub struct Difference {
    pub servers: &'static [Server],
    /// Key specifications, or the module of the case.
    pub groups: &'static [&'static str],
    pub case: &'static str,
    /// Words of the failure, to tell it from other failures.
    pub says: &'static str,
    pub reason: &'static str,
}

const MOTO: &[Server] = &[Server::Moto];
const LOCALSTACK: &[Server] = &[Server::LocalStack];
const AES: &[&str] = &["aes-256"];
const MADE_TWICE: &str = "as AWS: CreateKey takes neither a name nor an idempotency token, so a second call creates a second key; the gateway \
                          gives each key its own id";
const RSA: &[&str] = &["rsa-3072", "rsa-4096"];

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        servers: &Server::ALL,
        groups: AES,
        case: "the_same_key_is_not_made_twice",
        says: "the second: succeeded",
        reason: MADE_TWICE,
    },
    Difference {
        servers: LOCALSTACK,
        groups: &["rsa-3072"],
        case: "the_same_key_is_not_made_twice",
        says: "the second: succeeded",
        reason: MADE_TWICE,
    },
    Difference {
        servers: MOTO,
        groups: &["owner"],
        case: "a_replica_opens_what_the_primary_wrapped",
        says: "AccessDeniedException",
        reason: "moto's multi-region keys have ids of 40 characters instead of 36, of which its ciphertexts contain 36: it cannot decrypt them itself",
    },
    Difference {
        servers: MOTO,
        groups: AES,
        case: "another_key_does_not_open",
        says: "AccessDeniedException",
        reason: "moto responds AccessDeniedException where AWS responds IncorrectKeyException",
    },
    Difference {
        servers: MOTO,
        groups: AES,
        case: "a_flipped_bit_is_rejected_everywhere",
        says: "AccessDeniedException",
        reason: "moto's ciphertext begins with the key's id in clear; another id there is denied, where AWS responds InvalidCiphertextException",
    },
    Difference {
        servers: MOTO,
        groups: AES,
        case: "rewrapped_keys_open",
        says: "rewrap of a flipped bit: ProviderDenied",
        reason: "moto's ciphertext begins with the key's id in clear; another id there is denied, where AWS responds InvalidCiphertextException",
    },
    Difference {
        servers: MOTO,
        groups: AES,
        case: "a_disabled_key_does_nothing_until_enabled",
        says: "DisableKey [aws] [code 500]",
        reason: "moto's DisableKey accepts a key id, but no ARN",
    },
    Difference {
        servers: MOTO,
        groups: RSA,
        case: "every_length_comes_back",
        says: "the response's key is missing or malformed",
        reason: "moto's GetPublicKey returns the key's id instead of its ARN, and it does not really encrypt with RSA: no other case runs on its RSA keys",
    },
    Difference {
        servers: LOCALSTACK,
        groups: AES,
        case: "generated_keys_open_and_differ",
        says: "data key's length is missing or malformed",
        reason: "LocalStack ignores NumberOfBytes: data keys have 32 bytes",
    },
    Difference {
        servers: LOCALSTACK,
        groups: AES,
        case: "rotation_keeps_what_was_wrapped_before",
        says: "ListKeyRotations",
        reason: "LocalStack has no ListKeyRotations, without which the gateway rotates nothing",
    },
    Difference {
        servers: LOCALSTACK,
        groups: AES,
        case: "a_wrap_that_names_no_version_uses_the_current_one",
        says: "ListKeyRotations",
        reason: "LocalStack has no ListKeyRotations, without which the gateway rotates nothing",
    },
    Difference {
        servers: LOCALSTACK,
        groups: AES,
        case: "rotations_at_once_lose_nothing",
        says: "ListKeyRotations",
        reason: "LocalStack has no ListKeyRotations, without which the gateway rotates nothing",
    },
    Difference {
        servers: LOCALSTACK,
        groups: &["rsa-3072"],
        case: "another_key_does_not_open",
        says: "Decryption failed",
        reason: "LocalStack responds 500 where AWS responds InvalidCiphertextException",
    },
    Difference {
        servers: LOCALSTACK,
        groups: &["rsa-3072"],
        case: "a_flipped_bit_is_rejected_everywhere",
        says: "Decryption failed",
        reason: "LocalStack responds 500 where AWS responds InvalidCiphertextException",
    },
    Difference {
        servers: LOCALSTACK,
        groups: &["rsa-3072"],
        case: "a_cut_or_longer_ciphertext_is_rejected",
        says: "Ciphertext length must be equal to key size",
        reason: "LocalStack responds 500 where AWS responds InvalidCiphertextException",
    },
    Difference {
        servers: LOCALSTACK,
        groups: &["rsa-3072"],
        case: "rotation_keeps_what_was_wrapped_before",
        says: "under the first version's name: UpstreamUnavailable",
        reason: "LocalStack responds 500 where AWS responds InvalidCiphertextException",
    },
    Difference {
        servers: LOCALSTACK,
        groups: &["rsa-3072"],
        case: "another_algorithm_is_rejected",
        says: "ProviderOpaque: succeeded",
        reason: "LocalStack uses an RSA key's own algorithm, whatever the call names",
    },
    Difference {
        servers: LOCALSTACK,
        groups: &["rsa-3072"],
        case: "a_disabled_key_does_nothing_until_enabled",
        says: "first: succeeded",
        reason: "LocalStack returns the public key of a disabled key, where AWS responds DisabledException",
    },
];

/// Whether to run a case with keys of a specification: all cases, except slow repetitions and those of
/// features that the server does not have.
pub fn runs(server: Server, spec: &str, case: &str) -> bool {
    match (server, spec) {
        (Server::Moto, "rsa-3072" | "rsa-4096") => matches!(case, "every_length_comes_back"),
        // LocalStack takes a second per key.
        (Server::LocalStack, "rsa-4096") => matches!(
            case,
            "every_length_comes_back" | "lengths_out_of_bounds_are_refused" | "a_new_key_is_described"
        ),
        (Server::Moto | Server::LocalStack, _) => true,
    }
}
