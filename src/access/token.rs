//! The text form of an API token:
//! `clv_`, an id of 12 base62 digits, `_`, a secret of 43 and a CRC-32 of 6 base62 digits.
//!
//! The checksum (IEEE polynomial, over all characters before it) lets secret scanners recognise
//! tokens, and lets the gateway refuse a damaged one without reading the store. The store contains
//! only the SHA-256 of the secret. The secret has 256 random bits, so a slow hash would add nothing.

use aws_lc_rs::{constant_time, digest};
use claviger_provider::Secret;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &str = "clv_";
const ID_LEN: usize = 12;
const SECRET_LEN: usize = 43;
const CRC_LEN: usize = 6;
const BODY_LEN: usize = PREFIX.len() + ID_LEN + 1 + SECRET_LEN;
const TOKEN_LEN: usize = BODY_LEN + CRC_LEN;

/// The public id within a token's text.
pub(super) type PublicId = [u8; ID_LEN];

/// A stored public id; `None` for a text of another length.
pub(super) fn public_id(text: &str) -> Option<PublicId> {
    text.as_bytes().try_into().ok()
}

/// The text is not an API token. The error contains no part of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API token: wrong form or checksum")]
pub struct TokenFormatError;

/// A presented token of the correct form and checksum. It need not exist in the store.
pub struct ApiToken {
    public_id: PublicId,
    secret_sha256: [u8; 32],
}

impl ApiToken {
    /// Parses a presented token.
    ///
    /// # Errors
    /// [`TokenFormatError`] for a wrong form or checksum.
    pub fn parse(text: &str) -> Result<Self, TokenFormatError> {
        let bytes = text.as_bytes();
        if bytes.len() != TOKEN_LEN || !text.starts_with(PREFIX) || bytes[PREFIX.len() + ID_LEN] != b'_' {
            return Err(TokenFormatError);
        }
        let mut id = [0; ID_LEN];
        id.copy_from_slice(&bytes[PREFIX.len()..PREFIX.len() + ID_LEN]);
        let secret = &bytes[PREFIX.len() + ID_LEN + 1..BODY_LEN];
        if !id.iter().chain(secret).all(u8::is_ascii_alphanumeric) {
            return Err(TokenFormatError);
        }
        if bytes[BODY_LEN..] != checksum(&bytes[..BODY_LEN]) {
            return Err(TokenFormatError);
        }
        Ok(Self {
            public_id: id,
            secret_sha256: sha256(secret),
        })
    }

    /// As [`ApiToken::public_id`], as bytes.
    pub(super) const fn id(&self) -> &PublicId {
        &self.public_id
    }

    /// The id within the token's text. Not secret; the store finds the token by it.
    pub fn public_id(&self) -> &str {
        // `parse` took letters and digits alone.
        std::str::from_utf8(&self.public_id).unwrap_or_default()
    }

    /// Compares the secret's SHA-256 with the stored one, in constant time.
    pub fn matches(&self, kept_sha256: &[u8; 32]) -> bool {
        constant_time::verify_slices_are_equal(&self.secret_sha256, kept_sha256).is_ok()
    }
}

/// A newly generated token. Its text is not stored anywhere, so this is the only time to show it.
pub struct NewToken {
    /// The id within the text; not secret.
    pub public_id: String,
    /// SHA-256 of the secret, for the store.
    pub secret_sha256: [u8; 32],
    /// The whole token, for its owner.
    pub text: Secret,
}

impl NewToken {
    /// Generates a token with the cryptographic random generator.
    pub fn draw() -> Self {
        let mut text = Vec::with_capacity(TOKEN_LEN);
        text.extend_from_slice(PREFIX.as_bytes());
        draw_base62(&mut text, ID_LEN);
        let public_id = String::from_utf8_lossy(&text[PREFIX.len()..]).into_owned();
        text.push(b'_');
        draw_base62(&mut text, SECRET_LEN);
        let secret_sha256 = sha256(&text[BODY_LEN - SECRET_LEN..]);
        let crc = checksum(&text);
        text.extend_from_slice(&crc);
        Self {
            public_id,
            secret_sha256,
            text: Secret::new(text),
        }
    }
}

/// Appends `count` random base62 digits without bias: random bytes from 248 up are dropped, because
/// 248 is the largest multiple of 62 that fits a byte.
fn draw_base62(out: &mut Vec<u8>, count: usize) {
    let end = out.len() + count;
    while out.len() < end {
        let pool = Secret::random(64);
        for &byte in pool.expose().iter().filter(|byte| **byte < 248) {
            if out.len() < end {
                out.push(ALPHABET[usize::from(byte % 62)]);
            }
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn checksum(bytes: &[u8]) -> [u8; CRC_LEN] {
    let mut rest = crc32fast::hash(bytes);
    let mut out = [b'0'; CRC_LEN];
    for digit in out.iter_mut().rev() {
        *digit = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    out
}

/// Appends the correct checksum to a text.
#[cfg(test)]
pub(super) fn with_checksum(body: &str) -> String {
    let crc = checksum(body.as_bytes());
    format!("{body}{}", String::from_utf8_lossy(&crc))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_drawn_token_parses_and_matches_only_itself() {
        let new = NewToken::draw();
        let text = std::str::from_utf8(new.text.expose()).unwrap();
        assert_eq!(text.len(), 66);
        let parsed = ApiToken::parse(text).unwrap();
        assert_eq!(parsed.public_id(), new.public_id);
        assert!(parsed.matches(&new.secret_sha256));
        assert!(!parsed.matches(&NewToken::draw().secret_sha256));
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        // CRC-32/ISO-HDLC of "123456789" is 0xCBF43926, which is 3 45 35 27 22 14 in base 62.
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
        // Left-padded: the checksum of nothing is zero.
        assert_eq!(&checksum(b""), b"000000");
    }

    #[test]
    fn any_changed_character_is_refused() {
        let new = NewToken::draw();
        let text = std::str::from_utf8(new.text.expose()).unwrap();
        for at in 0..text.len() {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert!(ApiToken::parse(std::str::from_utf8(&bytes).unwrap()).is_err(), "position {at}");
        }
        assert!(ApiToken::parse(&text[..text.len() - 1]).is_err());
        assert!(ApiToken::parse("").is_err());
        assert!(ApiToken::parse(&format!("{text}x")).is_err());
    }

    #[test]
    fn a_multi_byte_text_of_the_right_length_is_refused() {
        assert!(ApiToken::parse(&format!("clv_{}", "é".repeat(31))).is_err());
    }

    /// A token's text made of these parts, with a right checksum.
    fn text(prefix: &str, id: &str, between: &str, secret: &str) -> String {
        with_checksum(&format!("{prefix}{id}{between}{secret}"))
    }

    #[test]
    fn a_right_checksum_makes_no_token_of_a_wrong_form() {
        let (id, secret) = ("a".repeat(12), "b".repeat(43));
        assert!(ApiToken::parse(&text("clv_", &id, "_", &secret)).is_ok());
        assert!(ApiToken::parse(&text("CLV_", &id, "_", &secret)).is_err());
        assert!(ApiToken::parse(&text("clv_", &id, "-", &secret)).is_err());
        assert!(ApiToken::parse(&text("clv_", &id, "_", &secret[1..])).is_err());
        assert!(ApiToken::parse(&text("clv_", &format!("{id}c"), "_", &secret[1..])).is_err());
        for odd in ["_", "-", " ", "\0", "\n"] {
            assert!(ApiToken::parse(&text("clv_", &format!("{}{odd}", &id[1..]), "_", &secret)).is_err());
            assert!(ApiToken::parse(&text("clv_", &id, "_", &format!("{}{odd}", &secret[1..]))).is_err());
        }
    }

    proptest! {
        /// Whatever the id and secret are, the token parses and only its own hash matches.
        #[test]
        fn every_id_and_secret_round_trips(id in "[0-9A-Za-z]{12}", secret in "[0-9A-Za-z]{43}", other in any::<[u8; 32]>()) {
            let parsed = ApiToken::parse(&text("clv_", &id, "_", &secret)).unwrap();
            prop_assert_eq!(parsed.public_id(), id.as_str());
            prop_assert!(parsed.matches(&sha256(secret.as_bytes())));
            prop_assert!(!parsed.matches(&other));
        }

        /// No text makes the parser panic, and what it takes is one token's only form.
        #[test]
        fn any_text_is_refused_or_is_the_token_it_says(given in prop_oneof![any::<String>(), "clv_[0-9A-Za-z_é]{58,64}"]) {
            if let Ok(parsed) = ApiToken::parse(&given) {
                prop_assert_eq!(&given, &text("clv_", parsed.public_id(), "_", &given[17..60]));
            }
        }

        /// Two characters that changed places are found, which a sum would not do.
        #[test]
        fn swapped_characters_are_refused(secret in "[0-9A-Za-z]{43}", a in 4usize..66, b in 4usize..66) {
            let right = text("clv_", "0123456789ab", "_", &secret);
            let mut bytes = right.clone().into_bytes();
            bytes.swap(a, b);
            let swapped = String::from_utf8(bytes).unwrap();
            prop_assume!(swapped != right);
            prop_assert!(ApiToken::parse(&swapped).is_err());
        }
    }
}
