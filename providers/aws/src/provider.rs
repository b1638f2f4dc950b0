//! The provider on one region of one account, as one identity.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_kms::operation::RequestId;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::EncryptionAlgorithmSpec;
use claviger_provider::kit::lengths::{self, MAX_DATA_KEY};
use claviger_provider::oaep::OaepPublic;
use claviger_provider::{
    Algorithm, BoundContext, Capabilities, ContextBinding, Error, ErrorKind, Generated, How, Kek, KeyCapabilities, KeyDescription,
    KeyRequest, KeySpec, OpContext, Probe, Provider, ProviderKind, Rewrapped, Rotation, Secret, Wrapped,
};

use crate::client::{Kms, bytes, key_ref, same_key};
use crate::credentials::Role;
use crate::errors::{CallError, code, fault};
use crate::names::KeyArn;
use crate::ownership::{Proof, adopt};
use crate::probe::probe;

/// The most bytes of one wrap under a key of a specification. Encrypt takes 4096 under a
/// symmetric key, as many as the longest data key has.
const fn max_plaintext(spec: KeySpec) -> usize {
    lengths::max_plaintext(spec, MAX_DATA_KEY)
}

/// What every connection of this provider can do.
pub(crate) fn capabilities() -> Capabilities {
    let rsa = |spec| KeyCapabilities {
        spec,
        wrap: How::ThroughMemory,
        generate_data_key: How::ThroughMemory,
        rewrap: How::ThroughMemory,
        context: ContextBinding::CommitmentOnly,
        rotation: Some(Rotation::NewKey),
        max_plaintext: max_plaintext(spec),
        random_nonce_bound: false,
        chooses_version: false,
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
                // KMS derives a key for each encryption (AWS KMS Cryptographic Details).
                random_nonce_bound: false,
                chooses_version: false,
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

/// The KMS keys of one connection.
pub struct AwsProvider {
    pub(crate) kms: Kms,
    pub(crate) proof: Proof,
    /// The role that the connection assumes, if it does.
    pub(crate) role: Option<Role>,
}

/// The encryption context in the SDK's form. It has exactly the pairs of the envelope's context.
fn pairs(context: &BoundContext) -> HashMap<String, String> {
    context.pairs().into_iter().collect()
}

/// The parts of a response that wrapped a data key.
struct WrappedKey {
    ciphertext: Option<Blob>,
    key_material: Option<String>,
    request_id: Option<String>,
}

impl WrappedKey {
    /// Converts to the parts of an envelope's recipient.
    fn under(self, arn: &KeyArn) -> Result<Wrapped, CallError> {
        Ok(Wrapped {
            key: key_ref(arn),
            algorithm: Algorithm::ProviderOpaque,
            ciphertext: bytes(self.ciphertext, "ciphertext")?,
            key_material: self.key_material,
            upstream_request_id: self.request_id,
        })
    }
}

impl AwsProvider {
    async fn encrypt(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let arn = self.kms.arn(&kek.key)?;
        let request = self
            .kms
            .kms
            .encrypt()
            .key_id(arn.as_str())
            .plaintext(Blob::new(dek.expose()))
            .set_encryption_context(Some(pairs(context)));
        let response = self.kms.call(cx, "Encrypt", || request.clone().send()).await?;
        let wrapped = same_key(response.key_id(), &arn).and_then(|()| {
            let request_id = response.request_id().map(str::to_owned);
            // The response of Encrypt does not name the key material.
            let key_material = None;
            let ciphertext = response.ciphertext_blob;
            WrappedKey {
                ciphertext,
                key_material,
                request_id,
            }
            .under(&arn)
        });
        wrapped.map_err(|error| error.into_error("Encrypt"))
    }

    /// The public key of an RSA key, cached or fetched, and the id of the call where it was fetched.
    async fn public_key(&self, cx: &OpContext, arn: &KeyArn, spec: KeySpec) -> Result<(Arc<OaepPublic>, Option<String>), Error> {
        if let Some(public_key) = self.kms.public_keys.get(arn) {
            return Ok((public_key, None));
        }
        let request = self.kms.kms.get_public_key().key_id(arn.as_str());
        let response = self.kms.call(cx, "GetPublicKey", || request.clone().send()).await?;
        let request_id = response.request_id().map(str::to_owned);
        let parsed = same_key(response.key_id(), arn).and_then(|()| {
            let fits = response.encryption_algorithms().contains(&EncryptionAlgorithmSpec::RsaesOaepSha256);
            let der = bytes(response.public_key.filter(|_| fits), "public key")?;
            OaepPublic::from_spki(&der, spec).map_err(|_| CallError::MalformedResponse("public key"))
        });
        let public_key = Arc::new(parsed.map_err(|error| error.into_error("GetPublicKey"))?);
        self.kms.public_keys.put(arn.clone(), &public_key);
        Ok((public_key, request_id))
    }

    /// Wraps with the public key, in this process.
    async fn wrap_locally(&self, cx: &OpContext, kek: &Kek, dek: &Secret) -> Result<Wrapped, Error> {
        let arn = self.kms.arn(&kek.key)?;
        let (public_key, upstream_request_id) = self.public_key(cx, &arn, kek.spec).await?;
        let ciphertext = public_key.wrap(dek);
        Ok(Wrapped {
            key: key_ref(&arn),
            algorithm: Algorithm::RsaOaep256,
            ciphertext: ciphertext.map_err(|error| fault(ErrorKind::Internal, "wrap").source(error))?,
            key_material: None,
            upstream_request_id,
        })
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

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        lengths::check_plaintext(ProviderKind::Aws, dek, max_plaintext(kek.spec))?;
        match kek.spec {
            KeySpec::Aes256 => self.encrypt(cx, kek, dek, context).await,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => self.wrap_locally(cx, kek, dek).await,
        }
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let arn = self.kms.arn(&wrapped.key)?;
        let request = self
            .kms
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
        let response = self.kms.try_call(cx, "Decrypt", || request.clone().send()).await;
        let response = response.map_err(|error| match code(&error) {
            // A key's usage never changes, so the envelope's algorithm is not the key's.
            Some("InvalidKeyUsageException") => error.into_rejection("Decrypt"),
            Some(_) | None => error.into_error("Decrypt"),
        })?;
        let dek = same_key(response.key_id(), &arn)
            .and_then(|()| bytes(response.plaintext, "plaintext"))
            .and_then(lengths::unwrapped);
        dek.map_err(|error| error.into_error("Decrypt"))
    }

    async fn generate_data_key(&self, cx: &OpContext, kek: &Kek, len: usize, context: &BoundContext) -> Result<Generated, Error> {
        let operation = "GenerateDataKey";
        match kek.spec {
            KeySpec::Aes256 => {}
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                return Err(fault(ErrorKind::Unsupported, "the gateway generates data keys of RSA keys"));
            }
        }
        let number = i32::try_from(len).ok().filter(|number| (1..=1024).contains(number));
        let number = number.ok_or_else(|| fault(ErrorKind::TooLarge, "a data key of over 1024 bytes"))?;
        let arn = self.kms.arn(&kek.key)?;
        let request = self
            .kms
            .kms
            .generate_data_key()
            .key_id(arn.as_str())
            .number_of_bytes(number)
            .set_encryption_context(Some(pairs(context)));
        let response = self.kms.call(cx, operation, || request.clone().send()).await?;
        let generated = same_key(response.key_id(), &arn).and_then(|()| {
            let request_id = response.request_id().map(str::to_owned);
            let plaintext = Secret::new(bytes(response.plaintext, "plaintext")?);
            if plaintext.len() != len {
                return Err(CallError::MalformedResponse("data key's length"));
            }
            let wrapped = WrappedKey {
                ciphertext: response.ciphertext_blob,
                key_material: response.key_material_id,
                request_id,
            };
            Ok(Generated {
                plaintext,
                wrapped: wrapped.under(&arn)?,
            })
        });
        generated.map_err(|error| error.into_error(operation))
    }

    async fn rewrap_key(&self, cx: &OpContext, wrapped: &Wrapped, to: &Kek, context: &BoundContext) -> Result<Rewrapped, Error> {
        let operation = "ReEncrypt";
        match to.spec {
            KeySpec::Aes256 => {}
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => return Err(fault(ErrorKind::Unsupported, "RSA keys rewrap through memory")),
        }
        if wrapped.algorithm != Algorithm::ProviderOpaque {
            return Err(fault(ErrorKind::CiphertextRejected, "an algorithm that no symmetric key has"));
        }
        let (from, arn) = (self.kms.arn(&wrapped.key)?, self.kms.arn(&to.key)?);
        let request = self
            .kms
            .kms
            .re_encrypt()
            .ciphertext_blob(Blob::new(wrapped.ciphertext.as_slice()))
            .source_key_id(from.as_str())
            .set_source_encryption_context(Some(pairs(context)))
            .destination_key_id(arn.as_str())
            .set_destination_encryption_context(Some(pairs(context)));
        let response = self.kms.call(cx, operation, || request.clone().send()).await?;
        let same_keys = same_key(response.source_key_id(), &from).and_then(|()| same_key(response.key_id(), &arn));
        let wrapped = same_keys.and_then(|()| {
            let request_id = response.request_id().map(str::to_owned);
            let wrapped = WrappedKey {
                ciphertext: response.ciphertext_blob,
                key_material: response.destination_key_material_id,
                request_id,
            };
            wrapped.under(&arn)
        });
        let wrapped = wrapped.map_err(|error| error.into_error(operation))?;
        Ok(Rewrapped { wrapped })
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        match &request.adopt {
            Some(name) => adopt(&self.kms, self.proof, cx, name, request.key_id).await,
            None => {
                let created = self.kms.create(cx, request).await?;
                Ok(self.kms.found(cx, created).await.describe(&[]))
            }
        }
    }

    async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        Ok(self.kms.find_made(cx, request).await?.map(|key| key.describe(&[])))
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        match kek.spec {
            KeySpec::Aes256 => self.kms.rotate_on_demand(cx, kek).await,
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                // A key that is deleted or disabled gets no next version.
                self.kms.look_up(cx, &self.kms.arn(&kek.key)?).await?.usable()?;
                let next = KeyRequest {
                    key_id: kek.id,
                    made_as: kek.id,
                    repeated: false,
                    spec: kek.spec,
                    adopt: None,
                    taken: false,
                };
                Ok(self.kms.create(cx, &next).await?.describe(&[]))
            }
        }
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let key = self.kms.look_up(cx, &self.kms.arn(&kek.key)?).await?;
        let rotations = self.kms.rotation_history(cx, &key).await?;
        Ok(key.describe(&rotations))
    }

    async fn set_state(&self, cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        self.kms.set_enabled(cx, &self.kms.arn(&kek.key)?, enabled).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        Ok(probe(&self.kms, self.proof, self.role.as_ref(), cx, keks).await)
    }
}
