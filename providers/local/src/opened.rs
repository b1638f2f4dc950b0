//! A key's material, opened for use.

use std::sync::Arc;

use claviger_provider::oaep::OaepPrivate;
use claviger_provider::xaes::{KEY_LEN, XaesKey};
use claviger_provider::{Algorithm, BoundContext, Error, ErrorKind, KeySpec, Secret};

use crate::{error, fault};

/// One version of a key.
pub(crate) enum Opened {
    Aes(XaesKey),
    Rsa(OaepPrivate),
}

impl Opened {
    /// Fresh material of a specification, in the form in which it is stored. An RSA key takes
    /// a second or more, on a thread of its own.
    pub(crate) async fn draw(spec: KeySpec) -> Result<Secret, Error> {
        match spec {
            KeySpec::Aes256 => Ok(Secret::random(KEY_LEN)),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let drawn = tokio::task::spawn_blocking(move || OaepPrivate::generate(spec)).await;
                match drawn {
                    Ok(Ok(key)) => Ok(key),
                    Ok(Err(error)) => Err(fault("an RSA key could not be drawn").source(error)),
                    Err(error) => Err(fault("the drawing of a key ended early").source(error)),
                }
            }
        }
    }

    pub(crate) fn open(spec: KeySpec, stored: &Secret) -> Result<Self, Error> {
        let damaged = |error| fault("a stored key is not of its specification").source(error);
        match spec {
            KeySpec::Aes256 => XaesKey::new(stored)
                .map(Self::Aes)
                .map_err(|_| fault("a stored key has another length")),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => OaepPrivate::from_pkcs8(stored, spec).map(Self::Rsa).map_err(damaged),
        }
    }

    /// What this key's ciphertexts are called.
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
        let rejected = || error(ErrorKind::CiphertextRejected, "the ciphertext does not open");
        match &*self {
            Self::Aes(key) => key.open(context.bytes(), ciphertext).map_err(|opaque| rejected().source(opaque)),
            Self::Rsa(_) => {
                let ciphertext = ciphertext.to_vec();
                // Milliseconds of computing: not on a thread that serves others meanwhile.
                let opened = tokio::task::spawn_blocking(move || match &*self {
                    Self::Rsa(key) => key.unwrap(&ciphertext).ok(),
                    Self::Aes(_) => None,
                });
                let opened = opened.await.map_err(|error| fault("the opening ended early").source(error))?;
                opened.ok_or_else(rejected)
            }
        }
    }
}
