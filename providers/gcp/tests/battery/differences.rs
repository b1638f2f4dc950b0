//! Where Google differs from the battery. A case that passes although it is listed fails, so
//! that nothing stays here for longer than it is true.

use claviger_provider::KeySpec;

/// A case that is known to end otherwise.
pub struct Difference {
    pub specs: &'static [KeySpec],
    pub case: &'static str,
    /// Words of the failure, so that no other failure is taken for it.
    pub says: &'static str,
    pub reason: &'static str,
}

const UNTOLD: &str = "as Google: Decrypt takes no version and tells none; that of a ciphertext is inside it, where nobody else reads it";

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        specs: &[KeySpec::Aes256],
        case: "rotation_keeps_what_was_wrapped_before",
        says: "under the first version's name: succeeded",
        reason: UNTOLD,
    },
    Difference {
        specs: &[KeySpec::Aes256],
        case: "a_missing_version_is_not_found",
        says: "7: succeeded",
        reason: UNTOLD,
    },
];

/// What is run with keys of a specification: all of it, but for what would only be the same
/// again with keys that take a second and more to draw.
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
