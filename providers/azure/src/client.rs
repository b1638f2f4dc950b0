//! The calls to one vault. Each is one attempt, and is reported under its name in Azure's logs.

use std::collections::HashMap;
use std::sync::Arc;

use azure_core::http::{ClientOptions, HttpClient, RequestContent, Response, RetryOptions, Transport};
use azure_security_keyvault_keys::models::{
    CreateKeyParameters, Key, KeyAttributes, KeyClientEncryptOptions, KeyClientGetKeyOptions, KeyClientListKeyPropertiesVersionsOptions,
    KeyClientUpdateKeyPropertiesOptions, KeyClientWrapKeyOptions, KeyOperationParameters, KeyOperationResult, KeyProperties,
    UpdateKeyPropertiesParameters,
};
use azure_security_keyvault_keys::{KeyClient, KeyClientOptions};
use claviger_provider::{Error, ErrorKind, OpContext, ProviderKeyRef};
use futures::TryStreamExt;

use crate::attempts::traced;
use crate::codes::RECOVER;
use crate::errors::{CallError, call_error, fault, request_id};
use crate::names::{KeyName, Vault, Version};
use crate::transport::Placeholder;
use crate::wrap_algorithm::{AesAlgorithm, WrapAlgorithm};

/// The version of the REST API: the oldest one with all calls that are used. Every cloud has it.
pub(crate) const API_VERSION: &str = "7.4";
/// The most versions of a key that are read.
const MAX_VERSIONS: usize = 10_000;
/// The page size of a list, which is Azure's maximum.
const PAGE: i32 = 25;

/// The REST API of one vault.
pub(crate) struct KeyApi(KeyClient);

/// One vault, as one identity: what every operation works on.
pub(crate) struct Client {
    pub(crate) api: KeyApi,
    pub(crate) vault: Vault,
    pub(crate) aes: AesAlgorithm,
    /// Whether new RSA keys of a Key Vault are created in its HSM.
    pub(crate) hsm: bool,
    /// Whether other tenants' connections have the same identity.
    pub(crate) shared: bool,
    /// A description of the identity, without secrets.
    pub(crate) identity: String,
}

/// The response to a cryptographic operation.
pub(crate) struct Operated {
    pub(crate) result: KeyOperationResult,
    pub(crate) request_id: Option<String>,
}

/// The attributes that enable or disable a version.
pub(crate) fn enabled_attributes(enabled: bool) -> KeyAttributes {
    KeyAttributes {
        enabled: Some(enabled),
        ..KeyAttributes::default()
    }
}

fn body<T: serde::Serialize>(value: T) -> Result<RequestContent<T>, CallError>
where
    RequestContent<T>: TryFrom<T, Error = azure_core::Error>,
{
    RequestContent::try_from(value).map_err(call_error)
}

fn operated(response: Response<KeyOperationResult>) -> Result<Operated, CallError> {
    let request_id = request_id(response.headers());
    let result = response.into_model().map_err(call_error)?;
    Ok(Operated { result, request_id })
}

fn text(version: &Version) -> String {
    version.as_str().to_owned()
}

async fn call<T>(cx: &OpContext, operation: &'static str, call: impl Future<Output = azure_core::Result<T>>) -> Result<T, CallError> {
    traced(cx, operation, call).await.map_err(call_error)
}

impl KeyApi {
    /// Creates a client of the vault at this URL. This sends no request.
    ///
    /// # Errors
    /// For a URL that the SDK does not accept.
    pub(crate) fn new(address: &str, transport: Arc<dyn HttpClient>) -> azure_core::Result<Self> {
        let options = KeyClientOptions {
            api_version: API_VERSION.to_owned(),
            client_options: ClientOptions {
                // The pipeline retries.
                retry: RetryOptions::none(),
                transport: Some(Transport::new(transport)),
                ..ClientOptions::default()
            },
            // The transport validates every challenge.
            verify_challenge_resource: Some(false),
        };
        KeyClient::new(address, Arc::new(Placeholder), Some(options)).map(Self)
    }

    /// A key with the version that is named, or with its current one.
    pub(crate) async fn get_key(&self, cx: &OpContext, name: &KeyName, version: Option<&Version>) -> Result<Key, CallError> {
        let options = KeyClientGetKeyOptions {
            key_version: version.map(text),
            ..KeyClientGetKeyOptions::default()
        };
        let response = call(cx, "KeyGet", self.0.get_key(name.as_str(), Some(options))).await?;
        response.into_model().map_err(call_error)
    }

    /// Whether a key is deleted and can be recovered; `false` also where that cannot be read.
    pub(crate) async fn is_recoverable(&self, cx: &OpContext, name: &KeyName) -> bool {
        let response = call(cx, "KeyGetDeleted", self.0.get_deleted_key(name.as_str(), None)).await;
        response.is_ok()
    }

    /// All versions of a key, in no order. An unknown key has none.
    pub(crate) async fn list_versions(&self, cx: &OpContext, name: &KeyName) -> Result<Vec<KeyProperties>, CallError> {
        let options = KeyClientListKeyPropertiesVersionsOptions {
            maxresults: Some(PAGE),
            ..KeyClientListKeyPropertiesVersionsOptions::default()
        };
        let pager = self.0.list_key_properties_versions(name.as_str(), Some(options));
        let mut pages = pager.map_err(call_error)?.into_pages();
        let mut versions = Vec::new();
        while let Some(page) = call(cx, "KeyListVersions", pages.try_next()).await? {
            versions.extend(page.into_model().map_err(call_error)?.value);
            if versions.len() > MAX_VERSIONS {
                return Err(CallError::MalformedResponse("list of versions"));
            }
        }
        Ok(versions)
    }

    /// Creates a key, or another version of an existing one.
    pub(crate) async fn create_key(&self, cx: &OpContext, name: &KeyName, parameters: CreateKeyParameters) -> Result<Key, CallError> {
        let response = call(cx, "KeyCreate", self.0.create_key(name.as_str(), body(parameters)?, None)).await?;
        response.into_model().map_err(call_error)
    }

    /// Creates a new version of a key and returns the key with it.
    pub(crate) async fn rotate_key(&self, cx: &OpContext, name: &KeyName) -> Result<Key, CallError> {
        let response = call(cx, "KeyRotate", self.0.rotate_key(name.as_str(), None)).await?;
        response.into_model().map_err(call_error)
    }

    /// Enables or disables a version and replaces its tags.
    pub(crate) async fn set_enabled(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: &Version,
        enabled: bool,
        tags: HashMap<String, String>,
    ) -> Result<(), CallError> {
        let parameters = UpdateKeyPropertiesParameters {
            key_attributes: Some(enabled_attributes(enabled)),
            tags: Some(tags),
            ..UpdateKeyPropertiesParameters::default()
        };
        let options = KeyClientUpdateKeyPropertiesOptions {
            key_version: Some(text(version)),
            ..KeyClientUpdateKeyPropertiesOptions::default()
        };
        let update = self.0.update_key_properties(name.as_str(), body(parameters)?, Some(options));
        call(cx, "KeyUpdate", update).await.map(drop)
    }

    /// Wraps, with the version that is named or with the current one.
    pub(crate) async fn wrap(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: Option<&Version>,
        algorithm: WrapAlgorithm,
        parameters: KeyOperationParameters,
    ) -> Result<Operated, CallError> {
        let (key_version, parameters) = (version.map(text), body(parameters)?);
        operated(match algorithm {
            WrapAlgorithm::Gcm => {
                let options = KeyClientEncryptOptions {
                    key_version,
                    ..KeyClientEncryptOptions::default()
                };
                call(cx, "KeyEncrypt", self.0.encrypt(name.as_str(), parameters, Some(options))).await?
            }
            WrapAlgorithm::RsaOaep256 | WrapAlgorithm::KeyWrap => {
                let options = KeyClientWrapKeyOptions {
                    key_version,
                    ..KeyClientWrapKeyOptions::default()
                };
                call(cx, "KeyWrap", self.0.wrap_key(name.as_str(), parameters, Some(options))).await?
            }
        })
    }

    /// Unwraps with a version.
    pub(crate) async fn unwrap(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: &Version,
        algorithm: WrapAlgorithm,
        parameters: KeyOperationParameters,
    ) -> Result<Operated, CallError> {
        let parameters = body(parameters)?;
        operated(match algorithm {
            WrapAlgorithm::Gcm => {
                let decrypt = self.0.decrypt(name.as_str(), version.as_str(), parameters, None);
                call(cx, "KeyDecrypt", decrypt).await?
            }
            WrapAlgorithm::RsaOaep256 | WrapAlgorithm::KeyWrap => {
                let unwrap = self.0.unwrap_key(name.as_str(), version.as_str(), parameters, None);
                call(cx, "KeyUnwrap", unwrap).await?
            }
        })
    }
}

impl Client {
    /// The name in a provider key id.
    ///
    /// # Errors
    /// `KeyNotFound` for a key of another vault.
    pub(crate) fn name(&self, key: &ProviderKeyRef) -> Result<KeyName, Error> {
        self.vault
            .key(&key.id)
            .ok_or_else(|| fault(ErrorKind::KeyNotFound, "a key id of another vault"))
    }

    /// The version that a key reference names, if any.
    ///
    /// # Errors
    /// `KeyNotFound` for a malformed version.
    pub(crate) fn version(key: &ProviderKeyRef) -> Result<Option<Version>, Error> {
        match key.version.as_str() {
            "" => Ok(None),
            text => Version::parse(text)
                .map(Some)
                .ok_or_else(|| fault(ErrorKind::KeyNotFound, "a malformed key version")),
        }
    }

    /// The error of a failed call with a key. A key that was not found may be deleted and
    /// recoverable.
    pub(crate) async fn key_error(&self, cx: &OpContext, error: CallError, name: &KeyName, operation: &'static str) -> Error {
        if error.kind() == ErrorKind::KeyNotFound && self.api.is_recoverable(cx, name).await {
            return fault(ErrorKind::KeyState, operation).advice(RECOVER);
        }
        error.into_error(operation)
    }
}
