//! Calls with external keys, and what their responses must be.

use std::time::Duration;

use claviger_provider::kit::lengths::{self, MAX_DATA_KEY};
use claviger_provider::kit::probe;
use claviger_provider::{
    Algorithm, Error, ErrorKind, GcmParts, KeyDescription, KeyId, KeyState, OpContext, ProviderKeyRef, ProviderKind, Secret, Wrapped,
};
use zeroize::Zeroizing;

use crate::api::{Decrypt, Decrypted, Describe, Encrypt, Encrypted, Health, Key, KmsOperation, RequestMetadata, decoded, encoded};
use crate::client::Request;
use crate::errors::{CallError, fault};
use crate::keys::{checked, key_ref};
use crate::names::{KeyName, Region};
use crate::session::Session;

/// The external keys of one connection.
pub(crate) struct ExternalKeys(Session);

/// What a call is made with: its key, and the logical key whose data key it is.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) name: &'a KeyName,
    pub(crate) key: KeyId,
}

pub(crate) fn name(key: &ProviderKeyRef) -> Result<KeyName, Error> {
    KeyName::parse(&key.id).ok_or_else(|| fault(ErrorKind::KeyNotFound, "a name that no external key has"))
}

impl ExternalKeys {
    pub(crate) const fn new(session: Session) -> Self {
        Self(session)
    }

    pub(crate) fn region(&self) -> &Region {
        self.0.region()
    }

    /// The longest time of one call.
    pub(crate) fn budget(&self) -> Duration {
        self.0.budget()
    }

    /// Wraps a data key.
    pub(crate) async fn encrypt(&self, cx: &OpContext, target: Target<'_>, dek: &Secret, aad: &[u8]) -> Result<Wrapped, Error> {
        let operation = "keys/encrypt";
        let metadata = RequestMetadata::using(cx, KmsOperation::encrypting(cx), self.region(), target.key);
        let (plaintext, encoded_aad) = (Zeroizing::new(encoded(dek.expose())), encoded(aad));
        let request = Request::new(
            operation,
            format!("keys/{}/encrypt", target.name.as_str()),
            &Encrypt::new(metadata, &plaintext, &encoded_aad),
        );
        let sent = async { self.0.call::<Encrypted>(cx, &request?).await };
        let ciphertext = sent.await.and_then(|encrypted| checked(&encrypted, dek.len(), aad));
        Ok(Wrapped {
            key: key_ref(target.name),
            algorithm: Algorithm::CborGcm,
            ciphertext: ciphertext.map_err(|error| error.into_error(operation))?,
            key_material: None,
            upstream_request_id: None,
        })
    }

    /// Unwraps a data key.
    pub(crate) async fn decrypt(&self, cx: &OpContext, target: Target<'_>, wrapped: &Wrapped, aad: &[u8]) -> Result<Secret, Error> {
        let operation = "keys/decrypt";
        let rejected = |what| fault(ErrorKind::CiphertextRejected, what);
        if !wrapped.key.version.is_empty() {
            return Err(rejected("a version, which no external key has"));
        }
        let parts = match wrapped.algorithm {
            Algorithm::CborGcm => GcmParts::parse(&wrapped.ciphertext),
            Algorithm::ProviderOpaque
            | Algorithm::RsaOaep256
            | Algorithm::A256Kw
            | Algorithm::A256Kwp
            | Algorithm::Aes256Gcm
            | Algorithm::Xaes256Gcm
            | Algorithm::RsaOaep1 => None,
        };
        let parts = parts
            .filter(|parts| parts.ciphertext.len() <= MAX_DATA_KEY)
            .ok_or_else(|| rejected("no ciphertext of an external key"))?;
        let metadata = RequestMetadata::using(cx, KmsOperation::decrypting(cx), self.region(), target.key);
        let encoded_aad = encoded(aad);
        let request = Request::new(
            operation,
            format!("keys/{}/decrypt", target.name.as_str()),
            &Decrypt::new(metadata, &parts, &encoded_aad),
        );
        let opened = async {
            let decrypted = self.0.call::<Decrypted>(cx, &request?).await?;
            let plaintext = Zeroizing::new(decrypted.plaintext);
            let dek = decoded(&plaintext).map(lengths::unwrapped).transpose()?;
            // As GCM makes it.
            dek.filter(|dek| dek.len() == parts.ciphertext.len())
                .ok_or(CallError::MalformedResponse("plaintext"))
        };
        opened.await.map_err(|error: CallError| error.into_error(operation))
    }

    /// The key's metadata.
    pub(crate) async fn metadata(&self, cx: &OpContext, name: &KeyName) -> Result<Key, Error> {
        let operation = "keys/metadata";
        let body = Describe {
            request_metadata: RequestMetadata::describing(cx, KmsOperation::DescribeKey),
        };
        let request = Request::new(operation, format!("keys/{}/metadata", name.as_str()), &body);
        let sent = async { self.0.call(cx, &request?).await };
        sent.await.map_err(|error: CallError| error.into_error(operation))
    }

    /// Wraps and unwraps random bytes.
    pub(crate) async fn canary(&self, cx: &OpContext, target: Target<'_>) -> Result<(), Error> {
        // The empty map: no context of the gateway's is empty.
        const AAD: &[u8] = &[0xa0];
        probe::canary(ProviderKind::Xks, async |canary| {
            let wrapped = self.encrypt(cx, target, canary, AAD).await?;
            self.decrypt(cx, target, &wrapped, AAD).await
        })
        .await
    }

    /// What the proxy says of itself and of the key managers behind it.
    pub(crate) async fn health(&self, cx: &OpContext) -> Result<Health, Error> {
        let operation = "health";
        let body = Describe {
            request_metadata: RequestMetadata::without_key(cx, KmsOperation::KmsHealthCheck),
        };
        let request = Request::new(operation, operation.to_owned(), &body);
        let sent = async { self.0.call(cx, &request?).await };
        sent.await.map_err(|error: CallError| error.into_error(operation))
    }

    /// Adopts an external key for a logical key.
    pub(crate) async fn adopt(&self, cx: &OpContext, wanted: &str, taken: bool, key: KeyId) -> Result<KeyDescription, Error> {
        let name = KeyName::parse(wanted).ok_or_else(|| {
            fault(ErrorKind::InvalidInput, "adopt a key").advice(
                "provider_key is the external key's id in the key manager: 1 to 128 of letters, digits, '.', '_' and '-'. For AWS it is the \
                 XksKeyId.",
            )
        })?;
        let found = self.metadata(cx, &name).await?;
        found.usable()?;
        if found.state() == KeyState::Disabled {
            return Err(fault(ErrorKind::KeyState, "adopt a key")
                .advice("The external key is disabled: its owner can enable it in the key manager."));
        }
        if taken {
            return Err(fault(ErrorKind::ExternalDenied, "adopt a key"));
        }
        self.canary(cx, Target { name: &name, key }).await?;
        Ok(found.describe(&name))
    }
}
