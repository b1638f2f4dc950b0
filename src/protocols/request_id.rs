//! The id that the gateway gives each request.

use std::cell::RefCell;
use std::fmt;

use bytes::Bytes;
use claviger_provider::fill_random;
use http::HeaderValue;

use crate::audit::Text;

/// 16 random bytes as 32 hex digits. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Bytes);

impl RequestId {
    const LEN: usize = 16;
    /// How many ids are drawn at once. A call of the random generator costs more than everything
    /// else, and an id is not secret, so it may stay in memory.
    const DRAWN: usize = 64;

    /// Draws a new id.
    pub fn draw() -> Self {
        thread_local! {
            static LEFT: RefCell<Bytes> = const { RefCell::new(Bytes::new()) };
        }
        LEFT.with_borrow_mut(|left| {
            if left.is_empty() {
                let mut bytes = [0; Self::DRAWN * Self::LEN];
                fill_random(&mut bytes);
                *left = hex::encode(bytes).into();
            }
            Self(left.split_to(2 * Self::LEN))
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Hex digits are always UTF-8.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text as a record has it, which shares its memory.
    pub fn recorded(&self) -> Text {
        // Hex digits are always UTF-8.
        Text::try_from(self.0.clone()).unwrap_or_default()
    }

    /// The text as a header's value, which shares its memory.
    pub fn header(&self) -> HeaderValue {
        // Hex digits are always a header's value.
        HeaderValue::from_maybe_shared(self.0.clone()).unwrap_or(HeaderValue::from_static(""))
    }

    pub(super) fn bytes(&self) -> Bytes {
        self.0.clone()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::RequestId;

    #[test]
    fn ids_are_32_hex_digits_and_differ() {
        let ids: Vec<RequestId> = (0..3 * RequestId::DRAWN).map(|_| RequestId::draw()).collect();
        let texts: BTreeSet<&str> = ids.iter().map(RequestId::as_str).collect();
        assert_eq!(texts.len(), ids.len());
        for id in &ids {
            assert!(
                id.as_str().len() == 32 && id.as_str().bytes().all(|b| b.is_ascii_hexdigit()),
                "{id}"
            );
            assert_eq!(id.header(), id.as_str());
            assert_eq!(id.recorded().as_str(), id.as_str());
        }
    }
}
