//! The provider on one sealed store.

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::kit::lengths::{self, MAX_DATA_KEY};
use claviger_provider::oaep;
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, ErrorKind, Exposure, How, Kek, KeyCapabilities, KeyDescription, KeyId, KeyRequest,
    KeySpec, KeyState, OpContext, Probe, Provider, ProviderKeyRef, ProviderKind, Rotation, SealedStore, Secret, TenantId,
    VersionDescription, Wrapped,
};

use crate::errors::{error, fault, missing};
use crate::key_cache::{CAPACITY, KeyCache, KeyVersion};
use crate::keys::{FIRST_VERSION, StoredKey, StoredKeys, number};
use crate::opened_key::OpenedKey;
use crate::settings::Settings;
use crate::work::Work;

/// The most bytes of one wrap under an AES key: the longest data key of the REST API.
pub const MAX_PLAINTEXT: usize = MAX_DATA_KEY;

/// What every connection of the embedded provider can do.
pub fn capabilities() -> Capabilities {
    Capabilities {
        keys: KeySpec::ALL.map(can).to_vec(),
        create_key: true,
        set_state: true,
        schedule_deletion: false,
        import: false,
    }
}

/// What can be done with keys of a specification.
fn can(spec: KeySpec) -> KeyCapabilities {
    let (context, max_plaintext) = match oaep::max_plaintext(spec) {
        None => (ContextBinding::AssociatedData, MAX_PLAINTEXT),
        Some(max) => (ContextBinding::CommitmentOnly, max),
    };
    KeyCapabilities {
        spec,
        wrap: How::ThroughMemory,
        generate_data_key: How::ThroughMemory,
        rewrap: How::ThroughMemory,
        context,
        rotation: Some(Rotation::InPlace),
        max_plaintext,
        // XAES-256-GCM has nonces of 192 bits.
        random_nonce_bound: false,
        // Nobody but the gateway rotates its keys.
        chooses_version: false,
    }
}

/// The most versions of one key: the gateway's limit for a description.
pub const MAX_VERSIONS: usize = 10_000;

/// The embedded provider.
///
/// One value serves all tenants and keys of a store. There must be no second one for the same
/// store, because each caches opened keys and would not notice that the other one disabled a key.
pub struct LocalProvider {
    keys: StoredKeys,
    cache: Arc<KeyCache>,
    key_generation: Work,
    private_key_operations: Work,
}

impl LocalProvider {
    /// A provider whose keys are in `store`. Reads nothing yet.
    pub fn new(store: Arc<dyn SealedStore>, settings: Settings) -> Self {
        Self::with_capacity(store, settings, CAPACITY)
    }

    /// As [`LocalProvider::new`], with this many opened key versions in memory at most.
    pub fn with_capacity(store: Arc<dyn SealedStore>, Settings {}: Settings, opened_versions: usize) -> Self {
        Self {
            keys: StoredKeys::new(store),
            cache: Arc::new(KeyCache::new(opened_versions)),
            key_generation: Work::key_generation(),
            private_key_operations: Work::private_key_operations(),
        }
    }

    /// A version's opened key, cached or from the store.
    async fn opened(&self, name: KeyVersion) -> Result<Arc<OpenedKey>, Error> {
        if let Some(opened) = self.cache.get(&name) {
            return Ok(opened);
        }
        // Take the epoch before the store is read, so that a key that is disabled meanwhile is not
        // cached.
        let epoch = self.cache.epoch();
        let stored = self.usable(name.tenant, name.key).await?;
        if !stored.versions.contains(&name.version) {
            return Err(missing());
        }
        let material = self.keys.material(name.tenant, name.key, stored.spec, name.version).await?;
        let opened = OpenedKey::open(&self.private_key_operations, name.tenant, stored.spec, material).await?;
        Ok(self.cache.insert(name, Arc::new(opened), epoch))
    }

    /// A key that is enabled.
    async fn usable(&self, tenant: TenantId, key: KeyId) -> Result<StoredKey, Error> {
        let stored = self.keys.key(tenant, key).await?;
        if self.keys.enabled(tenant, key, &stored).await? {
            Ok(stored)
        } else {
            Err(error(ErrorKind::KeyState, "the key is disabled"))
        }
    }

    fn description(key: KeyId, stored: &StoredKey, enabled: bool) -> KeyDescription {
        let state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
        KeyDescription {
            id: key.to_string(),
            spec: stored.spec,
            state,
            versions: stored
                .versions
                .iter()
                .map(|version| VersionDescription {
                    key: key_ref(key, *version),
                    state,
                    created: None,
                    exposure: Some(Exposure::NONE),
                })
                .collect(),
            primary: stored.versions.len() - 1,
        }
    }
}

#[async_trait]
impl Provider for LocalProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Local
    }

    fn capabilities(&self) -> Capabilities {
        capabilities()
    }

    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let key = &kek.key;
        let id = key_id(key)?;
        let version = if key.version.is_empty() {
            self.keys.key(cx.tenant, id).await?.newest()
        } else {
            version(key)?
        };
        lengths::check_plaintext(ProviderKind::Local, dek, can(kek.spec).max_plaintext)?;
        let opened = self.opened(KeyVersion::new(cx.tenant, id, version)).await?;
        Ok(Wrapped {
            key: key_ref(id, version),
            algorithm: opened.algorithm(),
            ciphertext: opened.wrap(dek, context)?,
            key_material: None,
            upstream_request_id: None,
        })
    }

    async fn unwrap_key(&self, cx: &OpContext, wrapped: &Wrapped, context: &BoundContext) -> Result<Secret, Error> {
        let (id, version) = (key_id(&wrapped.key)?, version(&wrapped.key)?);
        let opened = self.opened(KeyVersion::new(cx.tenant, id, version)).await?;
        if wrapped.algorithm != opened.algorithm() {
            return Err(error(ErrorKind::CiphertextRejected, "an algorithm that this key does not have"));
        }
        opened
            .unwrap(&self.private_key_operations, cx.tenant, &wrapped.ciphertext, context)
            .await
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        if let Some(adopt) = &request.adopt {
            // Only a key of this tenant that was created here can be adopted: one that was
            // detached. The gateway checks that no other key uses it now.
            let unknown = || {
                error(ErrorKind::InvalidInput, "no such key to adopt").advice("Omit provider_key, or name a key that this tenant detached.")
            };
            let id: KeyId = adopt.parse().map_err(|_| unknown())?;
            let stored = match self.keys.key(cx.tenant, id).await {
                Err(error) if error.kind == ErrorKind::KeyNotFound => return Err(unknown()),
                stored => stored?,
            };
            let enabled = self.keys.enabled(cx.tenant, id, &stored).await?;
            return Ok(Self::description(id, &stored, enabled));
        }
        let material = OpenedKey::generate(&self.key_generation, cx.tenant, request.spec).await?;
        let added = self.keys.add(cx.tenant, request.made_as, (request.spec, FIRST_VERSION), material);
        match added.await {
            // An earlier attempt made it.
            Err(error) if request.repeated && error.kind == ErrorKind::Conflict => {}
            added => added?,
        }
        let stored = self.keys.key(cx.tenant, request.made_as).await?;
        Ok(Self::description(request.made_as, &stored, true))
    }

    async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        match self.keys.key(cx.tenant, request.made_as).await {
            Ok(stored) => {
                let enabled = self.keys.enabled(cx.tenant, request.made_as, &stored).await?;
                Ok(Some(Self::description(request.made_as, &stored, enabled)))
            }
            Err(error) if error.kind == ErrorKind::KeyNotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let id = key_id(&kek.key)?;
        let stored = self.usable(cx.tenant, id).await?;
        if stored.versions.len() >= MAX_VERSIONS {
            return Err(error(ErrorKind::KeyState, "the key has the most versions that a key can have"));
        }
        // Never saturates: the limit on versions is far lower.
        let next = stored.newest().saturating_add(1);
        let material = OpenedKey::generate(&self.key_generation, cx.tenant, stored.spec).await?;
        self.keys.add(cx.tenant, id, (stored.spec, next), material).await?;
        let stored = self.keys.key(cx.tenant, id).await?;
        Ok(Self::description(id, &stored, true))
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let id = key_id(&kek.key)?;
        let stored = self.keys.key(cx.tenant, id).await?;
        let enabled = self.keys.enabled(cx.tenant, id, &stored).await?;
        Ok(Self::description(id, &stored, enabled))
    }

    async fn set_state(&self, cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        let (tenant, id) = (cx.tenant, key_id(&kek.key)?);
        let (keys, cache) = (self.keys.clone(), Arc::clone(&self.cache));
        // Run the change in its own task. If the caller gives up, the opened key must be removed
        // nevertheless.
        let change = tokio::spawn(async move {
            let result = keys.set_enabled(tenant, id, enabled).await;
            // Also after an error: the value may have been written.
            cache.remove(tenant, id);
            result
        });
        change
            .await
            .unwrap_or_else(|error| Err(fault("the change of state ended early").source(error)))
    }

    async fn probe(&self, _cx: &OpContext, _keks: &[Kek]) -> Result<Probe, Error> {
        self.keys.check().await?;
        Ok(Probe {
            detail: concat!("embedded ", env!("CARGO_PKG_VERSION")).into(),
            // It runs inside the gateway and needs no rights.
            problem: None,
            rights: Vec::new(),
            policy: None,
        })
    }
}

fn key_ref(key: KeyId, version: u32) -> ProviderKeyRef {
    ProviderKeyRef {
        id: key.to_string(),
        version: version.to_string(),
    }
}

fn key_id(key: &ProviderKeyRef) -> Result<KeyId, Error> {
    key.id.parse().map_err(|_| missing())
}

/// A version's number, in the form in which `create_key` and `rotate` write it.
fn version(key: &ProviderKeyRef) -> Result<u32, Error> {
    number(&key.version).ok_or_else(missing)
}
