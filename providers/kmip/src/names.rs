//! Names and identifiers of keys.

use claviger_provider::{KeyId, ProviderKeyRef};

/// The longest Unique Identifier, in bytes: that of a provider key id.
const MAX_ID: usize = 512;
/// The prefix of the names of keys that the gateway made.
const MADE: &str = "claviger-";

/// The attribute Name of the key that the gateway makes for a logical key.
pub(crate) fn made(key: KeyId) -> String {
    format!("{MADE}{key}")
}

/// Whether a text can be a Unique Identifier or a Name of a key: 1 to 512 bytes without control characters.
pub(crate) fn is_sound(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// The provider's key of a Unique Identifier.
pub(crate) fn key_ref(id: &str) -> ProviderKeyRef {
    ProviderKeyRef {
        id: id.to_owned(),
        version: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_sound;

    #[test]
    fn an_id_is_a_text_of_one_line() {
        for text in ["1", "a/b", "0f3c-22", "Schl\u{fc}ssel 1", &"a".repeat(512)] {
            assert!(is_sound(text), "{text}");
        }
        for text in ["", "a\nb", "a\0", &"a".repeat(513)] {
            assert!(!is_sound(text), "{text}");
        }
    }
}
