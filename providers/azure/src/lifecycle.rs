//! Creates, adopts, describes, rotates, enables and disables keys.

use std::collections::HashMap;

use azure_security_keyvault_keys::models::{CreateKeyParameters, Key as AzureKey, KeyType};
use claviger_provider::kit::appearance::{Patience, until_found};
use claviger_provider::{Error, ErrorKind, KeyDescription, KeyId, KeyRequest, KeySpec, OpContext, TenantId, oaep};

use crate::client::{Client, enabled_attributes};
use crate::cloud::Service;
use crate::errors::{CallError, fault};
use crate::keys::{Key, KeyVersion, describe_disabled, newest};
use crate::names::{KeyName, TENANT_TAG, Version};
use crate::wrap_algorithm::key_operations;

/// The tag of a created key that names its logical key.
const KEY_TAG: &str = "claviger-key";
/// The tag of versions that the gateway disabled, so that it does not enable versions that the
/// owner disabled.
const DISABLED_TAG: &str = "claviger-disabled";

const UNPROVEN: &str = "The key must carry the tag `claviger-tenant` with this tenant's id, which shows that its owner means it for this tenant. The \
                        connection's check prints the command.";

impl Client {
    fn parse(&self, described: Result<AzureKey, CallError>, name: &KeyName, operation: &'static str) -> Result<Key, Error> {
        let described = described.map_err(|error| error.into_error(operation))?;
        Key::of(described, &self.vault, name, self.aes)
    }

    /// The key with its current version.
    pub(crate) async fn key(&self, cx: &OpContext, name: &KeyName, operation: &'static str) -> Result<Key, Error> {
        match self.api.get_key(cx, name, None).await {
            Ok(described) => self.parse(Ok(described), name, operation),
            Err(error) => Err(self.key_error(cx, error, name, operation).await),
        }
    }

    /// All versions of a key, in no order.
    pub(crate) async fn versions(&self, cx: &OpContext, name: &KeyName, operation: &'static str) -> Result<Vec<KeyVersion>, Error> {
        let entries = self
            .api
            .list_versions(cx, name)
            .await
            .map_err(|error| error.into_error(operation))?;
        let mut versions: Vec<KeyVersion> = Vec::with_capacity(entries.len());
        for entry in entries {
            let version = KeyVersion::listed(entry, &self.vault, name)
                .filter(|version| versions.iter().all(|other| other.version != version.version))
                .ok_or_else(|| CallError::MalformedResponse("list of versions").into_error(operation))?;
            versions.push(version);
        }
        Ok(versions)
    }

    /// Describes a key of this specification with all its versions. If the current one is disabled, the vault may
    /// show it in the list alone.
    pub(crate) async fn described(&self, cx: &OpContext, name: &KeyName, spec: KeySpec) -> Result<KeyDescription, Error> {
        let operation = "describe";
        match self.api.get_key(cx, name, None).await {
            Ok(described) => {
                let key = self.parse(Ok(described), name, operation)?;
                let versions = self.versions(cx, &key.name, operation).await?;
                Ok(key.describe(&self.vault, versions))
            }
            Err(refused) if is_disabled(&refused) => {
                let versions = self.versions(cx, name, operation).await?;
                match self.disabled_current(cx, name, &versions).await {
                    Some(current) => Ok(describe_disabled(&self.vault, name, spec, current, versions)),
                    None => Err(refused.into_error(operation)),
                }
            }
            Err(error) => Err(self.key_error(cx, error, name, operation).await),
        }
    }

    /// The current version of a key that the vault does not describe, because that version is disabled: the newest one.
    /// If the list does not show it as disabled, the list is behind, and the vault is asked for that version. `None` if
    /// nothing shows which one it is.
    async fn disabled_current(&self, cx: &OpContext, name: &KeyName, versions: &[KeyVersion]) -> Option<KeyVersion> {
        let newest = newest(versions);
        let disabled = newest.iter().filter(|version| !version.enabled);
        if let Some(current) = disabled.max_by(|one, other| one.version.as_str().cmp(other.version.as_str())) {
            return Some(KeyVersion::clone(current));
        }
        for version in newest {
            if let Err(refused) = self.api.get_key(cx, name, Some(&version.version)).await
                && is_disabled(&refused)
            {
                return Some(version.clone());
            }
        }
        None
    }

    const fn key_type(&self, spec: KeySpec) -> KeyType {
        match (spec, self.vault.service, self.hsm) {
            (KeySpec::Aes256, _, _) => KeyType::OctHsm,
            (KeySpec::Rsa3072 | KeySpec::Rsa4096, Service::KeyVault, false) => KeyType::Rsa,
            (KeySpec::Rsa3072 | KeySpec::Rsa4096, Service::ManagedHsm, _)
            | (KeySpec::Rsa3072 | KeySpec::Rsa4096, Service::KeyVault, true) => KeyType::RsaHsm,
        }
    }

    /// Creates a key for a logical key. Where the request is a repetition, a key of that name with the
    /// gateway's tags is the one that an earlier attempt created.
    pub(crate) async fn create(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        let (operation, spec) = ("create a key", request.spec);
        if !self.vault.service.has(spec) {
            return Err(fault(ErrorKind::Unsupported, "a Key Vault has no AES keys")
                .advice("A Key Vault has RSA keys only: use rsa-3072 or rsa-4096, or a connection to a Managed HSM."));
        }
        if self.shared {
            return Err(fault(ErrorKind::InvalidInput, operation).advice(
                "The connection's application may be admitted to directories of several customers, so it creates no keys: have the vault's \
                 owner create one with the tag `claviger-tenant`, as the connection's check prints, and adopt it.",
            ));
        }
        let name = KeyName::of_made_key(request.made_as);
        // Creating a key that exists would rotate it.
        let mut patience = Patience::of(cx);
        loop {
            match self.api.get_key(cx, &name, None).await {
                Ok(there) if request.repeated && made_for(&there, cx.tenant, request.key_id) => {
                    return self.described_made(cx, there, &name, operation).await;
                }
                Ok(_) => return Err(fault(ErrorKind::Conflict, operation)),
                Err(error) if error.kind() == ErrorKind::KeyNotFound => {
                    // A server of the vault may not have yet what an earlier attempt made.
                    if !(request.repeated && patience.pause().await) {
                        break;
                    }
                }
                Err(error) => return Err(error.into_error(operation)),
            }
        }
        let bits = oaep::bits(spec).unwrap_or(256);
        let parameters = CreateKeyParameters {
            kty: Some(self.key_type(spec)),
            key_size: i32::try_from(bits).ok(),
            key_ops: Some(key_operations(spec, self.aes).into()),
            key_attributes: Some(enabled_attributes(true)),
            tags: Some(tags(cx.tenant, request.key_id)),
            ..CreateKeyParameters::default()
        };
        let created = self.api.create_key(cx, &name, parameters).await;
        let key = self.parse(created, &name, operation)?;
        let described = || async { self.api.get_key(cx, &name, None).await.map_err(|error| error.into_error(operation)) };
        // The response has all that is needed, so a vault whose servers do not all know the key yet fails nothing.
        let _shown = until_found(cx, described).await;
        let versions = self.versions(cx, &name, operation).await?;
        // Another caller created it between the two calls.
        if versions.len() > 1 && !request.repeated {
            return Err(fault(ErrorKind::Conflict, operation));
        }
        if key.spec != spec {
            return Err(CallError::MalformedResponse("key").into_error(operation));
        }
        Ok(key.describe(&self.vault, versions))
    }

    async fn described_made(
        &self,
        cx: &OpContext,
        there: AzureKey,
        name: &KeyName,
        operation: &'static str,
    ) -> Result<KeyDescription, Error> {
        let key = Key::of(there, &self.vault, name, self.aes)?;
        let versions = self.versions(cx, name, operation).await?;
        Ok(key.describe(&self.vault, versions))
    }

    /// The key of the name that the request's key is created under, if there is one with the gateway's tags.
    pub(crate) async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        let operation = "find a key";
        let name = KeyName::of_made_key(request.made_as);
        match self.api.get_key(cx, &name, None).await {
            Ok(there) if made_for(&there, cx.tenant, request.key_id) => self.described_made(cx, there, &name, operation).await.map(Some),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::KeyNotFound => Ok(None),
            Err(error) => Err(error.into_error(operation)),
        }
    }

    /// Adopts an existing key that is proven to be the tenant's.
    pub(crate) async fn adopt(&self, cx: &OpContext, text: &str) -> Result<KeyDescription, Error> {
        let operation = "adopt a key";
        let name = self
            .vault
            .adoptable(text)
            .map_err(|hint| fault(ErrorKind::InvalidInput, operation).advice(hint.0))?;
        let described = match self.api.get_key(cx, &name, None).await {
            Ok(described) => described,
            Err(error) => {
                let error = self.key_error(cx, error, &name, operation).await;
                return Err(match (error.kind == ErrorKind::KeyNotFound, self.shared) {
                    (true, false) => error.advice("There is no key of that name in the connection's vault."),
                    // The vault may be another customer's, so do not reveal which names exist.
                    (true, true) => unproven(),
                    (false, _) => error,
                });
            }
        };
        // Before this check nothing about the key is revealed, and not whether it has no tag or
        // another tenant's.
        let tagged = described.tags.as_ref().and_then(|tags| tags.get(TENANT_TAG));
        if let Some(tenant) = cx.claimant()
            && tagged.map(String::as_str) != Some(tenant.to_string().as_str())
        {
            return Err(unproven());
        }
        let key = Key::of(described, &self.vault, &name, self.aes)?;
        key.usable()?;
        self.canary(cx, &key.name, &key.current.version, key.spec).await.map_err(|error| {
            // Azure does not return the length of an AES key.
            if matches!(error.kind, ErrorKind::InvalidInput | ErrorKind::CiphertextRejected) {
                return error.advice("The vault does not wrap with this key as its type requires: an AES key must have 256 bits.");
            }
            error
        })?;
        let versions = self.versions(cx, &key.name, operation).await?;
        Ok(key.describe(&self.vault, versions))
    }

    /// Creates a new version.
    pub(crate) async fn rotated(&self, cx: &OpContext, name: &KeyName) -> Result<KeyDescription, Error> {
        let operation = "rotate";
        self.key(cx, name, operation).await?.usable()?;
        let rotated = self.api.rotate_key(cx, name).await;
        let rotated = self.parse(rotated, name, operation)?;
        // If several rotations run at the same time, the current version may be that of another
        // one.
        let key = self.key(cx, name, operation).await?;
        let mut versions = self.versions(cx, name, operation).await?;
        if !versions.iter().any(|version| version.version == rotated.current.version) {
            versions.push(rotated.current);
        }
        Ok(key.describe(&self.vault, versions))
    }

    /// Enables or disables a key. Azure does so by version: disabling marks and disables all
    /// enabled versions; enabling enables the marked ones and the current one.
    pub(crate) async fn set_enabled(&self, cx: &OpContext, name: &KeyName, enabled: bool) -> Result<(), Error> {
        match enabled {
            true => self.enable(cx, name).await,
            false => self.disable(cx, name).await,
        }
    }

    async fn disable(&self, cx: &OpContext, name: &KeyName) -> Result<(), Error> {
        let operation = "disable a key";
        let mut versions = self.versions(cx, name, operation).await?;
        let current = match self.api.get_key(cx, name, None).await {
            Ok(described) => self.parse(Ok(described), name, operation)?.current,
            // It is disabled already; older versions may not be.
            Err(refused) if is_disabled(&refused) => match versions.iter().max_by_key(|version| version.created) {
                Some(newest) => newest.clone(),
                None => return Err(refused.into_error(operation)),
            },
            Err(error) => return Err(self.key_error(cx, error, name, operation).await),
        };
        let is_current = |version: &KeyVersion| version.version == current.version;
        if !versions.iter().any(is_current) {
            versions.push(current.clone());
        }
        // The version that wraps is first, in case another one fails.
        versions.sort_by_key(|version| !is_current(version));
        for version in versions.into_iter().filter(|version| version.enabled) {
            self.switch(cx, name, version, false).await?;
        }
        Ok(())
    }

    /// The versions are listed first, because a vault may refuse to describe a disabled key.
    async fn enable(&self, cx: &OpContext, name: &KeyName) -> Result<(), Error> {
        let operation = "enable a key";
        let versions = self.versions(cx, name, operation).await?;
        let newest: Vec<Version> = newest(&versions).into_iter().map(|version| version.version.clone()).collect();
        let (mut marked, others): (Vec<_>, Vec<_>) = versions
            .into_iter()
            .filter(|version| !version.enabled)
            .partition(|version| version.tags.contains_key(DISABLED_TAG));
        // The newest first: it is the one that wraps.
        marked.sort_by_key(|version| std::cmp::Reverse(version.created));
        for version in marked {
            self.switch(cx, name, version, true).await?;
        }
        // Older ones are not the current one: their owner disabled them.
        let mut others = others.into_iter().filter(|version| newest.contains(&version.version));
        loop {
            match self.api.get_key(cx, name, None).await {
                Ok(described) => {
                    let current = self.parse(Ok(described), name, operation)?.current;
                    return match current.enabled {
                        true => Ok(()),
                        false => self.switch(cx, name, current, true).await,
                    };
                }
                // The current version is disabled, and the answer does not say which it is: the newest. Azure's
                // times are whole seconds, so there may be several.
                Err(refused) if is_disabled(&refused) => match others.next() {
                    Some(newest) => self.switch(cx, name, newest, true).await?,
                    None => return Err(refused.into_error(operation)),
                },
                Err(error) => return Err(self.key_error(cx, error, name, operation).await),
            }
        }
    }

    async fn switch(&self, cx: &OpContext, name: &KeyName, mut version: KeyVersion, enabled: bool) -> Result<(), Error> {
        let operation = if enabled { "enable a key" } else { "disable a key" };
        match enabled {
            true => drop(version.tags.remove(DISABLED_TAG)),
            false => drop(version.tags.insert(DISABLED_TAG.to_owned(), "true".to_owned())),
        }
        match self.api.set_enabled(cx, name, &version.version, enabled, version.tags).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.key_error(cx, error, name, operation).await),
        }
    }
}

/// Whether a vault refuses a call because the key's version is disabled.
fn is_disabled(error: &CallError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.is_disabled())
}

/// The error of an adoption whose owner is not proven by the key's tag.
pub(crate) fn unproven() -> Error {
    fault(ErrorKind::ProviderDenied, "a key without the tenant's tag").advice(UNPROVEN)
}

/// Whether the gateway created the key for this logical key.
fn made_for(key: &AzureKey, tenant: TenantId, id: KeyId) -> bool {
    let found = key.tags.as_ref();
    tags(tenant, id)
        .iter()
        .all(|(name, value)| found.and_then(|found| found.get(name)) == Some(value))
}

fn tags(tenant: TenantId, id: KeyId) -> HashMap<String, String> {
    HashMap::from([(TENANT_TAG.to_owned(), tenant.to_string()), (KEY_TAG.to_owned(), id.to_string())])
}
