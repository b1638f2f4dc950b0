//! Where the token comes from. Nothing is kept: a token that is replaced is used from the next request on.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::error::Error;
use crate::models::ErrorCode;
use crate::secret::SecretText;

/// Longer than any JWT that a gateway takes, in bytes.
const LONGEST: usize = 16 << 10;
/// `clv_`, 12 characters, `_`, 43 characters of secret and 6 of checksum.
const API_TOKEN: usize = 66;

/// What a caller's function may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Made = Pin<Box<dyn Future<Output = Result<SecretText, BoxError>> + Send>>;

#[derive(Clone)]
pub(crate) enum TokenSource {
    Fixed(SecretText),
    /// Read for every request. That takes some microseconds. Comparing the time of the last change instead would miss a
    /// second change within the clock's resolution.
    File(PathBuf),
    Function(Arc<dyn Fn() -> Made + Send + Sync>),
}

impl TokenSource {
    pub(crate) fn function<F, R>(function: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<SecretText, BoxError>> + Send + 'static,
    {
        Self::Function(Arc::new(move || Box::pin(function())))
    }

    /// Whether the next token may be another one.
    pub(crate) const fn changes(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    pub(crate) async fn token(&self) -> Result<SecretText, Error> {
        match self {
            Self::Fixed(token) => Ok(token.clone()),
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read(&path)).await;
                read.unwrap_or_else(|_| Err(unusable("The runtime ends.".to_owned(), "Send requests while the runtime runs.")))
            }
            Self::Function(function) => {
                let made = function().await.map_err(|error| {
                    let detail = format!(
                        "The function that returns the token failed: {}.",
                        error.to_string().trim_end_matches('.')
                    );
                    unusable(detail, "Correct what the function needs.").source(error)
                });
                parse(made?.expose())
            }
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed(...)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Function(_) => f.write_str("Function(...)"),
        }
    }
}

fn read(path: &Path) -> Result<SecretText, Error> {
    // Of its whole size, so that it does not grow and leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    let found = File::open(path).and_then(|file| file.take(LONGEST as u64 + 1).read_to_end(&mut bytes));
    let reason = match &found {
        Ok(_) => "it is empty or not whole".to_owned(),
        Err(error) => error.to_string(),
    };
    let token = found
        .as_ref()
        .ok()
        .and_then(|_| std::str::from_utf8(&bytes).ok())
        .and_then(|text| parse(text).ok());
    token.ok_or_else(|| {
        let made = unusable(
            format!("The token file {} cannot be used: {reason}.", path.display()),
            "Write the token to the file, as one line, and let this user read it. To replace it, write another file and rename it.",
        );
        // It may be about to be replaced.
        let made = made.with(|parts| parts.retryable = true);
        match found {
            Ok(_) => made,
            Err(error) => made.source(error),
        }
    })
}

/// Checks the form of a token. White space around it does not count.
///
/// An API token has one length, so a file that is half written does not pass for one.
pub(crate) fn parse(text: &str) -> Result<SecretText, Error> {
    let text = text.trim_ascii();
    let is_printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_whole = !text.starts_with("clv_") || text.len() == API_TOKEN;
    match !text.is_empty() && text.len() <= LONGEST && is_printable && is_whole {
        true => Ok(SecretText::from(text)),
        false => Err(unusable(
            "This is not a token.".to_owned(),
            "Give a whole API token (clv_...) or a JWT: one line of printable ASCII, at most 16 KiB.",
        )),
    }
}

fn unusable(detail: String, what_to_do: &str) -> Error {
    Error::new(ErrorCode::TokenUnusable, "Token unusable", detail).what_to_do_is(what_to_do)
}
