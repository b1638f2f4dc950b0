//! The token of a list's next page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::types::Name;

/// The token for what comes after this name (or id in hex). It is opaque to callers and no
/// secret: the list is looked up in the caller's own tenant anyway.
pub fn encode(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(last)
}

/// The name in a token; `None` for a text that is no token.
pub fn decode(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    Name::parse(&text).map(Name::into_string)
}
