//! The material of a key version, ready for use.

use std::sync::Arc;

use claviger_provider::oaep::OaepPrivate;
use claviger_provider::xaes::{KEY_LEN, XaesKey};
use claviger_provider::{Algorithm, BoundContext, Error, ErrorKind, KeySpec, Secret, TenantId};

use crate::errors::{error, fault};
use crate::work::Work;

/// One version of a key.
pub(crate) enum OpenedKey {
    Aes(XaesKey),
    Rsa(OaepPrivate),
}

impl OpenedKey {
    /// Generates material of a specification, in the form in which it is stored. An RSA key takes a
    /// second or more.
    pub(crate) async fn generate(work: &Work, tenant: TenantId, spec: KeySpec) -> Result<Secret, Error> {
        match spec {
            KeySpec::Aes256 => Ok(Secret::random(KEY_LEN)),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let generated = work.run(tenant, move || OaepPrivate::generate(spec)).await?;
                generated.map_err(|error| fault("no RSA key could be generated").source(error))
            }
        }
    }

    /// Opens stored material.
    pub(crate) async fn open(work: &Work, tenant: TenantId, spec: KeySpec, stored: Secret) -> Result<Self, Error> {
        match spec {
            KeySpec::Aes256 => XaesKey::new(&stored)
                .map(Self::Aes)
                .map_err(|_| fault("a stored key has another length")),
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                // Boxed: an unwrap opens a key only once, and its own future stays small.
                let opened = Box::pin(work.run(tenant, move || OaepPrivate::from_pkcs8(&stored, spec))).await?;
                opened
                    .map(Self::Rsa)
                    .map_err(|error| fault("a stored key is not of its specification").source(error))
            }
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

    pub(crate) async fn unwrap(
        self: Arc<Self>,
        work: &Work,
        tenant: TenantId,
        ciphertext: &[u8],
        context: &BoundContext,
    ) -> Result<Secret, Error> {
        let rejected = || error(ErrorKind::CiphertextRejected, "the ciphertext cannot be decrypted");
        match &*self {
            Self::Aes(key) => key.open(context.bytes(), ciphertext).map_err(|opaque| rejected().source(opaque)),
            Self::Rsa(_) => {
                let ciphertext = ciphertext.to_vec();
                let opened = work.run(tenant, move || match &*self {
                    Self::Rsa(key) => key.unwrap(&ciphertext).ok(),
                    Self::Aes(_) => None,
                });
                Box::pin(opened).await?.ok_or_else(rejected)
            }
        }
    }
}
