//! The material of a key version, ready for use.

use std::sync::Arc;

use claviger_provider::oaep::OaepPrivate;
use claviger_provider::xaes::{KEY_LEN, XaesKey};
use claviger_provider::{Algorithm, BoundContext, Error, ErrorKind, KeySpec, Secret};

use crate::errors::{error, fault};

/// One version of a key.
pub(crate) enum OpenedKey {
    Aes(XaesKey),
    Rsa(OaepPrivate),
}

impl OpenedKey {
    /// Generates material of a specification, in the form in which it is stored. An RSA key takes a
    /// second or more, on a blocking thread.
    pub(crate) async fn generate(spec: KeySpec) -> Result<Secret, Error> {
        match spec {
            KeySpec::Aes256 => Ok(Secret::random(KEY_LEN)),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let generated = tokio::task::spawn_blocking(move || OaepPrivate::generate(spec)).await;
                match generated {
                    Ok(Ok(key)) => Ok(key),
                    Ok(Err(error)) => Err(fault("no RSA key could be generated").source(error)),
                    Err(error) => Err(fault("the generation of a key ended early").source(error)),
                }
            }
        }
    }

    /// Opens stored material.
    pub(crate) fn open(spec: KeySpec, stored: &Secret) -> Result<Self, Error> {
        let damaged = |error| fault("a stored key is not of its specification").source(error);
        match spec {
            KeySpec::Aes256 => XaesKey::new(stored)
                .map(Self::Aes)
                .map_err(|_| fault("a stored key has another length")),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => OaepPrivate::from_pkcs8(stored, spec).map(Self::Rsa).map_err(damaged),
        }
    }

    /// The algorithm of the key's ciphertexts.
    pub(crate) const fn algorithm(&self) -> Algorithm {
        match self {
            Self::Aes(_) => Algorithm::Xaes256Gcm,
            Self::Rsa(_) => Algorithm::RsaOaep256,
        }
    }

    pub(crate) fn wrap(&self, dek: &Secret, context: &BoundContext) -> Result<Vec<u8>, Error> {
        match self {
            Self::Aes(key) => key
                .seal(context.bytes(), dek.expose())
                .map_err(|error| fault("sealing failed").source(error)),
            Self::Rsa(key) => key.wrap(dek).map_err(|error| fault("sealing failed").source(error)),
        }
    }

    pub(crate) async fn unwrap(self: Arc<Self>, ciphertext: &[u8], context: &BoundContext) -> Result<Secret, Error> {
        let rejected = || error(ErrorKind::CiphertextRejected, "the ciphertext cannot be decrypted");
        match &*self {
            Self::Aes(key) => key.open(context.bytes(), ciphertext).map_err(|opaque| rejected().source(opaque)),
            Self::Rsa(_) => {
                let ciphertext = ciphertext.to_vec();
                // Takes milliseconds of CPU time, so not on a thread that serves other calls.
                let opened = tokio::task::spawn_blocking(move || match &*self {
                    Self::Rsa(key) => key.unwrap(&ciphertext).ok(),
                    Self::Aes(_) => None,
                });
                let opened = opened.await.map_err(|error| fault("the decryption ended early").source(error))?;
                opened.ok_or_else(rejected)
            }
        }
    }
}
