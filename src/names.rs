//! The rule for names of objects, in the API and in the configuration.

/// The most bytes of a name.
pub const MAX_NAME: usize = 63;

/// Whether a text is a valid name: `[a-z0-9][a-z0-9._-]{0,62}` (`docs/api.md`).
pub fn is_name(text: &str) -> bool {
    let Some((first, rest)) = text.as_bytes().split_first() else {
        return false;
    };
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_NAME && plain(first) && rest.iter().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
}
