//! The provider on one region of one account, as one identity.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use claviger_provider::oaep::{self, OaepPublic};
use claviger_provider::{
    Algorithm, BoundContext, Capabilities, ContextBinding, Error, ErrorKind, Generated, How, Kek, KeyCapabilities, KeyDescription,
    KeyRequest, KeySpec, OpContext, Probe, Provider, ProviderKeyRef, ProviderKind, PublicKeys, Rewrapped, Rotation, Secret, Wrapped,
};

use crate::client::Clients;
use crate::errors::{CallError, fault};
use crate::identity::Role;
use crate::names::{KeyArn, Region};
use crate::ownership::Proof;

/// The most bytes that Encrypt takes under a symmetric key.
const MAX_PLAINTEXT: usize = 4096;

/// The most bytes of one wrap under a key of a specification.
fn max_plaintext(spec: KeySpec) -> usize {
    oaep::max_plaintext(spec).unwrap_or(MAX_PLAINTEXT)
}

/// What every connection of this family can do.
pub(crate) fn capabilities() -> Capabilities {
    let rsa = |spec| KeyCapabilities {
        spec,
        wrap: How::ThroughMemory,
        generate_data_key: How::ThroughMemory,
        rewrap: How::ThroughMemory,
        context: ContextBinding::CommitmentOnly,
        rotation: Some(Rotation::NewKey),
        max_plaintext: max_plaintext(spec),
    };
    Capabilities {
        keys: vec![
            KeyCapabilities {
                spec: KeySpec::Aes256,
                wrap: How::InsideProvider,
                generate_data_key: How::InsideProvider,
                rewrap: How::InsideProvider,
                context: ContextBinding::Pairs,
                rotation: Some(Rotation::InPlaceUnnamed),
                max_plaintext: max_plaintext(KeySpec::Aes256),
            },
            rsa(KeySpec::Rsa3072),
            rsa(KeySpec::Rsa4096),
        ],
        create_key: true,
        set_state: true,
        schedule_deletion: false,
        import: false,
    }
}

/// KMS keys of one connection.
pub struct AwsProvider {
    pub(crate) clients: Clients,
    pub(crate) region: Region,
    pub(crate) proof: Proof,
    /// The role that is assumed, if one is.
    pub(crate) role: Option<Role>,
    pub(crate) public_keys: PublicKeys<KeyArn>,
}

/// The pairs as the SDK takes them: exactly those of the envelope.
pub(crate) fn pairs(context: &BoundContext) -> HashMap<String, String> {
    context.pairs().iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Bytes that an answer must have.
pub(crate) fn bytes(blob: Option<Blob>, part: &'static str, operation: &'static str) -> Result<Vec<u8>, Error> {
    let bytes = blob.map(Blob::into_inner).filter(|bytes| !bytes.is_empty());
    bytes.ok_or_else(|| CallError::MalformedResponse(part).into_error(operation))
}

impl AwsProvider {
    /// The key that a provider key id names: another region's is no key of this connection.
    pub(crate) fn arn(&self, key: &ProviderKeyRef) -> Result<KeyArn, Error> {
        KeyArn::of_id(&key.id, &self.region).ok_or_else(|| fault(ErrorKind::KeyNotFound, "a key id of another place"))
    }

    /// Holds the key that an answer tells against the one that was asked for.
    pub(crate) fn same(&self, told: Option<&str>, asked: &KeyArn, operation: &'static str) -> Result<(), Error> {
        match told {
            Some(told) if told == asked.as_str() => Ok(()),
            Some(_) | None => Err(CallError::MalformedResponse("key").into_error(operation)),
        }
    }

    async fn encrypt(&self, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let operation = "encrypt";
        let arn = self.arn(&kek.key)?;
        let request = self
            .clients
            .kms
            .encrypt()
            .key_id(arn.as_str())
            .plaintext(Blob::new(dek.expose()))
            .set_encryption_context(Some(pairs(context)));
        let answer = self.clients.call(|| request.clone().send()).await;
        let answer = answer.map_err(|failed| failed.into_error(operation))?;
        self.same(answer.key_id(), &arn, operation)?;
        let upstream_request_id = answer.request_id().map(str::to_owned);
        Ok(Wrapped {
            key: whole(&arn),
            algorithm: Algorithm::ProviderOpaque,
            ciphertext: bytes(answer.ciphertext_blob, "ciphertext", operation)?,
            // Encrypt does not tell it.
            key_material: None,
            upstream_request_id,
        })
    }

    /// The public key of an RSA key: kept, or fetched.
    async fn public_key(&self, arn: &KeyArn, spec: KeySpec) -> Result<(Arc<OaepPublic>, Option<String>), Error> {
        let operation = "get the public key";
        if let Some(public_key) = self.public_keys.get(arn) {
            return Ok((public_key, None));
        }
        let request = self.clients.kms.get_public_key().key_id(arn.as_str());
        let answer = self.clients.call(|| request.clone().send()).await;
        let answer = answer.map_err(|failed| failed.into_error(operation))?;
        self.same(answer.key_id(), arn, operation)?;
        if !answer.encryption_algorithms().contains(&EncryptionAlgorithmSpec::RsaesOaepSha256) {
            return Err(no_public_key());
        }
        let request_id = answer.request_id().map(str::to_owned);
        let der = bytes(answer.public_key, "public key", operation)?;
        let public_key = Arc::new(OaepPublic::from_spki(&der, spec).map_err(|_| no_public_key())?);
        self.public_keys.put(arn.clone(), &public_key);
        Ok((public_key, request_id))
    }

    async fn wrap_here(&self, kek: &Kek, dek: &Secret) -> Result<Wrapped, Error> {
        let arn = self.arn(&kek.key)?;
        let (public_key, upstream_request_id) = self.public_key(&arn, kek.spec).await?;
        Ok(Wrapped {
            key: whole(&arn),
            algorithm: Algorithm::RsaOaep256,
            ciphertext: public_key
                .wrap(dek)
                .map_err(|error| fault(ErrorKind::Internal, "wrap").source(error))?,
            key_material: None,
            upstream_request_id,
        })
    }
}

/// A public key that is none, or one of another size than the key has.
fn no_public_key() -> Error {
    CallError::MalformedResponse("public key").into_error("get the public key")
}

/// A key without a version: AWS names none in its ciphertexts.
pub(crate) fn whole(arn: &KeyArn) -> ProviderKeyRef {
    ProviderKeyRef {
        id: arn.id(),
        version: String::new(),
    }
}

#[async_trait]
impl Provider for AwsProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Aws
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn wrap_key(&self, _cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        if dek.is_empty() {
            return Err(fault(ErrorKind::InvalidInput, "an empty key"));
        }
        if dek.len() > max_plaintext(kek.spec) {
            return Err(fault(ErrorKind::TooLarge, "over the most bytes of one wrap"));
        }
        match kek.spec {
            KeySpec::Aes256 => self.encrypt(kek, dek, context).await,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => self.wrap_here(kek, dek).await,
        }
    }

    async fn unwrap_key(&self, _cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let operation = "decrypt";
        let arn = self.arn(&wrapped.key)?;
        let request = self
            .clients
            .kms
            .decrypt()
            .key_id(arn.as_str())
            .ciphertext_blob(Blob::new(wrapped.ciphertext.as_slice()));
        let request = match wrapped.algorithm {
            Algorithm::ProviderOpaque => request.set_encryption_context(Some(pairs(context))),
            Algorithm::RsaOaep256 => request.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256),
            Algorithm::A256Kw
            | Algorithm::A256Kwp
            | Algorithm::Aes256Gcm
            | Algorithm::Xaes256Gcm
            | Algorithm::CborGcm
            | Algorithm::RsaOaep1 => {
                return Err(fault(
                    ErrorKind::CiphertextRejected,
                    "an algorithm that no key of this provider has",
                ));
            }
        };
        let answer = self
            .clients
            .call(|| request.clone().send())
            .await
            .map_err(|failed| match failed.code() {
                // A key's usage never changes: it is the algorithm that is another than the key's.
                Some("InvalidKeyUsageException") => fault(ErrorKind::CiphertextRejected, operation),
                Some(_) | None => failed.into_error(operation),
            })?;
        self.same(answer.key_id(), &arn, operation)?;
        let dek = Secret::new(bytes(answer.plaintext, "plaintext", operation)?);
        match dek.len() {
            1..=MAX_PLAINTEXT => Ok(dek),
            _ => Err(CallError::MalformedResponse("plaintext").into_error(operation)),
        }
    }

    async fn generate_data_key(&self, _cx: &OpContext, kek: &Kek, len: usize, context: &BoundContext) -> Result<Generated, Error> {
        let operation = "generate a data key";
        match kek.spec {
            KeySpec::Aes256 => {}
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => return Err(fault(ErrorKind::Unsupported, "data keys are made here for RSA keys")),
        }
        let number = i32::try_from(len).ok().filter(|number| (1..=1024).contains(number));
        let number = number.ok_or_else(|| fault(ErrorKind::TooLarge, "a data key of over 1024 bytes"))?;
        let arn = self.arn(&kek.key)?;
        let request = self
            .clients
            .kms
            .generate_data_key()
            .key_id(arn.as_str())
            .number_of_bytes(number)
            .set_encryption_context(Some(pairs(context)));
        let answer = self.clients.call(|| request.clone().send()).await;
        let answer = answer.map_err(|failed| failed.into_error(operation))?;
        self.same(answer.key_id(), &arn, operation)?;
        let upstream_request_id = answer.request_id().map(str::to_owned);
        let plaintext = Secret::new(bytes(answer.plaintext, "plaintext", operation)?);
        if plaintext.len() != len {
            return Err(CallError::MalformedResponse("data key's length").into_error(operation));
        }
        Ok(Generated {
            plaintext,
            wrapped: Wrapped {
                key: whole(&arn),
                algorithm: Algorithm::ProviderOpaque,
                ciphertext: bytes(answer.ciphertext_blob, "ciphertext", operation)?,
                key_material: answer.key_material_id,
                upstream_request_id,
            },
        })
    }

    async fn rewrap_key(&self, _cx: &OpContext, wrapped: &Wrapped, to: &Kek, context: &BoundContext) -> Result<Rewrapped, Error> {
        let operation = "re-encrypt";
        match to.spec {
            KeySpec::Aes256 => {}
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => return Err(fault(ErrorKind::Unsupported, "RSA keys rewrap through memory")),
        }
        if wrapped.algorithm != Algorithm::ProviderOpaque {
            return Err(fault(ErrorKind::CiphertextRejected, "an algorithm that no symmetric key has"));
        }
        let (from, arn) = (self.arn(&wrapped.key)?, self.arn(&to.key)?);
        let request = self
            .clients
            .kms
            .re_encrypt()
            .ciphertext_blob(Blob::new(wrapped.ciphertext.as_slice()))
            .source_key_id(from.as_str())
            .set_source_encryption_context(Some(pairs(context)))
            .destination_key_id(arn.as_str())
            .set_destination_encryption_context(Some(pairs(context)));
        let answer = self.clients.call(|| request.clone().send()).await;
        let answer = answer.map_err(|failed| failed.into_error(operation))?;
        self.same(answer.source_key_id(), &from, operation)?;
        self.same(answer.key_id(), &arn, operation)?;
        let upstream_request_id = answer.request_id().map(str::to_owned);
        Ok(Rewrapped {
            wrapped: Wrapped {
                key: whole(&arn),
                algorithm: Algorithm::ProviderOpaque,
                ciphertext: bytes(answer.ciphertext_blob, "ciphertext", operation)?,
                key_material: answer.destination_key_material_id,
                upstream_request_id,
            },
        })
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        match &request.adopt {
            Some(name) => self.adopt(cx, name, request.key_id).await,
            None => Ok(self.make(cx, request.key_id, request.spec).await?.describe(&[])),
        }
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        match kek.spec {
            KeySpec::Aes256 => self.rotate_on_demand(cx, kek).await,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                // Nothing is to be made for a key that is gone or switched off.
                self.look_up(&self.arn(&kek.key)?, "rotate").await?.usable()?;
                Ok(self.make(cx, kek.id, kek.spec).await?.describe(&[]))
            }
        }
    }

    async fn describe(&self, _cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let key = self.look_up(&self.arn(&kek.key)?, "describe").await?;
        let rotations = self.history(&key, "describe").await?;
        Ok(key.describe(&rotations))
    }

    async fn set_state(&self, _cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        self.switch(&self.arn(&kek.key)?, enabled).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        crate::probe::probe(self, cx, keks).await
    }
}
