//! The provider on one vault, as one identity.

use async_trait::async_trait;
use azure_core::http::RequestContent;
use azure_security_keyvault_keys::KeyClient;
use azure_security_keyvault_keys::models::{
    KeyClientEncryptOptions, KeyClientGetKeyOptions, KeyClientWrapKeyOptions, KeyOperationParameters, KeyOperationResult,
};
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, ErrorKind, How, Kek, KeyCapabilities, KeyDescription, KeyRequest, KeySpec,
    OpContext, Probe, Provider, ProviderKeyRef, ProviderKind, Rotation, Secret, Wrapped,
};

use crate::cloud::Service;
use crate::errors::{CallError, fault, request_id};
use crate::names::{KeyName, Vault, Version};
use crate::settings::Symmetric;
use crate::way::{IV, KW_MORE, PADDED, TAG, Way, exact, kw_fits, max_plaintext, split};

/// What a connection to a service can do.
pub(crate) fn capabilities(service: Service, aes: Symmetric) -> Capabilities {
    let of = |spec| KeyCapabilities {
        spec,
        wrap: How::InsideProvider,
        // Azure makes no data keys.
        generate_data_key: How::ThroughMemory,
        rewrap: How::ThroughMemory,
        context: match (spec, aes) {
            (KeySpec::Aes256, Symmetric::Gcm) => ContextBinding::AssociatedData,
            (KeySpec::Aes256, Symmetric::KeyWrap) | (KeySpec::Rsa3072 | KeySpec::Rsa4096, _) => ContextBinding::CommitmentOnly,
        },
        rotation: Some(Rotation::InPlace),
        max_plaintext: max_plaintext(spec),
    };
    let has = |spec: &KeySpec| match (service, spec) {
        (Service::ManagedHsm, _) | (Service::KeyVault, KeySpec::Rsa3072 | KeySpec::Rsa4096) => true,
        (Service::KeyVault, KeySpec::Aes256) => false,
    };
    Capabilities {
        keys: KeySpec::ALL.into_iter().filter(has).map(of).collect(),
        create_key: true,
        set_state: true,
        schedule_deletion: false,
        import: false,
    }
}

/// The keys of one connection's vault.
pub struct AzureProvider {
    pub(crate) client: KeyClient,
    pub(crate) vault: Vault,
    pub(crate) aes: Symmetric,
    /// Whether new RSA keys of a Key Vault are made in its HSM.
    pub(crate) hsm: bool,
    /// Whether the identity is one that other tenants have too.
    pub(crate) shared: bool,
    /// Who calls, for people; no secret.
    pub(crate) identity: String,
}

/// What came of one operation with a key.
struct Operated {
    result: KeyOperationResult,
    request_id: Option<String>,
}

impl AzureProvider {
    /// The key that a provider key id names: another vault's is no key of this connection.
    pub(crate) fn name(&self, key: &ProviderKeyRef) -> Result<KeyName, Error> {
        self.vault
            .key(&key.id)
            .ok_or_else(|| fault(ErrorKind::KeyNotFound, "a key id of another vault"))
    }

    /// The version that is named; `None` where none is.
    fn version(key: &ProviderKeyRef) -> Result<Option<Version>, Error> {
        match key.version.as_str() {
            "" => Ok(None),
            text => Version::parse(text)
                .map(Some)
                .ok_or_else(|| fault(ErrorKind::KeyNotFound, "no such version")),
        }
    }

    /// Holds the key and version that an answer tells against those that were asked for.
    fn told(&self, operated: &Operated, name: &KeyName, asked: Option<&Version>, operation: &'static str) -> Result<ProviderKeyRef, Error> {
        let told = operated.result.kid.as_deref().and_then(|kid| self.vault.kid(kid));
        match told {
            Some((key, version)) if key.same(name) && asked.is_none_or(|asked| *asked == version) => Ok(ProviderKeyRef {
                id: self.vault.id(name),
                version: version.as_str().to_owned(),
            }),
            Some(_) | None => Err(CallError::MalformedResponse("kid").into_error(operation)),
        }
    }

    /// Wraps under a key of a specification.
    pub(crate) async fn wrap(
        &self,
        name: &KeyName,
        version: Option<&Version>,
        spec: KeySpec,
        dek: &Secret,
        context: &BoundContext,
    ) -> Result<Wrapped, Error> {
        let operation = "wrap";
        let key_version = version.map(|version| version.as_str().to_owned());
        let mut parameters = KeyOperationParameters {
            value: Some(dek.expose().to_vec()),
            ..KeyOperationParameters::default()
        };
        let way = Way::of(spec, self.aes);
        parameters.algorithm = Some(way.azure());
        let result = match way {
            Way::Gcm => {
                parameters.additional_authenticated_data = Some(context.bytes().to_vec());
                let options = KeyClientEncryptOptions {
                    key_version,
                    ..KeyClientEncryptOptions::default()
                };
                let sent = self
                    .client
                    .encrypt(name.as_str(), body(parameters, operation)?, Some(options))
                    .await;
                sent.map(|response| (request_id(response.headers()), response.into_model()))
            }
            Way::RsaOaep256 | Way::KeyWrap => {
                let options = KeyClientWrapKeyOptions {
                    key_version,
                    ..KeyClientWrapKeyOptions::default()
                };
                let sent = self
                    .client
                    .wrap_key(name.as_str(), body(parameters, operation)?, Some(options))
                    .await;
                sent.map(|response| (request_id(response.headers()), response.into_model()))
            }
        };
        let operated = self.operated(result, name, operation).await?;
        let key = self.told(&operated, name, version, operation)?;
        let malformed = || CallError::MalformedResponse("ciphertext").into_error(operation);
        let upstream_request_id = operated.request_id;
        let value = operated.result.result.ok_or_else(malformed)?;
        let ciphertext = match way {
            Way::Gcm => {
                let iv = operated.result.iv.filter(|iv| iv.len() == IV).ok_or_else(malformed)?;
                let tag = operated
                    .result
                    .authentication_tag
                    .filter(|tag| tag.len() == TAG)
                    .ok_or_else(malformed)?;
                [iv, value, tag].concat()
            }
            Way::RsaOaep256 | Way::KeyWrap => value,
        };
        if ciphertext.len() != way.wrapped_len(spec, dek.len()) {
            return Err(malformed());
        }
        Ok(Wrapped {
            key,
            algorithm: way.algorithm(),
            ciphertext,
            key_material: None,
            upstream_request_id,
        })
    }

    /// Whether a version could have wrapped so; also where nobody can tell.
    async fn could_have(&self, name: &KeyName, version: &Version, way: Way) -> bool {
        let options = KeyClientGetKeyOptions {
            key_version: Some(version.as_str().to_owned()),
            ..KeyClientGetKeyOptions::default()
        };
        let told = self.client.get_key(name.as_str(), Some(options)).await;
        told.and_then(azure_core::http::Response::into_model)
            .map_or(true, |key| way.of_key(&key))
    }

    /// What came of an operation; a key that is not found may be one that was deleted softly.
    async fn operated(
        &self,
        sent: azure_core::Result<(Option<String>, azure_core::Result<KeyOperationResult>)>,
        name: &KeyName,
        operation: &'static str,
    ) -> Result<Operated, Error> {
        match sent {
            Ok((request_id, Ok(result))) => Ok(Operated { result, request_id }),
            Ok((_, Err(error))) => Err(CallError::of(error).into_error(operation)),
            Err(error) => Err(self.refused(CallError::of(error), name, operation).await),
        }
    }

    /// Unwraps with the version that `wrapped` names.
    pub(crate) async fn unwrap(&self, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let operation = "unwrap";
        let rejected = |why| fault(ErrorKind::CiphertextRejected, why);
        let name = self.name(&wrapped.key)?;
        let version = Self::version(&wrapped.key)?.ok_or_else(|| fault(ErrorKind::KeyNotFound, "no such version"))?;
        let ciphertext = wrapped.ciphertext.as_slice();
        let way = Way::written(wrapped.algorithm).ok_or_else(|| rejected("an algorithm that no key of this provider has"))?;
        let mut parameters = KeyOperationParameters {
            algorithm: Some(way.azure()),
            ..KeyOperationParameters::default()
        };
        // How long the data key is, where the ciphertext tells.
        let known = match way {
            Way::RsaOaep256 => {
                parameters.value = Some(ciphertext.to_vec());
                None
            }
            Way::KeyWrap => {
                let len = ciphertext.len().checked_sub(KW_MORE).filter(|len| kw_fits(*len));
                parameters.value = Some(ciphertext.to_vec());
                Some(len.ok_or_else(|| rejected("a length that AES key wrap does not make"))?)
            }
            Way::Gcm => {
                let (iv, value, tag) = split(ciphertext).ok_or_else(|| rejected("a length that AES-GCM does not make"))?;
                parameters.value = Some(value.to_vec());
                parameters.iv = Some(iv.to_vec());
                parameters.authentication_tag = Some(tag.to_vec());
                parameters.additional_authenticated_data = Some(context.bytes().to_vec());
                Some(value.len())
            }
        };
        let parameters = body(parameters, operation)?;
        let sent = match way {
            Way::Gcm => {
                let sent = self.client.decrypt(name.as_str(), version.as_str(), parameters, None).await;
                sent.map(|response| (request_id(response.headers()), response.into_model()))
            }
            Way::RsaOaep256 | Way::KeyWrap => {
                let sent = self.client.unwrap_key(name.as_str(), version.as_str(), parameters, None).await;
                sent.map(|response| (request_id(response.headers()), response.into_model()))
            }
        };
        let operated = match sent {
            Err(error) => {
                let failed = CallError::of(error);
                // Of all that is sent, only the ciphertext can be wrong, or the way that it claims.
                let wrong = match failed.code() {
                    Some("BadParameter") => true,
                    Some("KeyOperationForbidden") => !self.could_have(&name, &version, way).await,
                    Some(_) | None => false,
                };
                if wrong {
                    return Err(rejected(operation));
                }
                return Err(self.refused(failed, &name, operation).await);
            }
            sent => self.operated(sent, &name, operation).await?,
        };
        self.told(&operated, &name, Some(&version), operation)?;
        let malformed = || CallError::MalformedResponse("plaintext").into_error(operation);
        let bytes = operated.result.result.filter(|bytes| !bytes.is_empty()).ok_or_else(malformed)?;
        let added = known.is_none() && self.vault.service == Service::ManagedHsm && bytes.len() == PADDED + 1;
        match (known, added) {
            (Some(len), _) => exact(bytes, len).ok_or_else(malformed),
            // Under RSA nothing tells the length; the gateway has no data key of 33 bytes.
            (None, true) => {
                let whole = Secret::copy_from(&bytes);
                Ok(exact(bytes, PADDED).unwrap_or(whole))
            }
            (None, false) => Ok(Secret::new(bytes)),
        }
    }
}

/// A body, as the SDK sends it.
pub(crate) fn body<T: serde::Serialize>(value: T, operation: &'static str) -> Result<RequestContent<T>, Error>
where
    RequestContent<T>: TryFrom<T, Error = azure_core::Error>,
{
    RequestContent::try_from(value).map_err(|error| CallError::of(error).into_error(operation))
}

#[async_trait]
impl Provider for AzureProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Azure
    }

    fn capabilities(&self) -> Capabilities {
        capabilities(self.vault.service, self.aes)
    }

    async fn wrap_key(&self, _cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        if dek.is_empty() {
            return Err(fault(ErrorKind::InvalidInput, "an empty key"));
        }
        if dek.len() > max_plaintext(kek.spec) {
            return Err(fault(ErrorKind::TooLarge, "over the most bytes of one wrap"));
        }
        match (kek.spec, self.aes) {
            (KeySpec::Aes256, Symmetric::KeyWrap) if !kw_fits(dek.len()) => {
                return Err(fault(ErrorKind::InvalidInput, "a length that AES key wrap does not take")
                    .advice("AES key wrap takes keys of 16, 24, 32 and so on bytes."));
            }
            (_, _) => {}
        }
        let name = self.name(&kek.key)?;
        let version = Self::version(&kek.key)?;
        self.wrap(&name, version.as_ref(), kek.spec, dek, context).await
    }

    async fn unwrap_key(&self, _cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        self.unwrap(wrapped, context).await
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        match &request.adopt {
            Some(name) => self.adopt(cx, name).await,
            None => self.make(cx, request.key_id, request.spec).await,
        }
    }

    async fn rotate(&self, _cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.rotated(&self.name(&kek.key)?).await
    }

    async fn describe(&self, _cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        self.described(&self.name(&kek.key)?).await
    }

    async fn set_state(&self, _cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        self.switch(&self.name(&kek.key)?, enabled).await
    }

    async fn probe(&self, cx: &OpContext, keks: &[Kek]) -> Result<Probe, Error> {
        crate::probe::probe(self, cx, keks).await
    }
}
