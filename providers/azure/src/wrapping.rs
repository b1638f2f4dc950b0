//! Wrap and unwrap, and the validation of the responses.

use azure_security_keyvault_keys::models::KeyOperationParameters;
use claviger_provider::kit::probe::canary;
use claviger_provider::{BoundContext, Error, ErrorKind, KeySpec, OpContext, ProviderKeyRef, ProviderKind, Secret, Wrapped};

use crate::client::{Client, Operated};
use crate::cloud::Service;
use crate::errors::{CallError, fault};
use crate::names::{KeyName, Version};
use crate::wrap_algorithm::{GCM_IV, GCM_TAG, KEY_WRAP_OVERHEAD, PADDED_LENGTH, WrapAlgorithm, key_wrap_accepts, of_length, split_gcm};

impl Client {
    /// The key and version that a response names, which must be the requested ones.
    fn used_key(&self, operated: &Operated, name: &KeyName, requested: Option<&Version>) -> Result<ProviderKeyRef, CallError> {
        let used = operated.result.kid.as_deref().and_then(|kid| self.vault.kid(kid));
        match used {
            Some((key, version)) if key.same(name) && requested.is_none_or(|requested| *requested == version) => Ok(ProviderKeyRef {
                id: self.vault.id(name),
                version: version.as_str().to_owned(),
            }),
            Some(_) | None => Err(CallError::MalformedResponse("kid")),
        }
    }

    /// Wraps under a key of this specification, with the version that is named or with the
    /// current one.
    pub(crate) async fn wrap(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: Option<&Version>,
        spec: KeySpec,
        dek: &Secret,
        context: &BoundContext,
    ) -> Result<Wrapped, Error> {
        let algorithm = WrapAlgorithm::of(spec, self.aes);
        let parameters = KeyOperationParameters {
            algorithm: Some(algorithm.azure()),
            value: Some(dek.expose().to_vec()),
            additional_authenticated_data: (algorithm == WrapAlgorithm::Gcm).then(|| context.bytes().to_vec()),
            ..KeyOperationParameters::default()
        };
        let operated = match self.api.wrap(cx, name, version, algorithm, parameters).await {
            Ok(operated) => operated,
            Err(error) => return Err(self.key_error(cx, error, name, "wrap").await),
        };
        let key = self.used_key(&operated, name, version);
        let key = key.map_err(|error| error.into_error("wrap"))?;
        let malformed = || CallError::MalformedResponse("ciphertext").into_error("wrap");
        let Operated { result, request_id } = operated;
        let value = result.result.ok_or_else(malformed)?;
        let ciphertext = match algorithm {
            WrapAlgorithm::Gcm => {
                let iv = result.iv.filter(|iv| iv.len() == GCM_IV).ok_or_else(malformed)?;
                let tag = result.authentication_tag.filter(|tag| tag.len() == GCM_TAG).ok_or_else(malformed)?;
                [iv, value, tag].concat()
            }
            WrapAlgorithm::RsaOaep256 | WrapAlgorithm::KeyWrap => value,
        };
        if ciphertext.len() != algorithm.wrapped_len(spec, dek.len()) {
            return Err(malformed());
        }
        Ok(Wrapped {
            key,
            algorithm: algorithm.algorithm(),
            ciphertext,
            key_material: None,
            upstream_request_id: request_id,
        })
    }

    /// Unwraps with the version that `wrapped` names.
    pub(crate) async fn unwrap(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let rejected = |why| fault(ErrorKind::CiphertextRejected, why);
        let name = self.name(&wrapped.key)?;
        let version = Self::version(&wrapped.key)?.ok_or_else(|| fault(ErrorKind::KeyNotFound, "no key version"))?;
        let ciphertext = wrapped.ciphertext.as_slice();
        let algorithm =
            WrapAlgorithm::from_algorithm(wrapped.algorithm).ok_or_else(|| rejected("an algorithm that no key of this provider has"))?;
        let mut parameters = KeyOperationParameters {
            algorithm: Some(algorithm.azure()),
            ..KeyOperationParameters::default()
        };
        // The length of the data key, where the ciphertext determines it.
        let length = match algorithm {
            WrapAlgorithm::RsaOaep256 => {
                parameters.value = Some(ciphertext.to_vec());
                None
            }
            WrapAlgorithm::KeyWrap => {
                let length = ciphertext
                    .len()
                    .checked_sub(KEY_WRAP_OVERHEAD)
                    .filter(|length| key_wrap_accepts(*length));
                parameters.value = Some(ciphertext.to_vec());
                Some(length.ok_or_else(|| rejected("a length that AES key wrap does not produce"))?)
            }
            WrapAlgorithm::Gcm => {
                let (iv, value, tag) = split_gcm(ciphertext).ok_or_else(|| rejected("a length that AES-GCM does not produce"))?;
                parameters.value = Some(value.to_vec());
                parameters.iv = Some(iv.to_vec());
                parameters.authentication_tag = Some(tag.to_vec());
                parameters.additional_authenticated_data = Some(context.bytes().to_vec());
                Some(value.len())
            }
        };
        let operated = match self.api.unwrap(cx, &name, &version, algorithm, parameters).await {
            Ok(operated) => operated,
            Err(error) if self.rejects_ciphertext(cx, &error, &name, &version, algorithm).await => return Err(rejected("unwrap")),
            Err(error) => return Err(self.key_error(cx, error, &name, "unwrap").await),
        };
        let opened = self.used_key(&operated, &name, Some(&version)).and_then(|_| {
            let plaintext = operated.result.result.filter(|bytes| !bytes.is_empty());
            self.opened(plaintext.ok_or(CallError::MalformedResponse("plaintext"))?, length)
        });
        opened.map_err(|error| error.into_error("unwrap"))
    }

    /// Whether a refusal means that the ciphertext, or the algorithm that it names, is not the key's.
    async fn rejects_ciphertext(
        &self,
        cx: &OpContext,
        error: &CallError,
        name: &KeyName,
        version: &Version,
        algorithm: WrapAlgorithm,
    ) -> bool {
        match error.refusal().map(|refusal| refusal.code.as_str()) {
            // Of the parameters only the ciphertext can be invalid.
            Some("BadParameter") => true,
            Some("KeyOperationForbidden") => match self.api.get_key(cx, name, Some(version)).await {
                Ok(key) => !algorithm.fits(&key),
                // If it is not known whether the ciphertext is the key's, report an error of the
                // key's state.
                Err(_) => false,
            },
            Some(_) | None => false,
        }
    }

    /// The data key, whose length is known for AES keys.
    fn opened(&self, plaintext: Vec<u8>, length: Option<usize>) -> Result<Secret, CallError> {
        let padded = self.vault.service == Service::ManagedHsm && plaintext.len() == PADDED_LENGTH + 1;
        match length {
            Some(length) => of_length(Secret::new(plaintext), length).ok_or(CallError::MalformedResponse("plaintext")),
            // Under RSA the length is unknown, and the gateway has no data keys of 33 bytes.
            None if padded => {
                let unchanged = Secret::copy_from(&plaintext);
                Ok(of_length(Secret::new(plaintext), PADDED_LENGTH).unwrap_or(unchanged))
            }
            None => Ok(Secret::new(plaintext)),
        }
    }

    /// Wraps and unwraps random bytes with a version.
    pub(crate) async fn canary(&self, cx: &OpContext, name: &KeyName, version: &Version, spec: KeySpec) -> Result<(), Error> {
        // The empty map, which the gateway never uses as a context.
        let context = BoundContext::new(std::collections::BTreeMap::new(), vec![0xa0]);
        canary(ProviderKind::Azure, async |dek| {
            let wrapped = self.wrap(cx, name, Some(version), spec, dek, &context).await?;
            self.unwrap(cx, &wrapped, &context).await
        })
        .await
    }
}
