//! Why bytes are not an envelope, and why one cannot be created.

/// Why bytes are not an envelope. Contains nothing of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not the deterministic encoding of an envelope: `invalid_envelope`.
    #[error("not a well-formed wrapped key")]
    Invalid,
    /// Another format, version or suite: `envelope_version_unsupported`.
    #[error("a wrapped key of a version or suite that this release does not know")]
    VersionUnsupported,
    /// Longer than an envelope can be: `too_large`.
    #[error("longer than a wrapped key can be")]
    TooLarge,
}

/// Why an envelope cannot be created from a provider's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// It would be longer than an envelope can be.
    #[error("longer than a wrapped key can be")]
    TooLarge,
    /// The provider's key id, version or ciphertext breaks a limit or the algorithm's shape,
    /// so the envelope could not be opened.
    #[error("the provider's answer does not fit a recipient")]
    Recipient,
}
