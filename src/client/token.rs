//! The bearer token of a client. It is never displayed.

use std::io::Read;
use std::path::Path;

use claviger_provider::Secret;
use reqwest::header::HeaderValue;

use crate::io_reason::IoReason;

/// Maximum length of a token, in bytes. A JWT fits.
const MAX: u64 = 16 << 10;

/// Why a token cannot be used. Contains nothing of the token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("{path}: the token file cannot be read ({})", IoReason(*kind))]
    Unreadable {
        /// Path of the file.
        path: String,
        /// The error of the file system.
        kind: std::io::ErrorKind,
    },
    /// The token is empty, longer than 16 KiB, or contains characters other than printable ASCII.
    #[error("this is not a token: expected one line of printable ASCII, at most 16 KiB")]
    Form,
}

/// A bearer token: an API token or a JWT.
#[derive(Debug)]
pub struct Token(Secret);

impl Token {
    /// Parses a token, ignoring white space around it.
    ///
    /// # Errors
    /// [`TokenError::Form`].
    pub fn parse(text: &Secret) -> Result<Self, TokenError> {
        let token = text.expose().trim_ascii();
        if token.is_empty() || token.len() as u64 > MAX || !token.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Form);
        }
        Ok(Self(Secret::copy_from(token)))
    }

    /// Reads a token from a file.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let mut bytes = Vec::with_capacity(1024);
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX + 1).read_to_end(&mut bytes));
        let text = Secret::new(bytes);
        read.map_err(|error| TokenError::Unreadable {
            path: path.display().to_string(),
            kind: error.kind(),
        })?;
        Self::parse(&text)
    }

    /// The `Authorization` header, marked as sensitive so that libraries do not print it.
    pub(super) fn header(&self) -> Result<HeaderValue, TokenError> {
        let value = Secret::new([b"Bearer ", self.0.expose()].concat());
        let mut header = HeaderValue::from_bytes(value.expose()).map_err(|_| TokenError::Form)?;
        header.set_sensitive(true);
        Ok(header)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_line_and_never_shown() {
        let token = Token::parse(&Secret::copy_from(b" clv_abc\n")).unwrap();
        assert_eq!(token.header().unwrap(), "Bearer clv_abc");
        assert!(!format!("{token:?} {:?}", token.header().unwrap()).contains("abc"));
        for bad in [&b""[..], b" \n", b"a b", b"a\nb", b"\xff", &[b'a'; 20_000]] {
            assert!(matches!(Token::parse(&Secret::copy_from(bad)), Err(TokenError::Form)));
        }
    }
}
