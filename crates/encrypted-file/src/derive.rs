//! From a data key to the key of a file's chunks (C2SP chunked encryption, Key derivation).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Prk};
use zeroize::Zeroizing;

use super::KEY;
use super::error::Error;
use super::header::Header;

/// Length of the salt, in bytes.
pub(super) const SALT: usize = 24;
/// Length of the commitment, in bytes.
pub(super) const COMMITMENT: usize = 32;
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";
/// Key, base nonce and commitment.
const DERIVED: usize = KEY + NONCE_LEN + COMMITMENT;
/// The most chunks of a file.
const MAX_CHUNKS: u64 = 1 << 38;

/// How much is derived.
struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        DERIVED
    }
}

/// The key of one file's chunks.
pub(super) struct ChunkKey {
    key: LessSafeKey,
    base: [u8; NONCE_LEN],
    /// The next chunk's number.
    next: u64,
}

impl ChunkKey {
    /// The key of the file with this header and salt, and the file's commitment.
    ///
    /// # Errors
    /// [`Error::KeyLength`] for a data key that has not 32 bytes.
    pub(super) fn derive(data_key: &[u8], header: &Header, salt: &[u8; SALT]) -> Result<(Self, [u8; COMMITMENT]), Error> {
        if data_key.len() != KEY {
            return Err(Error::KeyLength);
        }
        let context = digest(&SHA256, header.bytes());
        let info = [LABEL, salt, context.as_ref()];
        let mut derived = Zeroizing::new([0; DERIVED]);
        let filled = Prk::new_less_safe(HKDF_SHA512, data_key)
            .expand(&info, Length)
            .and_then(|okm| okm.fill(&mut derived[..]));
        let (key, rest) = derived.split_at(KEY);
        let (nonce, commitment) = rest.split_at(NONCE_LEN);
        let (mut base, mut committed) = ([0; NONCE_LEN], [0; COMMITMENT]);
        base.copy_from_slice(nonce);
        committed.copy_from_slice(commitment);
        // The lengths are constants that the library takes.
        let key = filled
            .and_then(|()| UnboundKey::new(&AES_256_GCM, key))
            .map_err(|_| Error::KeyLength)?;
        let key = LessSafeKey::new(key);
        Ok((Self { key, base, next: 0 }, committed))
    }

    /// The nonce of the next chunk: the base nonce XOR the chunk's number, as an integer of twelve bytes.
    fn nonce(&mut self) -> Option<Nonce> {
        let number = self.next;
        if number >= MAX_CHUNKS {
            return None;
        }
        self.next += 1;
        let mut nonce = self.base;
        // The number is the last eight of the twelve bytes.
        for (byte, of_number) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= of_number;
        }
        Some(Nonce::assume_unique_for_key(nonce))
    }

    /// Encrypts the next chunk in place, and appends its tag.
    ///
    /// # Errors
    /// [`Error::TooLong`] behind the last chunk that a file may have.
    pub(super) fn seal(&mut self, chunk: &mut Vec<u8>) -> Result<(), Error> {
        let nonce = self.nonce().ok_or(Error::TooLong)?;
        self.key
            .seal_in_place_append_tag(nonce, Aad::empty(), chunk)
            .map_err(|_| Error::TooLong)
    }

    /// Decrypts the next chunk with its tag in place. Returns how many bytes of plaintext it has.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is not the chunk that was written at this place.
    pub(super) fn open(&mut self, chunk: &mut [u8]) -> Result<usize, Error> {
        let nonce = self.nonce().ok_or(Error::Damaged)?;
        let opened = self.key.open_in_place(nonce, Aad::empty(), chunk);
        opened.map(|plaintext| plaintext.len()).map_err(|_| Error::Damaged)
    }
}
