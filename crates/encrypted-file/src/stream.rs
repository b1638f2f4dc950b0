//! Content, one chunk at a time.

use std::io::{Read, Write};

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::derive::{COMMITMENT, ChunkKey, SALT};
use super::error::Error;
use super::header::{Header, exactly, fill};

/// Bytes of content in a chunk. Only the last one is shorter, and it always is.
const CHUNK: usize = 16_384;

/// Writes a file.
pub struct Writer {
    header: Header,
    salt: [u8; SALT],
}

impl Writer {
    /// A file with this wrapped key, in its binary form. The data key must be new: no other file or data may be encrypted
    /// with it.
    ///
    /// # Errors
    /// [`Error::TooLong`] for a wrapped key that is too long, [`Error::Io`] without random bytes.
    pub fn new(envelope: &[u8]) -> Result<Self, Error> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| std::io::Error::other("the system has no random bytes"))?;
        let header = Header::new(envelope)?;
        Ok(Self { header, salt })
    }

    /// Encrypts all of the source with the data key, and writes the file to the target. Returns how many bytes of content
    /// it has.
    ///
    /// # Errors
    /// Those of source and target; [`Error::KeyLength`]; [`Error::TooLong`] over 4 PiB of content.
    pub fn write(self, data_key: &[u8], source: &mut impl Read, target: &mut impl Write) -> Result<u64, Error> {
        let (mut key, commitment) = ChunkKey::derive(data_key, &self.header, &self.salt)?;
        for part in [self.header.bytes(), &self.salt, &commitment] {
            target.write_all(part)?;
        }
        let mut chunk = Zeroizing::new(Vec::with_capacity(CHUNK + AES_256_GCM.tag_len()));
        let mut content = 0;
        loop {
            chunk.resize(CHUNK, 0);
            let filled = fill(source, &mut chunk)?;
            chunk.truncate(filled);
            key.seal(&mut chunk)?;
            target.write_all(&chunk)?;
            content += filled as u64;
            if filled < CHUNK {
                target.flush()?;
                return Ok(content);
            }
        }
    }
}

/// Reads a file whose header has been read.
pub struct Reader<R> {
    source: R,
    header: Header,
    salt: [u8; SALT],
    commitment: [u8; COMMITMENT],
}

impl<R: Read> Reader<R> {
    /// Reads what stands before the content. The wrapped key in it is to be unwrapped next.
    ///
    /// # Errors
    /// What the page says of a file whose beginning is wrong, or of a source that fails.
    pub fn new(mut source: R) -> Result<Self, Error> {
        let header = Header::read(&mut source)?;
        let (mut salt, mut commitment) = ([0; SALT], [0; COMMITMENT]);
        exactly(&mut source, &mut salt)?;
        exactly(&mut source, &mut commitment)?;
        Ok(Self {
            source,
            header,
            salt,
            commitment,
        })
    }

    /// The wrapped key, in its binary form.
    pub fn envelope(&self) -> &[u8] {
        self.header.envelope()
    }

    /// Decrypts the content with the data key, and writes each chunk to the target once it is authenticated. Returns how
    /// many bytes of content there are. After an error the target has a part of the content, which is authentic and not all:
    /// it must not be taken for the whole.
    ///
    /// # Errors
    /// What the page says of a file that is not as it was written; those of source and target.
    pub fn read(mut self, data_key: &[u8], target: &mut impl Write) -> Result<u64, Error> {
        let derived = ChunkKey::derive(data_key, &self.header, &self.salt).map_err(|_| Error::HeaderMismatch);
        let (mut key, commitment) = derived?;
        verify_slices_are_equal(&commitment, &self.commitment).map_err(|_| Error::HeaderMismatch)?;
        let tag = AES_256_GCM.tag_len();
        let mut chunk = Zeroizing::new(vec![0; CHUNK + tag]);
        let mut content = 0;
        loop {
            let filled = fill(&mut self.source, &mut chunk)?;
            if filled < tag {
                return Err(Error::Truncated);
            }
            let opened = key.open(&mut chunk[..filled])?;
            target.write_all(&chunk[..opened])?;
            content += opened as u64;
            if filled < CHUNK + tag {
                target.flush()?;
                return Ok(content);
            }
        }
    }
}
