//! Encrypted files, byte for byte (`docs/file-format.md`): a wrapped data key, then content that the data key encrypts
//! by C2SP chunked encryption (<https://c2sp.org/chunked-encryption>), Cobblestone-256.
//!
//! Nothing here calls a gateway: who writes a file brings a new data key with its wrapped form, and who reads one has the
//! wrapped form unwrapped. Content is read and written one chunk at a time.

mod derive;
mod error;
mod header;
mod stream;

pub use error::Error;
pub use header::{Header, MAX_ENVELOPE};
pub use stream::{Reader, Writer};

/// Length of the data key, in bytes.
pub const KEY: usize = 32;
