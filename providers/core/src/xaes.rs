//! XAES-256-GCM (<https://c2sp.org/XAES-256-GCM>): AES-256-GCM with a 192-bit nonce that
//! may be random for a virtually unlimited number of messages (2^80 messages at a collision risk
//! of 2^-32).
//!
//! Composed from aws-lc's AES-256-CMAC and AES-256-GCM. Used where symmetric key material is in this
//! process: the embedded provider, the store's sealing, the test fake.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN as GCM_NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::cmac;
use zeroize::Zeroizing;

use crate::Secret;
use crate::secret::fill_random;

/// Length of a key, in bytes.
pub const KEY_LEN: usize = 32;

/// Bytes of the nonce, which precedes the ciphertext.
pub const NONCE_LEN: usize = 24;

/// Bytes of the tag, which follows the ciphertext.
pub const TAG_LEN: usize = 16;

/// Bytes by which a sealed message is longer than its plaintext.
pub const OVERHEAD: usize = NONCE_LEN + TAG_LEN;

const DERIVE_NONCE_LEN: usize = NONCE_LEN - GCM_NONCE_LEN;
const CMAC_BLOCK: usize = 16;

/// A message that cannot be sealed or opened. The error gives no reason, so that it is no oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("XAES-256-GCM failed")]
pub struct XaesError;

/// A 256-bit key, expanded once for the derivation of message keys.
///
/// XAES-256-GCM does not commit to the key. A caller that needs a ciphertext to open under one key only
/// adds a commitment, as the envelope does. aws-lc zeroes the expanded key on drop.
pub struct XaesKey {
    derive: cmac::Key,
}

impl XaesKey {
    /// Expands a key of [`KEY_LEN`] bytes.
    ///
    /// # Errors
    /// [`XaesError`] for another length.
    pub fn new(key: &Secret) -> Result<Self, XaesError> {
        // aws-lc checks the length against AES-256.
        let derive = cmac::Key::new(cmac::AES_256, key.expose()).map_err(|_| XaesError)?;
        Ok(Self { derive })
    }

    /// Encrypts under a fresh random nonce; returns `nonce(24) ciphertext tag(16)`.
    ///
    /// # Errors
    /// [`XaesError`] for a plaintext over AES-GCM's limit of 64 GiB, or when the library fails.
    pub fn seal(&self, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, XaesError> {
        let mut nonce = [0; NONCE_LEN];
        fill_random(&mut nonce);
        self.seal_with(nonce, aad, plaintext)
    }

    /// Decrypts what [`XaesKey::seal`] made with the same associated data.
    ///
    /// # Errors
    /// [`XaesError`] for everything: too short, another key, other associated data, a
    /// changed byte.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Secret, XaesError> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(XaesError)?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(XaesError)?;
        let (key, gcm_nonce) = self.message_key(nonce)?;
        let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
        key.open_separate_gather(gcm_nonce, Aad::from(aad), ciphertext, tag, &mut plaintext)
            .map_err(|_| XaesError)?;
        Ok(Secret::new(std::mem::take(&mut *plaintext)))
    }

    /// [`Self::seal`] with a given nonce, for the published test vectors. Private, since a nonce that is
    /// used for two messages breaks both.
    fn seal_with(&self, nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, XaesError> {
        let (key, gcm_nonce) = self.message_key(&nonce)?;
        // Not in place: the returned buffer never contained the plaintext.
        let mut sealed = vec![0; plaintext.len().checked_add(OVERHEAD).ok_or(XaesError)?];
        let (head, rest) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or(XaesError)?;
        let (ciphertext, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(XaesError)?;
        *head = nonce;
        key.seal_out_of_place_scatter(gcm_nonce, Aad::from(aad), plaintext, ciphertext, &[], tag)
            .map_err(|_| XaesError)?;
        Ok(sealed)
    }

    /// The AES-256-GCM key and nonce of one message: the first half of the nonce goes
    /// through the counter KDF of NIST SP 800-108r1 (CMAC, label `X`, a counter of 16
    /// bits), the second half is used as it is.
    fn message_key(&self, nonce: &[u8; NONCE_LEN]) -> Result<(LessSafeKey, Nonce), XaesError> {
        let (derive, gcm) = nonce.split_at(DERIVE_NONCE_LEN);
        let mut block = [0; CMAC_BLOCK];
        block[2] = b'X';
        block[4..].copy_from_slice(derive);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        for (half, counter) in key.chunks_exact_mut(CMAC_BLOCK).zip(1_u8..) {
            block[1] = counter;
            cmac::sign_to_buffer(&self.derive, &block, half).map_err(|_| XaesError)?;
        }
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| XaesError)?;
        let nonce = Nonce::try_assume_unique_for_key(gcm).map_err(|_| XaesError)?;
        Ok((LessSafeKey::new(key), nonce))
    }
}

impl fmt::Debug for XaesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XaesKey")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use proptest::prelude::*;
    use sha3::Shake128;
    use sha3::digest::{ExtendableOutput, Update, XofReader};

    use super::{KEY_LEN, NONCE_LEN, OVERHEAD, XaesError, XaesKey};
    use crate::Secret;

    fn key(byte: u8) -> XaesKey {
        XaesKey::new(&Secret::new(vec![byte; KEY_LEN])).unwrap()
    }

    /// The two single vectors of the specification: the most significant bit of the CMAC's
    /// first block is 0 in one and 1 in the other.
    #[test]
    fn published_vectors() {
        let nonce = *b"ABCDEFGHIJKLMNOPQRSTUVWX";
        for (byte, aad, expected) in [
            (1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
            (
                3,
                "c2sp.org/XAES-256-GCM",
                "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
            ),
        ] {
            let sealed = key(byte).seal_with(nonce, aad.as_bytes(), b"XAES-256-GCM").unwrap();
            assert_eq!(sealed[..NONCE_LEN], nonce);
            assert_eq!(hex::encode(&sealed[NONCE_LEN..]), expected);
            assert_eq!(key(byte).open(aad.as_bytes(), &sealed).unwrap().expose(), b"XAES-256-GCM");
        }
    }

    /// The specification's accumulated vectors: inputs drawn from one SHAKE-128 stream, all
    /// ciphertexts hashed by another.
    #[test]
    fn accumulated_vectors() {
        fn bytes(source: &mut impl XofReader, len: usize) -> Vec<u8> {
            let mut bytes = vec![0; len];
            source.read(&mut bytes);
            bytes
        }
        fn short(source: &mut impl XofReader) -> Vec<u8> {
            let len = bytes(source, 1)[0];
            bytes(source, len.into())
        }

        let mut source = Shake128::default().finalize_xof();
        let mut ciphertexts = Shake128::default();
        for _ in 0..10_000 {
            let key = XaesKey::new(&Secret::new(bytes(&mut source, KEY_LEN))).unwrap();
            let nonce: [u8; NONCE_LEN] = bytes(&mut source, NONCE_LEN).try_into().unwrap();
            let plaintext = short(&mut source);
            let aad = short(&mut source);
            let sealed = key.seal_with(nonce, &aad, &plaintext).unwrap();
            assert_eq!(key.open(&aad, &sealed).unwrap().expose(), plaintext);
            ciphertexts.update(&sealed[NONCE_LEN..]);
        }
        assert_eq!(
            hex::encode(ciphertexts.finalize_boxed(32)),
            "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
        );
    }

    #[test]
    fn another_length_is_no_key() {
        for len in [0, 16, 31, 33] {
            assert_eq!(XaesKey::new(&Secret::random(len)).err(), Some(XaesError));
        }
    }

    #[test]
    fn nonces_differ() {
        let first = key(7).seal(b"", b"same").unwrap();
        let second = key(7).seal(b"", b"same").unwrap();
        assert_ne!(first[..NONCE_LEN], second[..NONCE_LEN]);
        assert_ne!(first[NONCE_LEN..], second[NONCE_LEN..]);
    }

    #[test]
    fn what_is_too_short_does_not_open() {
        for len in 0..OVERHEAD {
            assert_eq!(key(7).open(b"", &vec![0; len]).err(), Some(XaesError));
        }
    }

    proptest! {
        #[test]
        fn opens_what_it_sealed_and_nothing_else(
            aad in proptest::collection::vec(any::<u8>(), 0..64),
            plaintext in proptest::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut sealed = key(9).seal(&aad, &plaintext).unwrap();
            prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
            let opened = key(9).open(&aad, &sealed).unwrap();
            prop_assert_eq!(opened.expose(), plaintext.as_slice());
            prop_assert!(key(8).open(&aad, &sealed).is_err());
            let mut other = aad.clone();
            other.push(0);
            prop_assert!(key(9).open(&other, &sealed).is_err());
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(key(9).open(&aad, &sealed).is_err());
        }
    }
}
