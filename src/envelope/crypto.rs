//! The three primitives that the format uses, from aws-lc, in the form in which it uses them.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::hmac;
use claviger_provider::Secret;
use zeroize::{Zeroize, Zeroizing};

/// The length in bytes of an AES-GCM tag.
const TAG_LEN: usize = 16;

/// A derived 256-bit key, zeroed on drop.
pub(super) type Key256 = Zeroizing<[u8; 32]>;

/// HKDF-Extract with SHA-256 (RFC 5869).
pub(super) fn extract(salt: &[u8], secret: &[u8]) -> Prk {
    Salt::new(HKDF_SHA256, salt).extract(secret)
}

/// HKDF-Expand with SHA-256 (RFC 5869); fails beyond 255 times 32 bytes.
pub(super) fn expand(prk: &Prk, info: &[&[u8]], out: &mut [u8]) -> Result<(), Unspecified> {
    struct Len(usize);
    impl KeyType for Len {
        fn len(&self) -> usize {
            self.0
        }
    }
    prk.expand(info, Len(out.len()))?.fill(out)
}

/// HKDF-Expand to one 256-bit key.
#[allow(clippy::expect_used, reason = "32 bytes are below the limit of 255 times 32")]
pub(super) fn expand_key(prk: &Prk, info: &[&[u8]]) -> Key256 {
    let mut key = Zeroizing::new([0; 32]);
    expand(prk, info, key.as_mut_slice()).expect("HKDF-Expand gives 32 bytes");
    key
}

/// An HMAC-SHA-256 key.
pub(super) fn mac_key(key: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, key)
}

/// HMAC-SHA-256 over a prefix, then each part behind its length as 32 bits, big-endian, so
/// that no two lists of parts give the same input. The parts are parts of an envelope or of
/// its context, both far below 4 GiB.
pub(super) fn framed_mac(key: &hmac::Key, prefix: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = hmac::Context::with_key(key);
    mac.update(prefix);
    for part in parts {
        mac.update(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        mac.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(mac.sign().as_ref());
    out
}

/// Compares two tags in constant time.
pub(super) fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

/// AES-256-GCM: the ciphertext with its 16-byte tag behind it.
#[allow(
    clippy::expect_used,
    reason = "the key has its length, and a plaintext of 4 KiB is below GCM's limit"
)]
pub(super) fn gcm_seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    // Allocate room for the tag at once. A growing vector would leave a copy of the plaintext
    // behind.
    let mut buffer = Vec::with_capacity(plaintext.len() + TAG_LEN);
    buffer.extend_from_slice(plaintext);
    let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes");
    LessSafeKey::new(key)
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer)
        .expect("AES-256-GCM takes 4 KiB");
    buffer
}

/// Opens what [`gcm_seal`] made.
pub(super) fn gcm_open(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], sealed: &[u8]) -> Result<Secret, Unspecified> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(Unspecified)?;
    let mut plaintext = vec![0; ciphertext.len()];
    let key = UnboundKey::new(&AES_256_GCM, key)?;
    let opened =
        LessSafeKey::new(key).open_separate_gather(Nonce::assume_unique_for_key(nonce), Aad::from(aad), ciphertext, tag, &mut plaintext);
    match opened {
        Ok(()) => Ok(Secret::new(plaintext)),
        Err(error) => {
            plaintext.zeroize();
            Err(error)
        }
    }
}
