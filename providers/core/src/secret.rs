//! Secret bytes: zeroed on drop, never printed, never copied by accident.

use std::fmt;

use zeroize::Zeroize;

/// Bytes that must not leave the process by accident: data keys, key material, passwords.
///
/// There is no `Clone`, no `Serialize` and no derived `Debug`; the bytes are reached only
/// through [`Secret::expose`], so that a search for that word lists every use. Equality
/// takes constant time for equal lengths. Zeroed on drop.
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Takes ownership of bytes. A vector without spare capacity is not copied; otherwise the bytes
    /// move into a buffer of their exact length and the vector is zeroed.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        if bytes.len() == bytes.capacity() {
            return Self(bytes.into_boxed_slice());
        }
        let exact: Box<[u8]> = bytes.as_slice().into();
        bytes.zeroize();
        Self(exact)
    }

    /// Copies bytes. The caller is responsible for zeroing the original.
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// `len` bytes from the cryptographic generator.
    pub fn random(len: usize) -> Self {
        let mut bytes = vec![0; len].into_boxed_slice();
        fill_random(&mut bytes);
        Self(bytes)
    }

    /// The bytes. Keep the borrow short and never log it.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The number of bytes, which is not secret.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Secret {}

/// Fills a buffer from the cryptographic generator of aws-lc.
///
/// # Panics
/// When the operating system provides no randomness, because nothing that this program does is safe
/// then.
pub fn fill_random(bytes: &mut [u8]) {
    #[allow(
        clippy::expect_used,
        reason = "without randomness no key, nonce or id may be made; stopping is the only safe answer"
    )]
    aws_lc_rs::rand::fill(bytes).expect("the operating system's random generator failed");
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_only_the_length() {
        let secret = Secret::copy_from(b"hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(7 bytes)");
    }

    #[test]
    fn equality_is_by_content() {
        assert_eq!(Secret::copy_from(b"a"), Secret::copy_from(b"a"));
        assert_ne!(Secret::copy_from(b"a"), Secret::copy_from(b"b"));
        assert_ne!(Secret::copy_from(b"a"), Secret::copy_from(b"aa"));
    }
}
