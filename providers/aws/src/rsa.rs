//! The public halves of RSA keys: fetched once in a while, used here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use claviger_provider::{Error, ErrorKind, KeySpec, Secret};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::errors::{Failed, fault};
use crate::names::KeyArn;

/// How long a public half is used before KMS is asked again: so long a key that its owner
/// disabled at AWS still wraps, though it unwraps no more.
const KEPT: Duration = Duration::from_secs(60);
/// The most public halves of one connection.
const MAX_KEPT: usize = 1024;

/// A public half.
pub(crate) struct PublicHalf(OaepPublicEncryptingKey);

impl PublicHalf {
    /// Reads what KMS calls a public key (X.509, DER) and holds it against the specification.
    pub(crate) fn parse(der: &[u8], spec: KeySpec) -> Option<Self> {
        let key = PublicEncryptingKey::from_der(der).ok()?;
        (key.key_size_bits() == bits(spec)?).then(|| OaepPublicEncryptingKey::new(key).ok().map(Self))?
    }

    /// RSA-OAEP with SHA-256 and MGF1-SHA-256, without a label.
    pub(crate) fn wrap(&self, dek: &Secret) -> Result<Vec<u8>, Error> {
        let mut ciphertext = vec![0; self.0.ciphertext_size()];
        let len = self
            .0
            .encrypt(&OAEP_SHA256_MGF1SHA256, dek.expose(), &mut ciphertext, None)
            .map_err(|_| fault(ErrorKind::Internal, "RSA-OAEP failed"))?
            .len();
        ciphertext.truncate(len);
        Ok(ciphertext)
    }
}

const fn bits(spec: KeySpec) -> Option<usize> {
    match spec {
        KeySpec::Aes256 => None,
        KeySpec::Rsa3072 => Some(3072),
        KeySpec::Rsa4096 => Some(4096),
    }
}

/// The most bytes of one wrap: the modulus less two hashes of SHA-256 and two bytes.
pub(crate) const fn max_plaintext(bits: usize) -> usize {
    bits / 8 - 2 * 32 - 2
}

/// Public halves by key.
#[derive(Default)]
pub(crate) struct PublicHalves(Mutex<HashMap<KeyArn, (Instant, Arc<PublicHalf>)>>);

impl PublicHalves {
    pub(crate) fn get(&self, key: &KeyArn) -> Option<Arc<PublicHalf>> {
        let kept = self.0.lock();
        let (fetched, half) = kept.get(key)?;
        (fetched.elapsed() < KEPT).then(|| Arc::clone(half))
    }

    pub(crate) fn put(&self, key: KeyArn, half: &Arc<PublicHalf>) {
        let mut kept = self.0.lock();
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (fetched, _)| fetched.elapsed() < KEPT);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(key, (Instant::now(), Arc::clone(half)));
        }
    }

    pub(crate) fn forget(&self, key: &KeyArn) {
        self.0.lock().remove(key);
    }
}

/// A public key that is none, or one of another size than the key has.
pub(crate) fn nonsense() -> Error {
    Failed::Nonsense("public key").into_error("get the public key")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
    use claviger_provider::{KeySpec, Secret};

    use super::{PublicHalf, max_plaintext};

    #[test]
    fn what_a_public_half_wraps_the_private_one_opens() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
        assert!(PublicHalf::parse(der.as_ref(), KeySpec::Rsa4096).is_none());
        assert!(PublicHalf::parse(der.as_ref(), KeySpec::Aes256).is_none());
        assert!(PublicHalf::parse(&der.as_ref()[1..], KeySpec::Rsa3072).is_none());
        let half = PublicHalf::parse(der.as_ref(), KeySpec::Rsa3072).unwrap();
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        for len in [1, 32, max_plaintext(3072)] {
            let dek = Secret::random(len);
            let ciphertext = half.wrap(&dek).unwrap();
            assert_eq!(ciphertext.len(), 384);
            let mut opened = vec![0; private.min_output_size()];
            let opened = private.decrypt(&OAEP_SHA256_MGF1SHA256, &ciphertext, &mut opened, None).unwrap();
            assert_eq!(opened, dek.expose());
        }
        assert!(half.wrap(&Secret::random(max_plaintext(3072) + 1)).is_err());
    }
}
