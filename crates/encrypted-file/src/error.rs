//! Why a file is refused or not written.

use std::io;

/// Why a file is refused, or could not be read or written. None of the refusals is worth a retry: another copy of the
/// file may open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not begin with `CLF`.
    #[error("this is not a file that Claviger encrypted, or its first bytes changed")]
    Unrecognized,
    /// Its version is not 1.
    #[error("a later release wrote this file: its version is {0}, and this release reads version 1")]
    VersionUnsupported(u8),
    /// Its end is missing.
    #[error("the end of the file is missing")]
    Truncated,
    /// The data key, the header, the salt and the commitment do not belong together.
    #[error("the wrapped key belongs to another file, or the file's header changed")]
    HeaderMismatch,
    /// A chunk, or the length of the wrapped key, is not what was written.
    #[error("a part of the file changed, moved or is missing, or bytes follow its end")]
    Damaged,
    /// The wrapped key or the content is longer than the format allows.
    #[error("the wrapped key or the content is longer than the format allows")]
    TooLong,
    /// The data key has another length than 32 bytes, to write with.
    #[error("a file is written with a data key of 32 bytes")]
    KeyLength,
    /// The source or the target failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    /// The error code of the page; `None` of what is no refusal of a file.
    pub const fn code(&self) -> Option<&'static str> {
        match self {
            Self::Unrecognized => Some("file_unrecognized"),
            Self::VersionUnsupported(_) => Some("file_version_unsupported"),
            Self::Truncated => Some("file_truncated"),
            Self::HeaderMismatch => Some("file_header_mismatch"),
            Self::Damaged => Some("file_damaged"),
            Self::TooLong | Self::KeyLength | Self::Io(_) => None,
        }
    }
}
