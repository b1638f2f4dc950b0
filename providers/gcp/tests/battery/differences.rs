//! Where Google differs from the battery. A listed case that passes fails the test, so that the
//! list stays correct.

use claviger_provider::KeySpec;

/// An expected failure of a case.
pub struct Difference {
    pub specs: &'static [KeySpec],
    pub case: &'static str,
    /// A part of the failure's message, so that no other failure is mistaken for it.
    pub says: &'static str,
    pub reason: &'static str,
}

const NO_VERSION: &str = "as at Google: Decrypt neither takes nor returns a version, which only Google can read from the ciphertext";

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        specs: &[KeySpec::Aes256],
        case: "rotation_keeps_what_was_wrapped_before",
        says: "under the first version's name: succeeded",
        reason: NO_VERSION,
    },
    Difference {
        specs: &[KeySpec::Aes256],
        case: "a_missing_version_is_not_found",
        says: "7: succeeded",
        reason: NO_VERSION,
    },
];

/// Whether to run a case with keys of a specification: all cases, except those that would only
/// repeat another specification with keys that take seconds to generate.
pub fn runs(spec: KeySpec, case: &str) -> bool {
    match spec {
        KeySpec::Aes256 | KeySpec::Rsa3072 => true,
        KeySpec::Rsa4096 => matches!(
            case,
            "every_length_comes_back"
                | "lengths_out_of_bounds_are_refused"
                | "a_cut_or_longer_ciphertext_is_rejected"
                | "a_new_key_is_described"
        ),
    }
}
