//! The provider on one key ring, as one identity.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use claviger_provider::oaep::{self, OaepPublic};
use claviger_provider::{
    Algorithm, BoundContext, Capabilities, ContextBinding, Error, ErrorKind, Generated, How, Kek, KeyCapabilities, KeyDescription,
    KeyRequest, KeySpec, OpContext, Probe, Provider, ProviderKeyRef, ProviderKind, PublicKeys, Rotation, Secret, Wrapped,
};
use google_cloud_kms_v1::client::KeyManagementService;
use google_cloud_kms_v1::model::ProtectionLevel;
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionAlgorithm;

use crate::checksum::{crc32c, same, verified};
use crate::client::Kms;
use crate::errors::{CallError, fault};
use crate::keys::named;
use crate::names::{KeyName, KeyRing, Number};

/// The most bytes of one wrap under a symmetric key. Google takes 64 KiB, and 8 KiB together
/// with the context under an HSM's key.
const MAX_PLAINTEXT: usize = 4096;
/// The fewest bytes that the HSM's generator gives.
const MIN_RANDOM: usize = 8;

/// The most bytes of one wrap under a key of a specification.
fn max_plaintext(spec: KeySpec) -> usize {
    oaep::max_plaintext(spec).unwrap_or(MAX_PLAINTEXT)
}

/// What a connection of this family can do; `random` says that its data keys come from the
/// HSM's generator.
pub(crate) fn capabilities(random: bool) -> Capabilities {
    let generate_data_key = if random { How::InsideProvider } else { How::ThroughMemory };
    let rsa = |spec| KeyCapabilities {
        spec,
        wrap: How::ThroughMemory,
        generate_data_key,
        rewrap: How::ThroughMemory,
        context: ContextBinding::CommitmentOnly,
        rotation: Some(Rotation::InPlace),
        max_plaintext: max_plaintext(spec),
    };
    Capabilities {
        keys: vec![
            KeyCapabilities {
                spec: KeySpec::Aes256,
                wrap: How::InsideProvider,
                generate_data_key,
                rewrap: How::ThroughMemory,
                context: ContextBinding::AssociatedData,
                rotation: Some(Rotation::InPlace),
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

/// Cloud KMS keys of one connection.
pub struct GcpProvider {
    pub(crate) kms: Kms,
    pub(crate) ring: KeyRing,
    /// Where the material of keys that are made here is.
    pub(crate) level: ProtectionLevel,
    /// Whether data keys come from the HSM's generator.
    pub(crate) random: bool,
    pub(crate) public_keys: PublicKeys<(KeyName, Number)>,
    /// How long the material of a new version is waited for.
    pub(crate) patience: Duration,
}

impl GcpProvider {
    /// The key that a provider key id names: another key ring's is no key of this connection.
    pub(crate) fn name(&self, key: &ProviderKeyRef) -> Result<KeyName, Error> {
        self.ring
            .of_id(&key.id)
            .ok_or_else(|| fault(ErrorKind::KeyNotFound, "a key id of another place"))
    }

    pub(crate) fn number(key: &ProviderKeyRef) -> Result<Number, Error> {
        Number::parse(&key.version).ok_or_else(|| fault(ErrorKind::KeyNotFound, "a version that is no number"))
    }

    /// Encrypts under the version that is named, or the primary one.
    pub(crate) async fn encrypt(&self, name: &KeyName, version: Option<Number>, dek: &Secret, aad: &[u8]) -> Result<Wrapped, Error> {
        let operation = "encrypt";
        let resource = version.map_or_else(|| name.as_str().to_owned(), |number| name.version(number));
        let send = |kms: &KeyManagementService| {
            kms.encrypt()
                .set_name(resource.as_str())
                .set_plaintext(Bytes::copy_from_slice(dek.expose()))
                .set_plaintext_crc32c(crc32c(dek.expose()))
                .set_additional_authenticated_data(Bytes::copy_from_slice(aad))
                .set_additional_authenticated_data_crc32c(crc32c(aad))
                .send()
        };
        let answer = self.kms.call(send).await.map_err(|failed| failed.into_error(operation))?;
        verified(
            &[
                answer.verified_plaintext_crc32c,
                answer.verified_additional_authenticated_data_crc32c,
            ],
            operation,
        )?;
        same(&answer.ciphertext, answer.ciphertext_crc32c, operation)?;
        let used = name
            .number_of(&answer.name)
            .filter(|used| version.is_none_or(|asked| asked == *used));
        let used = used.ok_or_else(|| CallError::MalformedResponse("version").into_error(operation))?;
        Ok(Wrapped {
            key: named(name, used),
            algorithm: Algorithm::ProviderOpaque,
            ciphertext: answer.ciphertext.into(),
            key_material: None,
            // Google's answers have no id.
            upstream_request_id: None,
        })
    }

    /// Decrypts; Google finds the version by itself.
    pub(crate) async fn decrypt(&self, name: &KeyName, ciphertext: &[u8], aad: &[u8]) -> Result<Secret, Error> {
        let operation = "decrypt";
        let send = |kms: &KeyManagementService| {
            kms.decrypt()
                .set_name(name.as_str())
                .set_ciphertext(Bytes::copy_from_slice(ciphertext))
                .set_ciphertext_crc32c(crc32c(ciphertext))
                .set_additional_authenticated_data(Bytes::copy_from_slice(aad))
                .set_additional_authenticated_data_crc32c(crc32c(aad))
                .send()
        };
        let answer = self.kms.call(send).await.map_err(|failed| rejected(failed, operation))?;
        same(&answer.plaintext, answer.plaintext_crc32c, operation)?;
        opened(answer.plaintext.into(), operation)
    }

    pub(crate) async fn asymmetric_decrypt(&self, name: &KeyName, version: Number, ciphertext: &[u8]) -> Result<Secret, Error> {
        let operation = "decrypt with the private key";
        let resource = name.version(version);
        let send = |kms: &KeyManagementService| {
            kms.asymmetric_decrypt()
                .set_name(resource.as_str())
                .set_ciphertext(Bytes::copy_from_slice(ciphertext))
                .set_ciphertext_crc32c(crc32c(ciphertext))
                .send()
        };
        let answer = self.kms.call(send).await.map_err(|failed| rejected(failed, operation))?;
        verified(&[answer.verified_ciphertext_crc32c], operation)?;
        same(&answer.plaintext, answer.plaintext_crc32c, operation)?;
        opened(answer.plaintext.into(), operation)
    }

    /// The public key of a version: kept, or fetched.
    pub(crate) async fn public_key(&self, name: &KeyName, version: Number, spec: KeySpec) -> Result<Arc<OaepPublic>, Error> {
        let operation = "get the public key";
        let kept = (name.clone(), version);
        if let Some(public_key) = self.public_keys.get(&kept) {
            return Ok(public_key);
        }
        let resource = name.version(version);
        let answer = self.kms.call(|kms| kms.get_public_key().set_name(resource.as_str()).send()).await;
        let answer = answer.map_err(|failed| failed.into_error(operation))?;
        same(answer.pem.as_bytes(), answer.pem_crc32c, operation)?;
        let malformed = || CallError::MalformedResponse("public key").into_error(operation);
        let (_, algorithm): (_, CryptoKeyVersionAlgorithm) = crate::keys::purpose(spec);
        if answer.name != resource || answer.algorithm != algorithm {
            return Err(malformed());
        }
        let der = pem::parse(&answer.pem).map_err(|_| malformed())?;
        let public_key = Arc::new(OaepPublic::from_spki(der.contents(), spec).map_err(|_| malformed())?);
        self.public_keys.put(kept, &public_key);
        Ok(public_key)
    }

    async fn wrap_here(&self, name: &KeyName, kek: &Kek, dek: &Secret) -> Result<Wrapped, Error> {
        let version = Self::number(&kek.key)?;
        let public_key = self.public_key(name, version, kek.spec).await?;
        Ok(Wrapped {
            key: named(name, version),
            algorithm: Algorithm::RsaOaep256,
            ciphertext: public_key
                .wrap(dek)
                .map_err(|error| fault(ErrorKind::Internal, "wrap").source(error))?,
            key_material: None,
            upstream_request_id: None,
        })
    }

    /// Bytes of the HSM's generator. They pass through memory, as everything that Google encrypts.
    pub(crate) async fn random_bytes(&self, len: usize) -> Result<Secret, Error> {
        let operation = "draw random bytes";
        let asked = len.max(MIN_RANDOM);
        let length = i32::try_from(asked).ok().filter(|length| *length <= 1024);
        let length = length.ok_or_else(|| fault(ErrorKind::TooLarge, "a data key of over 1024 bytes"))?;
        let send = |kms: &KeyManagementService| {
            kms.generate_random_bytes()
                .set_location(self.ring.location())
                .set_length_bytes(length)
                .set_protection_level(ProtectionLevel::Hsm)
                .send()
        };
        let answer = self.kms.call(send).await.map_err(|failed| failed.into_error(operation))?;
        same(&answer.data, answer.data_crc32c, operation)?;
        match answer.data.get(..len) {
            Some(bytes) if answer.data.len() == asked => Ok(Secret::copy_from(bytes)),
            Some(_) | None => Err(CallError::MalformedResponse("data").into_error(operation)),
        }
    }
}

/// A refused decryption: what Google takes for invalid is the ciphertext, its key or its
/// context; and a key's purpose never changes, so that it is the algorithm that is another.
fn rejected(failed: CallError, operation: &'static str) -> Error {
    if failed.invalid() || failed.unexplained() {
        return fault(ErrorKind::CiphertextRejected, operation);
    }
    failed.into_error(operation)
}

fn opened(plaintext: Vec<u8>, operation: &'static str) -> Result<Secret, Error> {
    let dek = Secret::new(plaintext);
    match dek.len() {
        1..=MAX_PLAINTEXT => Ok(dek),
        _ => Err(CallError::MalformedResponse("plaintext").into_error(operation)),
    }
}

#[async_trait]
impl Provider for GcpProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Gcp
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.random)
    }

    async fn wrap_key(&self, _cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        if dek.is_empty() {
            return Err(fault(ErrorKind::InvalidInput, "an empty key"));
        }
        if dek.len() > max_plaintext(kek.spec) {
            return Err(fault(ErrorKind::TooLarge, "over the most bytes of one wrap"));
        }
        let name = self.name(&kek.key)?;
        match kek.spec {
            KeySpec::Aes256 => {
                let version = match kek.key.version.is_empty() {
                    true => None,
                    false => Some(Self::number(&kek.key)?),
                };
                self.encrypt(&name, version, dek, context.bytes()).await
            }
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => self.wrap_here(&name, kek, dek).await,
        }
    }

    async fn unwrap_key(&self, _cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let name = self.name(&wrapped.key)?;
        let version = Self::number(&wrapped.key)?;
        match wrapped.algorithm {
            Algorithm::ProviderOpaque => self.decrypt(&name, &wrapped.ciphertext, context.bytes()).await,
            Algorithm::RsaOaep256 => self.asymmetric_decrypt(&name, version, &wrapped.ciphertext).await,
            Algorithm::A256Kw
            | Algorithm::A256Kwp
            | Algorithm::Aes256Gcm
            | Algorithm::Xaes256Gcm
            | Algorithm::CborGcm
            | Algorithm::RsaOaep1 => Err(fault(
                ErrorKind::CiphertextRejected,
                "an algorithm that no key of this provider has",
            )),
        }
    }

    async fn generate_data_key(&self, cx: &OpContext, kek: &Kek, len: usize, context: &BoundContext) -> Result<Generated, Error> {
        if !self.random {
            return Err(fault(ErrorKind::Unsupported, "data keys are made here"));
        }
        let plaintext = self.random_bytes(len).await?;
        let wrapped = self.wrap_key(cx, kek, &plaintext, context).await?;
        Ok(Generated { plaintext, wrapped })
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        match &request.adopt {
            Some(name) => self.adopt(cx, name).await,
            None => self.make(cx, request.key_id, request.spec).await,
        }
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.rotate_in_place(cx, kek).await
    }

    async fn describe(&self, _cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.described(&self.name(&kek.key)?, "describe").await
    }

    async fn set_state(&self, _cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        self.switch(&self.name(&kek.key)?, enabled).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        crate::probe::probe(self, cx, keks).await
    }
}
