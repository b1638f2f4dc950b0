//! The text form: `clv1.` and base64url without padding.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::errors::ParseError;

/// The prefix of every text form of this version.
pub(super) const PREFIX: &str = "clv1.";

/// The binary form of a text. The engine refuses padding, foreign characters and trailing
/// bits that are not zero, so two texts never stand for the same bytes.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, ParseError> {
    let body = text.strip_prefix(PREFIX).ok_or(ParseError::VersionUnsupported)?;
    URL_SAFE_NO_PAD.decode(body).map_err(|_| ParseError::Invalid)
}

/// The text form of binary bytes.
pub(super) fn encode(binary: &[u8]) -> String {
    let mut text = String::with_capacity(PREFIX.len() + (binary.len() * 4).div_ceil(3));
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(binary, &mut text);
    text
}
