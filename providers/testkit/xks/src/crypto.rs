//! AES-256-GCM as the specification prescribes it: the additional data binds the lengths of its parts.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand;

/// Length of a tag, in bytes.
pub(crate) const TAG: usize = 16;
/// Length of the key material, in bytes.
pub(crate) const KEY: usize = 32;

/// The parts of an encryption.
pub(crate) struct Parts {
    pub(crate) iv: Vec<u8>,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) tag: Vec<u8>,
    pub(crate) metadata: Vec<u8>,
}

/// Random bytes. A fake without randomness can only stop.
#[allow(clippy::expect_used, reason = "without randomness a fake can only stop")]
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("randomness");
    bytes
}

/// `u16be(len aad) || aad || u8(len metadata) || metadata`; `None` for lengths that have no such form.
fn bound(aad: &[u8], metadata: &[u8]) -> Option<Vec<u8>> {
    let (of_aad, of_metadata) = (u16::try_from(aad.len()).ok()?, u8::try_from(metadata.len()).ok()?);
    Some([&of_aad.to_be_bytes()[..], aad, &[of_metadata], metadata].concat())
}

fn key(material: &[u8; KEY]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, material).ok()?))
}

/// Encrypts under a random IV.
pub(crate) fn encrypt(material: &[u8; KEY], plaintext: Vec<u8>, aad: &[u8], metadata: Vec<u8>) -> Option<Parts> {
    let (iv, bound) = (random::<NONCE_LEN>(), bound(aad, &metadata)?);
    let mut ciphertext = plaintext;
    let nonce = Nonce::assume_unique_for_key(iv);
    let tag = key(material)?
        .seal_in_place_separate_tag(nonce, Aad::from(bound), &mut ciphertext)
        .ok()?;
    Some(Parts {
        iv: iv.to_vec(),
        ciphertext,
        tag: tag.as_ref().to_vec(),
        metadata,
    })
}

/// Decrypts; `None` if anything about it is wrong. An IV of 16 bytes is wrong here, too: aws-lc takes none.
pub(crate) fn decrypt(material: &[u8; KEY], parts: &Parts, aad: &[u8]) -> Option<Vec<u8>> {
    let nonce = Nonce::try_assume_unique_for_key(&parts.iv).ok()?;
    if parts.tag.len() != TAG {
        return None;
    }
    let mut sealed = [parts.ciphertext.as_slice(), &parts.tag].concat();
    let bound = bound(aad, &parts.metadata)?;
    let opened = key(material)?.open_in_place(nonce, Aad::from(bound), &mut sealed).ok()?;
    Some(opened.to_vec())
}

/// `SHA-256(aad || metadata || iv || ciphertext || tag)`.
pub(crate) fn integrity(aad: &[u8], parts: &Parts) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for part in [aad, &parts.metadata, &parts.iv, &parts.ciphertext, &parts.tag] {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}
