//! What stands before the salt: magic, version, and the wrapped key in its binary form.

use std::io::{self, Read};

use super::error::Error;

/// The longest wrapped key, in bytes of its binary form.
pub const MAX_ENVELOPE: usize = 16_384;
const MAGIC: &[u8; 3] = b"CLF";
const VERSION: u8 = 1;
/// Magic, version and the envelope's length.
const FIXED: usize = MAGIC.len() + 1 + 4;

/// Magic, version, length and envelope. All of it is authenticated by the chunks' key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(Vec<u8>);

impl Header {
    /// The header of a new file with this wrapped key, in its binary form.
    ///
    /// # Errors
    /// [`Error::TooLong`] over [`MAX_ENVELOPE`].
    pub fn new(envelope: &[u8]) -> Result<Self, Error> {
        let length = u32::try_from(envelope.len()).ok().filter(|_| envelope.len() <= MAX_ENVELOPE);
        let length = length.ok_or(Error::TooLong)?;
        Ok(Self([MAGIC, &[VERSION][..], &length.to_be_bytes(), envelope].concat()))
    }

    /// Reads a file's header, and nothing behind it.
    ///
    /// # Errors
    /// What the page says of a beginning that is no header, or of a source that fails.
    pub(super) fn read(source: &mut impl Read) -> Result<Self, Error> {
        let mut fixed = [0; FIXED];
        let filled = fill(source, &mut fixed)?;
        if !fixed[..filled].starts_with(MAGIC) {
            return Err(Error::Unrecognized);
        }
        match fixed[..filled].get(MAGIC.len()) {
            None => return Err(Error::Truncated),
            Some(&VERSION) => {}
            Some(other) => return Err(Error::VersionUnsupported(*other)),
        }
        let length = fixed.last_chunk().filter(|_| filled == FIXED).ok_or(Error::Truncated)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_ENVELOPE {
            return Err(Error::Damaged);
        }
        let mut bytes = fixed.to_vec();
        bytes.resize(FIXED + length, 0);
        exactly(source, &mut bytes[FIXED..])?;
        Ok(Self(bytes))
    }

    /// The wrapped key, in its binary form.
    pub fn envelope(&self) -> &[u8] {
        &self.0[FIXED..]
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads until the buffer is full or the source ends. Returns how many bytes came.
pub(super) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Fills the buffer.
pub(super) fn exactly(source: &mut impl Read, buffer: &mut [u8]) -> Result<(), Error> {
    match fill(source, buffer)? == buffer.len() {
        true => Ok(()),
        false => Err(Error::Truncated),
    }
}
