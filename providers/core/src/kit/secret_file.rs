//! Secrets in files that the operator's configuration names.

use std::io;
use std::path::Path;

use tokio::io::AsyncReadExt;

use crate::Secret;

/// Why a file gives no secret. It names neither the file nor what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// It is a folder, a socket or a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is longer than the secret can be.
    #[error("the file is longer than {0} bytes")]
    TooLong(usize),
    /// The file is empty, or does not contain exactly one word of printable ASCII.
    #[error("the file does not hold one word of printable ASCII")]
    NotAWord,
}

/// Reads a token or password from a file: one word of printable ASCII, without the white space around
/// it. The file may have at most `max` bytes. Not cached, because such files are rotated.
///
/// # Errors
/// See [`SecretFileError`].
pub async fn read_word(path: &Path, max: usize) -> Result<Secret, SecretFileError> {
    let unreadable = |error: io::Error| SecretFileError::Unreadable(error.kind());
    // Opening a pipe would wait for a writer.
    if !tokio::fs::metadata(path).await.map_err(unreadable)?.is_file() {
        return Err(SecretFileError::NotAFile);
    }
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    // Room to spare: growing the vector would leave a copy behind.
    let mut bytes = Vec::with_capacity(max.saturating_add(64));
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = file.take(limit).read_to_end(&mut bytes).await;
    let content = Secret::new(bytes);
    read.map_err(unreadable)?;
    if content.len() > max {
        return Err(SecretFileError::TooLong(max));
    }
    let word = content.expose().trim_ascii();
    if word.is_empty() || !word.iter().all(u8::is_ascii_graphic) {
        return Err(SecretFileError::NotAWord);
    }
    Ok(Secret::copy_from(word))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::path::Path;

    use super::{SecretFileError, read_word};
    use crate::fill_random;

    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(content: &[u8]) -> Self {
            let mut name = [0; 8];
            fill_random(&mut name);
            let path = std::env::temp_dir().join(format!("claviger-secret-{}", u64::from_le_bytes(name)));
            std::fs::write(&path, content).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.0));
        }
    }

    #[tokio::test]
    async fn a_word_is_read_without_the_space_around_it() {
        let file = Scratch::new(b" token-1\n");
        assert_eq!(read_word(&file.0, 9).await.unwrap().expose(), b"token-1");
        assert!(matches!(read_word(&file.0, 8).await, Err(SecretFileError::TooLong(8))));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        for content in [&b""[..], b" \n", b"two words", b"t\xc3\xb6ken", b"a\0b"] {
            let file = Scratch::new(content);
            assert!(
                matches!(read_word(&file.0, 64).await, Err(SecretFileError::NotAWord)),
                "{content:?}"
            );
        }
        assert!(matches!(read_word(&std::env::temp_dir(), 64).await, Err(SecretFileError::NotAFile)));
        let missing = read_word(Path::new("/nonexistent/token"), 64).await;
        assert!(matches!(missing, Err(SecretFileError::Unreadable(std::io::ErrorKind::NotFound))));
    }
}
