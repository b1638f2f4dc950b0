//! Wrap and unwrap, and what a refusal of them means.

use std::collections::BTreeMap;

use claviger_provider::kit::lengths::unwrapped;
use claviger_provider::kit::probe::canary;
use claviger_provider::{
    Algorithm, BoundContext, Error, ErrorKind, GcmParts, OpContext, ProviderKeyRef, ProviderKind, Secret, Wrapped, fill_random,
};

use crate::api::IV;
use crate::codes;
use crate::errors::{CallError, Refusal, fault, reason};
use crate::key_manager::{KeyManager, id};

impl KeyManager {
    /// Wraps a data key.
    pub(crate) async fn wrap(&self, cx: &OpContext, key: &ProviderKeyRef, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let operation = "Encrypt";
        let id = id(key)?;
        let iv = (!self.server_iv).then(|| {
            let mut iv = [0; IV];
            fill_random(&mut iv);
            iv
        });
        let called = match self.client.encrypt(cx, id, iv, dek, context.bytes()).await {
            Ok(called) => called,
            Err(error) => return Err(self.refused(cx, error, id, operation).await),
        };
        let malformed = |part| CallError::MalformedResponse(part).into_error(operation);
        let encrypted = called.value;
        // A data key of one byte may well be encrypted as itself.
        let is_plain = dek.len() >= 16 && encrypted.data == dek.expose();
        if encrypted.data.len() != dek.len() || is_plain {
            return Err(malformed("data"));
        }
        // A server may use another one than it was given.
        let used = encrypted
            .iv
            .or(iv.map(Vec::from))
            .ok_or_else(|| malformed("initialization vector"))?;
        let parts = GcmParts {
            iv: &used,
            ciphertext: &encrypted.data,
            tag: &encrypted.tag,
            metadata: &[],
        };
        Ok(Wrapped {
            key: key.clone(),
            algorithm: Algorithm::CborGcm,
            ciphertext: parts.encode().ok_or_else(|| malformed("tag"))?,
            key_material: None,
            upstream_request_id: called.request_id,
        })
    }

    /// Unwraps a data key.
    pub(crate) async fn unwrap(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let operation = "Decrypt";
        let rejected = |why| fault(ErrorKind::CiphertextRejected, why);
        if wrapped.algorithm != Algorithm::CborGcm {
            return Err(rejected("an algorithm that no key of this provider has"));
        }
        if !wrapped.key.version.is_empty() {
            return Err(rejected("a version, which no key of this provider has"));
        }
        let id = id(&wrapped.key)?;
        let parts = GcmParts::parse(&wrapped.ciphertext)
            .filter(|parts| parts.metadata.is_empty())
            .ok_or_else(|| rejected("not a ciphertext of this provider"))?;
        let error = match self
            .client
            .decrypt(cx, id, parts.iv, parts.ciphertext, context.bytes(), parts.tag)
            .await
        {
            Ok(called) if called.value.len() == parts.ciphertext.len() => {
                return unwrapped::<Refusal>(called.value.expose().to_vec()).map_err(|error| error.into_error(operation));
            }
            Ok(_) => return Err(CallError::MalformedResponse("data").into_error(operation)),
            Err(error) => error,
        };
        if may_be_the_ciphertext(&error) {
            let is_the_ciphertext = match self.works(cx, &wrapped.key).await {
                // The key works, so it is the ciphertext, or its context.
                Ok(()) => true,
                // A deactivated key wraps no canary, and still decrypts: the server's word has to do.
                Err(failed) => failed.kind == ErrorKind::KeyState && reason(&error) == Some(codes::CRYPTOGRAPHIC_FAILURE),
            };
            if is_the_ciphertext {
                return Err(error.into_rejection(operation));
            }
        }
        Err(self.refused(cx, error, id, operation).await)
    }

    /// Checks that a key works. A canary is a wrap that is not counted: what passed a moment ago is not tried again, so that
    /// callers with wrong wrapped keys do not use up the key's initialization vectors.
    async fn works(&self, cx: &OpContext, key: &ProviderKeyRef) -> Result<(), Error> {
        if !self.passed.has(&key.id) {
            self.canary(cx, key).await?;
            self.passed.note(&key.id);
        }
        Ok(())
    }

    /// What a refused call with a key means. A server may deny a call for the key's state.
    async fn refused(&self, cx: &OpContext, error: CallError, id: &str, operation: &'static str) -> Error {
        let may_be_the_state = matches!(
            reason(&error),
            Some(codes::PERMISSION_DENIED | codes::ILLEGAL_OPERATION | codes::INVALID_FIELD)
        );
        if may_be_the_state && let Ok(key) = self.client.attributes(cx, id).await {
            match key.usable() {
                Ok(()) => {}
                // What the key is, it was when it was adopted: its owner has changed it.
                Err(unusable) => {
                    return Error {
                        kind: ErrorKind::KeyState,
                        advice: unusable.advice,
                        ..error.into_error(operation)
                    };
                }
            }
        }
        error.into_error(operation)
    }

    /// Wraps and unwraps random bytes with a key.
    pub(crate) async fn canary(&self, cx: &OpContext, key: &ProviderKeyRef) -> Result<(), Error> {
        // The empty map, which the gateway never uses as a context.
        let context = BoundContext::new(BTreeMap::new(), vec![0xa0]);
        canary(ProviderKind::Kmip, async |dek| {
            let wrapped = self.wrap(cx, key, dek, &context).await?;
            let parts = GcmParts::parse(&wrapped.ciphertext).ok_or_else(|| fault(ErrorKind::Internal, "a canary"))?;
            let id = id(key)?;
            let opened = self
                .client
                .decrypt(cx, id, parts.iv, parts.ciphertext, context.bytes(), parts.tag)
                .await;
            match opened {
                Ok(called) => Ok(called.value),
                Err(error) => Err(self.refused(cx, error, id, "Decrypt").await),
            }
        })
        .await
    }
}

/// Whether a refused decryption can be one of the ciphertext. Servers have no common reason for a wrong tag: PyKMIP
/// says General Failure, as for any fault inside it.
fn may_be_the_ciphertext(error: &CallError) -> bool {
    matches!(
        reason(error),
        Some(codes::GENERAL_FAILURE | codes::CRYPTOGRAPHIC_FAILURE | codes::INVALID_FIELD | codes::ILLEGAL_OPERATION)
    )
}
