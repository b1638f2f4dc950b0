//! The keys derived from the data key (*K* in `docs/format.md`): for the commitment, and in suite 2 for the payload.

use aws_lc_rs::hkdf::Prk;
use claviger_provider::{BoundContext, DekId, Id, Secret};

use super::crypto;

/// The length of a commitment, in bytes.
pub(super) const LEN: usize = 32;

const SALT: &[u8] = b"claviger/v1";
/// A fixed nonce is safe, because the payload's key is derived for one envelope and encrypts once.
const PAYLOAD_NONCE: [u8; 12] = [0; 12];

/// The keys of one envelope.
pub(super) struct Schedule {
    prk: Prk,
    dek_id: DekId,
}

impl Schedule {
    /// Derives the keys from this data key.
    pub(super) fn new(k: &Secret, dek_id: DekId) -> Self {
        Self {
            prk: crypto::extract(SALT, k.expose()),
            dek_id,
        }
    }

    fn key(&self, label: &[u8]) -> crypto::Key256 {
        crypto::expand_key(&self.prk, &[label, self.dek_id.bytes()])
    }

    /// The commitment of the data key to the encoded header and the context.
    pub(super) fn commit(&self, header: &[u8], context: &BoundContext) -> [u8; LEN] {
        let key = crypto::mac_key(self.key(b"commit").as_slice());
        crypto::framed_mac(&key, b"", &[header, context.bytes()])
    }

    /// Whether `commitment` is the one of data key, header and context. Compares in constant time.
    pub(super) fn holds(&self, commitment: &[u8; LEN], header: &[u8], context: &BoundContext) -> bool {
        crypto::same(&self.commit(header, context), commitment)
    }

    /// Seals a caller's bytes as the payload.
    pub(super) fn seal_payload(&self, header: &[u8], plaintext: &Secret) -> Vec<u8> {
        crypto::gcm_seal(&self.key(b"payload"), PAYLOAD_NONCE, header, plaintext.expose())
    }

    /// Decrypts the payload; `None` when it was changed.
    pub(super) fn open_payload(&self, header: &[u8], payload: &[u8]) -> Option<Secret> {
        crypto::gcm_open(&self.key(b"payload"), PAYLOAD_NONCE, header, payload).ok()
    }
}
