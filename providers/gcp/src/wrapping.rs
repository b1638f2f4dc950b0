//! Wrap, unwrap and random bytes, and the validation of the responses.

use std::sync::Arc;

use claviger_provider::kit::{lengths, probe};
use claviger_provider::oaep::OaepPublic;
use claviger_provider::{Algorithm, Error, ErrorKind, Kek, KeySpec, OpContext, ProviderKind, Secret, Wrapped};

use crate::checksum::{verified, verify};
use crate::client::Client;
use crate::errors::{CallError, fault, names_no_cause};
use crate::keys::{purpose, version_ref};
use crate::names::{KeyName, VersionNumber};

/// The most bytes of one wrap under a symmetric key. Google's limit is 64 KiB, and for keys in an
/// HSM 8 KiB together with the context.
const MAX_SYMMETRIC: usize = 4096;
/// The fewest bytes that the HSM's random generator returns.
const MIN_RANDOM: usize = 8;
/// The most bytes that the HSM's random generator returns.
const MAX_RANDOM: usize = 1024;

/// The most bytes of one wrap under a key of this specification.
pub(crate) const fn max_plaintext(spec: KeySpec) -> usize {
    lengths::max_plaintext(spec, MAX_SYMMETRIC)
}

impl Client {
    /// Wraps with the version that `kek` names, or with the primary one of a symmetric key.
    pub(crate) async fn wrap(&self, cx: &OpContext, kek: &Kek, dek: &Secret, aad: &[u8]) -> Result<Wrapped, Error> {
        let name = self.name(&kek.key)?;
        match kek.spec {
            KeySpec::Aes256 => {
                let version = match kek.key.version.is_empty() {
                    true => None,
                    false => Some(Self::version(&kek.key)?),
                };
                match self.encrypt(cx, &name, version, dek, aad).await {
                    Err(error) if version.is_none() && names_no_cause(&error) => {
                        // Boxed, since it is rare and would be part of every wrap's future.
                        Box::pin(self.encrypt_without_primary(cx, &name, dek, aad, error)).await
                    }
                    encrypted => encrypted,
                }
            }
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => self.wrap_with_public_key(cx, &name, kek, dek).await,
        }
    }

    /// Encrypts with the version that is named, or with the primary one.
    pub(crate) async fn encrypt(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: Option<VersionNumber>,
        dek: &Secret,
        aad: &[u8],
    ) -> Result<Wrapped, Error> {
        let resource = version.map_or_else(|| name.as_str().to_owned(), |version| name.version(version));
        let encrypted = async {
            let response = self.api.encrypt(cx, &resource, dek, aad).await?;
            verified(&[
                response.verified_plaintext_crc32c,
                response.verified_additional_authenticated_data_crc32c,
            ])?;
            verify(&response.ciphertext, response.ciphertext_crc32c)?;
            let used = name
                .version_of(&response.name)
                .filter(|used| version.is_none_or(|requested| requested == *used));
            let used = used.ok_or(CallError::MalformedResponse("version"))?;
            Ok(Wrapped {
                key: version_ref(name, used),
                algorithm: Algorithm::ProviderOpaque,
                ciphertext: response.ciphertext.into(),
                key_material: None,
                upstream_request_id: None,
            })
        };
        encrypted.await.map_err(|error: CallError| error.into_error("encrypt"))
    }

    /// Encrypts with the newest version of a key without a primary one. `refused` is why Google did not encrypt with
    /// the key alone.
    ///
    /// # Errors
    /// `refused` for another key.
    pub(crate) async fn encrypt_without_primary(
        &self,
        cx: &OpContext,
        name: &KeyName,
        dek: &Secret,
        aad: &[u8],
        refused: Error,
    ) -> Result<Wrapped, Error> {
        let version = self.version_without_primary(cx, name).await.ok_or(refused)?;
        let encrypted = self.encrypt(cx, name, Some(version), dek, aad).await;
        if encrypted.is_err() {
            self.newest_versions.forget(name);
        }
        encrypted
    }

    /// Decrypts a symmetric ciphertext. It names its version itself; `version` is the one that the envelope names.
    pub(crate) async fn decrypt(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: VersionNumber,
        ciphertext: &[u8],
        aad: &[u8],
    ) -> Result<Secret, Error> {
        let operation = "decrypt";
        let decrypted = async {
            let response = self.api.decrypt(cx, name, ciphertext, aad).await?;
            verify(&response.plaintext, response.plaintext_crc32c)?;
            lengths::unwrapped(response.plaintext.into())
        };
        match decrypted.await {
            Ok(dek) => Ok(dek),
            // Boxed, since it is rare and would be part of every unwrap's future.
            Err(error) => Err(Box::pin(self.refused_decryption(cx, name, version, error, operation)).await),
        }
    }

    /// Decrypts an RSA-OAEP ciphertext with the private key of a version.
    pub(crate) async fn asymmetric_decrypt(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: VersionNumber,
        ciphertext: &[u8],
    ) -> Result<Secret, Error> {
        let operation = "decrypt with the private key";
        let decrypted = async {
            let response = self.api.asymmetric_decrypt(cx, &name.version(version), ciphertext).await?;
            verified(&[response.verified_ciphertext_crc32c])?;
            verify(&response.plaintext, response.plaintext_crc32c)?;
            lengths::unwrapped(response.plaintext.into())
        };
        match decrypted.await {
            Ok(dek) => Ok(dek),
            Err(error) => Err(Box::pin(self.refused_decryption(cx, name, version, error, operation)).await),
        }
    }

    /// The public key of a version, from the cache or from Google.
    pub(crate) async fn public_key(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: VersionNumber,
        spec: KeySpec,
    ) -> Result<Arc<OaepPublic>, Error> {
        let cached = (name.clone(), version);
        if let Some(public_key) = self.public_keys.get(&cached) {
            return Ok(public_key);
        }
        let resource = name.version(version);
        let fetched = async {
            let response = self.api.public_key(cx, &resource).await?;
            verify(response.pem.as_bytes(), response.pem_crc32c)?;
            let malformed = || CallError::MalformedResponse("public key");
            let (_, algorithm) = purpose(spec);
            if response.name != resource || response.algorithm != algorithm {
                return Err(malformed());
            }
            let der = pem::parse(&response.pem).map_err(|_| malformed())?;
            OaepPublic::from_spki(der.contents(), spec).map_err(|_| malformed())
        };
        let public_key = fetched.await.map_err(|error: CallError| error.into_error("get the public key"))?;
        let public_key = Arc::new(public_key);
        self.public_keys.put(cached, &public_key);
        Ok(public_key)
    }

    /// Wraps with the public key of the version that `kek` names, without a call to Google.
    pub(crate) async fn wrap_with_public_key(&self, cx: &OpContext, name: &KeyName, kek: &Kek, dek: &Secret) -> Result<Wrapped, Error> {
        let version = Self::version(&kek.key)?;
        let public_key = self.public_key(cx, name, version, kek.spec).await?;
        Ok(Wrapped {
            key: version_ref(name, version),
            algorithm: Algorithm::RsaOaep256,
            ciphertext: public_key
                .wrap(dek)
                .map_err(|error| fault(ErrorKind::Internal, "wrap").source(error))?,
            key_material: None,
            upstream_request_id: None,
        })
    }

    /// Random bytes of the HSM. They pass through memory, as does everything that Google encrypts.
    pub(crate) async fn random_bytes(&self, cx: &OpContext, len: usize) -> Result<Secret, Error> {
        let requested = len.max(MIN_RANDOM);
        let length = i32::try_from(requested).ok().filter(|_| requested <= MAX_RANDOM);
        let length = length.ok_or_else(|| fault(ErrorKind::TooLarge, "a data key of over 1024 bytes"))?;
        let generated = async {
            let response = self.api.random_bytes(cx, self.ring.location(), length).await?;
            verify(&response.data, response.data_crc32c)?;
            match response.data.get(..len) {
                Some(bytes) if response.data.len() == requested => Ok(Secret::copy_from(bytes)),
                Some(_) | None => Err(CallError::MalformedResponse("data")),
            }
        };
        generated
            .await
            .map_err(|error: CallError| error.into_error("generate random bytes"))
    }

    /// Wraps and unwraps random bytes as [`Self::wrap`] does.
    pub(crate) async fn canary(&self, cx: &OpContext, kek: &Kek) -> Result<(), Error> {
        let aad = format!("claviger canary of {}", cx.tenant).into_bytes();
        probe::canary(ProviderKind::Gcp, async |dek| {
            let wrapped = self.wrap(cx, kek, dek, &aad).await?;
            let (name, version) = (self.name(&wrapped.key)?, Self::version(&wrapped.key)?);
            match kek.spec {
                KeySpec::Aes256 => self.decrypt(cx, &name, version, &wrapped.ciphertext, &aad).await,
                KeySpec::Rsa3072 | KeySpec::Rsa4096 => self.asymmetric_decrypt(cx, &name, version, &wrapped.ciphertext).await,
            }
        })
        .await
    }
}
