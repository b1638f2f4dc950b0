//! Keys made, adopted, looked up, rotated and switched.

use std::collections::HashMap;

use azure_security_keyvault_keys::models::{
    CreateKeyParameters, Key as AzureKey, KeyAttributes, KeyClientListKeyPropertiesVersionsOptions, KeyClientUpdateKeyPropertiesOptions,
    KeyType, UpdateKeyPropertiesParameters,
};
use claviger_provider::{BoundContext, Error, ErrorKind, KeyDescription, KeyId, KeySpec, OpContext, Secret, TenantId, oaep};
use futures::TryStreamExt;

use crate::cloud::Service;
use crate::codes::RECOVER;
use crate::errors::{CallError, fault};
use crate::keys::{Key, KeyVersion, operations_of};
use crate::names::{KeyName, Version};
use crate::provider::{AzureProvider, body};

/// The tags of a key that was made here; the first is what proves whose an adopted one is.
pub(crate) const TENANT_TAG: &str = "claviger-tenant";
const KEY_TAG: &str = "claviger-key";
/// The tag of a version that was disabled here, so that enabling leaves alone what its owner
/// disabled.
const DISABLED_TAG: &str = "claviger-disabled";
/// The most versions of a key that are read.
const MAX_VERSIONS: usize = 10_000;
/// Versions of one page: the most that Azure gives.
const PAGE: i32 = 25;

const UNPROVEN: &str = "The key must carry the tag `claviger-tenant` with this tenant's id, which shows that its owner means it for this tenant. The \
                        connection's check prints the command.";

impl AzureProvider {
    /// What a refused call with a key means: one that is not found may be one that was deleted and
    /// can be recovered.
    pub(crate) async fn refused(&self, failed: CallError, name: &KeyName, operation: &'static str) -> Error {
        if failed.kind() == ErrorKind::KeyNotFound && self.client.get_deleted_key(name.as_str(), None).await.is_ok() {
            return fault(ErrorKind::KeyState, operation).advice(RECOVER);
        }
        failed.into_error(operation)
    }

    fn read(&self, told: azure_core::Result<AzureKey>, name: &KeyName, operation: &'static str) -> Result<Key, Error> {
        let told = told.map_err(|error| CallError::of(error).into_error(operation))?;
        Key::of(told, &self.vault, name, self.aes)
    }

    /// The key with its current version.
    pub(crate) async fn look_up(&self, name: &KeyName, operation: &'static str) -> Result<Key, Error> {
        match self.client.get_key(name.as_str(), None).await {
            Ok(response) => self.read(response.into_model(), name, operation),
            Err(error) => Err(self.refused(CallError::of(error), name, operation).await),
        }
    }

    /// All versions of a key, in no order.
    pub(crate) async fn versions(&self, name: &KeyName, operation: &'static str) -> Result<Vec<KeyVersion>, Error> {
        let failed = |error| CallError::of(error).into_error(operation);
        let options = KeyClientListKeyPropertiesVersionsOptions {
            maxresults: Some(PAGE),
            ..KeyClientListKeyPropertiesVersionsOptions::default()
        };
        let pager = self.client.list_key_properties_versions(name.as_str(), Some(options));
        let mut entries = pager.map_err(failed)?;
        let mut versions: Vec<KeyVersion> = Vec::new();
        while let Some(entry) = entries.try_next().await.map_err(failed)? {
            let version = KeyVersion::listed(entry, &self.vault, name);
            let version = version.ok_or_else(|| CallError::MalformedResponse("list of versions").into_error(operation))?;
            if versions.len() >= MAX_VERSIONS || versions.iter().any(|other| other.version == version.version) {
                return Err(CallError::MalformedResponse("list of versions").into_error(operation));
            }
            versions.push(version);
        }
        Ok(versions)
    }

    pub(crate) async fn described(&self, name: &KeyName) -> Result<KeyDescription, Error> {
        let key = self.look_up(name, "describe").await?;
        let versions = self.versions(&key.name, "describe").await?;
        Ok(key.describe(&self.vault, versions))
    }

    const fn kind(&self, spec: KeySpec) -> KeyType {
        match (spec, self.vault.service, self.hsm) {
            (KeySpec::Aes256, _, _) => KeyType::OctHsm,
            (KeySpec::Rsa3072 | KeySpec::Rsa4096, Service::KeyVault, false) => KeyType::Rsa,
            (KeySpec::Rsa3072 | KeySpec::Rsa4096, Service::ManagedHsm, _)
            | (KeySpec::Rsa3072 | KeySpec::Rsa4096, Service::KeyVault, true) => KeyType::RsaHsm,
        }
    }

    /// Makes a key for a logical key.
    pub(crate) async fn make(&self, cx: &OpContext, id: KeyId, spec: KeySpec) -> Result<KeyDescription, Error> {
        let operation = "create a key";
        if self.capabilities_of(spec).is_none() {
            return Err(fault(ErrorKind::Unsupported, "a Key Vault has no AES keys")
                .advice("A Key Vault has RSA keys alone: name rsa-3072 or rsa-4096, or use a connection to a Managed HSM."));
        }
        if self.shared {
            return Err(fault(ErrorKind::InvalidInput, operation).advice(
                "The connection's application may be admitted in directories of several customers, so it makes no keys: have the vault's owner \
                 make one with the tag `claviger-tenant`, as the connection's check prints, and adopt it.",
            ));
        }
        let name = KeyName::made(id);
        // Azure would take a second creation for a rotation.
        match self.client.get_key(name.as_str(), None).await.map_err(CallError::of) {
            Ok(_) => return Err(fault(ErrorKind::Conflict, operation)),
            Err(failed) if failed.kind() == ErrorKind::KeyNotFound => {}
            Err(failed) => return Err(failed.into_error(operation)),
        }
        let bits = oaep::bits(spec).unwrap_or(256);
        let parameters = CreateKeyParameters {
            kty: Some(self.kind(spec)),
            key_size: i32::try_from(bits).ok(),
            key_ops: Some(operations_of(spec, self.aes).into()),
            key_attributes: Some(switched(true)),
            tags: Some(tags(cx.tenant, id)),
            ..CreateKeyParameters::default()
        };
        let made = self.client.create_key(name.as_str(), body(parameters, operation)?, None).await;
        let made = made.and_then(azure_core::http::Response::into_model);
        let key = self.read(made, &name, operation)?;
        let versions = self.versions(&name, operation).await?;
        // Another was faster between the two calls.
        if versions.len() > 1 {
            return Err(fault(ErrorKind::Conflict, operation));
        }
        if key.spec != spec {
            return Err(CallError::MalformedResponse("key").into_error(operation));
        }
        Ok(key.describe(&self.vault, versions))
    }

    fn capabilities_of(&self, spec: KeySpec) -> Option<claviger_provider::KeyCapabilities> {
        crate::provider::capabilities(self.vault.service, self.aes).of(spec).copied()
    }

    /// Adopts a key that somebody else made, once it is shown to be the tenant's.
    pub(crate) async fn adopt(&self, cx: &OpContext, text: &str) -> Result<KeyDescription, Error> {
        let operation = "adopt a key";
        let name = self
            .vault
            .named(text)
            .map_err(|hint| fault(ErrorKind::InvalidInput, operation).advice(hint.0))?;
        let unproven = || fault(ErrorKind::InvalidInput, operation).advice(UNPROVEN);
        let told = match self.client.get_key(name.as_str(), None).await {
            Ok(response) => response.into_model().map_err(|error| CallError::of(error).into_error(operation))?,
            Err(error) => {
                let error = self.refused(CallError::of(error), &name, operation).await;
                return Err(match (error.kind == ErrorKind::KeyNotFound, self.shared) {
                    (true, false) => error.advice("There is no key of that name in the connection's vault."),
                    // In a vault that may be another customer's nobody learns which names there are.
                    (true, true) => unproven(),
                    (false, _) => error,
                });
            }
        };
        // Whether there is no tag, or another tenant's, is nobody's business; nor is anything else of
        // the key before.
        let tagged = told.tags.as_ref().and_then(|tags| tags.get(TENANT_TAG));
        if let Some(tenant) = cx.claimant()
            && tagged.map(String::as_str) != Some(tenant.to_string().as_str())
        {
            return Err(unproven());
        }
        let key = Key::of(told, &self.vault, &name, self.aes)?;
        key.usable()?;
        self.canary(&key.name, &key.current.version, key.spec).await.map_err(|error| {
            // Azure does not tell how long an AES key is.
            if matches!(error.kind, ErrorKind::InvalidInput | ErrorKind::CiphertextRejected) {
                return error.advice("The vault does not wrap with this key as its type says: an AES key must have 256 bits.");
            }
            error
        })?;
        let versions = self.versions(&key.name, operation).await?;
        Ok(key.describe(&self.vault, versions))
    }

    /// Wraps and unwraps random bytes.
    pub(crate) async fn canary(&self, name: &KeyName, version: &Version, spec: KeySpec) -> Result<(), Error> {
        // The empty map: what the gateway writes as context always has members.
        let context = BoundContext::new(std::collections::BTreeMap::new(), vec![0xa0]);
        let dek = Secret::random(32);
        let wrapped = self.wrap(name, Some(version), spec, &dek, &context).await?;
        match self.unwrap(&wrapped, &context).await? == dek {
            true => Ok(()),
            false => Err(fault(ErrorKind::UpstreamProtocol, "another key came back")),
        }
    }

    /// Makes the next version.
    pub(crate) async fn rotated(&self, name: &KeyName) -> Result<KeyDescription, Error> {
        let operation = "rotate";
        self.look_up(name, operation).await?.usable()?;
        let rotated = self.client.rotate_key(name.as_str(), None).await;
        let rotated = self.read(rotated.and_then(azure_core::http::Response::into_model), name, operation)?;
        // Of several rotations at once another one may be the last.
        let key = self.look_up(name, operation).await?;
        let mut versions = self.versions(name, operation).await?;
        if !versions.iter().any(|version| version.version == rotated.current.version) {
            versions.push(rotated.current);
        }
        Ok(key.describe(&self.vault, versions))
    }

    /// Enables or disables a key. Azure switches versions only: disabling takes all that are
    /// enabled and marks them, enabling those that bear the mark and the current one.
    pub(crate) async fn switch(&self, name: &KeyName, enabled: bool) -> Result<(), Error> {
        let operation = if enabled { "enable a key" } else { "disable a key" };
        let key = self.look_up(name, operation).await?;
        let mut versions = self.versions(name, operation).await?;
        let is_current = |version: &KeyVersion| version.version == key.current.version;
        if !versions.iter().any(is_current) {
            versions.push(key.current.clone());
        }
        // The one that wraps goes first, whatever comes of the others.
        versions.sort_by_key(|version| !is_current(version));
        for mut version in versions {
            let marked = version.tags.contains_key(DISABLED_TAG);
            let due = match enabled {
                true => !version.enabled && (marked || is_current(&version)),
                false => version.enabled,
            };
            if !due {
                continue;
            }
            match enabled {
                true => drop(version.tags.remove(DISABLED_TAG)),
                false => drop(version.tags.insert(DISABLED_TAG.to_owned(), "true".to_owned())),
            }
            let parameters = UpdateKeyPropertiesParameters {
                key_attributes: Some(switched(enabled)),
                tags: Some(version.tags),
                ..UpdateKeyPropertiesParameters::default()
            };
            let options = KeyClientUpdateKeyPropertiesOptions {
                key_version: Some(version.version.as_str().to_owned()),
                ..KeyClientUpdateKeyPropertiesOptions::default()
            };
            let changed = self
                .client
                .update_key_properties(name.as_str(), body(parameters, operation)?, Some(options))
                .await;
            if let Err(error) = changed {
                return Err(self.refused(CallError::of(error), name, operation).await);
            }
        }
        Ok(())
    }
}

fn switched(enabled: bool) -> KeyAttributes {
    KeyAttributes {
        enabled: Some(enabled),
        ..KeyAttributes::default()
    }
}

fn tags(tenant: TenantId, id: KeyId) -> HashMap<String, String> {
    HashMap::from([(TENANT_TAG.to_owned(), tenant.to_string()), (KEY_TAG.to_owned(), id.to_string())])
}
