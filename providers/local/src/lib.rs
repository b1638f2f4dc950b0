//! The embedded provider: AES-256 and RSA keys that the gateway makes itself and keeps sealed in its
//! own store. `README.md` beside this crate says what that is worth. Named by `boot` only.

mod factory;
mod keks;
mod material;
mod opened;

pub use factory::LocalFactory;

use std::sync::Arc;

use async_trait::async_trait;
use claviger_provider::oaep;
use claviger_provider::{
    BoundContext, Capabilities, ContextBinding, Error, ErrorKind, How, Kek, KeyCapabilities, KeyDescription, KeyId, KeyRequest, KeySpec,
    KeyState, OpContext, Probe, Provider, ProviderKeyRef, ProviderKind, Rotation, SealedStore, Secret, TenantId, VersionDescription,
    Wrapped,
};
use serde::Deserialize;

use self::keks::{KekName, Keks};
use self::material::{FIRST_VERSION, Material, Row};
use self::opened::Opened;

/// The most bytes of one wrap under an AES key: what the REST API takes.
pub const MAX_PLAINTEXT: usize = 4096;

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

/// What keys of a specification can do.
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
    }
}

/// The most versions of one key, as many as the gateway takes in one description.
pub const MAX_VERSIONS: usize = 10_000;

/// The settings of a connection to the embedded provider: there are none, and any is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

/// The embedded provider.
///
/// One value serves all tenants and keys of a store, and there should be no second one: it
/// keeps opened keys, and would not learn that another disabled one.
pub struct LocalProvider {
    material: Material,
    keks: Arc<Keks>,
}

impl LocalProvider {
    /// A provider whose keys are in `store`. Opens nothing yet.
    pub fn new(store: Arc<dyn SealedStore>, settings: Settings) -> Self {
        Self::with_capacity(store, settings, keks::CAPACITY)
    }

    /// As [`LocalProvider::new`], with this many opened key versions in memory at most.
    pub fn with_capacity(store: Arc<dyn SealedStore>, Settings {}: Settings, opened_versions: usize) -> Self {
        Self {
            material: Material::new(store),
            keks: Arc::new(Keks::new(opened_versions)),
        }
    }

    /// The opened key of one version, from memory or from the store.
    async fn kek(&self, name: KekName) -> Result<Arc<Opened>, Error> {
        if let Some(kek) = self.keks.get(&name) {
            return Ok(kek);
        }
        // Taken before the store is read: a key that is disabled meanwhile is not kept.
        let epoch = self.keks.epoch();
        let row = self.usable(name.tenant, name.key).await?;
        if !row.versions.contains(&name.version) {
            return Err(missing());
        }
        let stored = self.material.kek(name.tenant, name.key, row.spec, name.version).await?;
        let kek = Opened::open(row.spec, &stored)?;
        Ok(self.keks.keep(name, Arc::new(kek), epoch))
    }

    /// The row of a key that may be used.
    async fn usable(&self, tenant: TenantId, key: KeyId) -> Result<Row, Error> {
        let row = self.material.row(tenant, key).await?;
        if self.material.enabled(tenant, key, &row).await? {
            Ok(row)
        } else {
            Err(error(ErrorKind::KeyState, "the key is disabled"))
        }
    }

    fn describe_row(key: KeyId, row: &Row, enabled: bool) -> KeyDescription {
        let state = if enabled { KeyState::Enabled } else { KeyState::Disabled };
        KeyDescription {
            id: key.to_string(),
            spec: row.spec,
            state,
            versions: row
                .versions
                .iter()
                .map(|version| VersionDescription {
                    key: key_ref(key, *version),
                    state,
                    created: None,
                })
                .collect(),
            primary: row.versions.len() - 1,
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

    /// Wraps under the version that `kek` names, the newest if it names none.
    async fn wrap_key(&self, cx: &OpContext, kek: &Kek, dek: &Secret, context: &BoundContext) -> Result<Wrapped, Error> {
        let key = &kek.key;
        let id = key_id(key)?;
        let version = if key.version.is_empty() {
            self.material.row(cx.tenant, id).await?.newest()
        } else {
            version(key)?
        };
        if dek.is_empty() {
            return Err(error(ErrorKind::InvalidInput, "an empty key"));
        }
        if dek.len() > can(kek.spec).max_plaintext {
            return Err(error(ErrorKind::TooLarge, "over the most bytes of one wrap"));
        }
        let opened = self.kek(KekName::new(cx.tenant, id, version)).await?;
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
        let opened = self.kek(KekName::new(cx.tenant, id, version)).await?;
        if wrapped.algorithm != opened.algorithm() {
            return Err(error(ErrorKind::CiphertextRejected, "an algorithm that this key does not have"));
        }
        opened.unwrap(&wrapped.ciphertext, context).await
    }

    async fn create_key(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        if let Some(adopt) = &request.adopt {
            // There is no key outside: the only ones to adopt are those that were made here
            // and detached, and they come back under their own id.
            if *adopt != request.key_id.to_string() {
                return Err(error(ErrorKind::InvalidInput, "there is no such key to adopt")
                    .advice("Leave provider_key out, or name a key that this tenant detached."));
            }
            let row = self.material.row(cx.tenant, request.key_id).await?;
            let enabled = self.material.enabled(cx.tenant, request.key_id, &row).await?;
            return Ok(Self::describe_row(request.key_id, &row, enabled));
        }
        let kek = Opened::draw(request.spec).await?;
        self.material
            .add(cx.tenant, request.key_id, (request.spec, FIRST_VERSION), kek)
            .await?;
        let row = self.material.row(cx.tenant, request.key_id).await?;
        Ok(Self::describe_row(request.key_id, &row, true))
    }

    async fn rotate(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let id = key_id(&kek.key)?;
        let row = self.usable(cx.tenant, id).await?;
        if row.versions.len() >= MAX_VERSIONS {
            return Err(error(ErrorKind::KeyState, "the key has as many versions as it can"));
        }
        // The bound on versions keeps the number far from its end.
        let next = row.newest().saturating_add(1);
        let kek = Opened::draw(row.spec).await?;
        self.material.add(cx.tenant, id, (row.spec, next), kek).await?;
        let row = self.material.row(cx.tenant, id).await?;
        Ok(Self::describe_row(id, &row, true))
    }

    async fn describe(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let id = key_id(&kek.key)?;
        let row = self.material.row(cx.tenant, id).await?;
        let enabled = self.material.enabled(cx.tenant, id, &row).await?;
        Ok(Self::describe_row(id, &row, enabled))
    }

    async fn set_state(&self, cx: &OpContext, kek: &Kek, enabled: bool) -> Result<(), Error> {
        let (tenant, id) = (cx.tenant, key_id(&kek.key)?);
        let (material, keks) = (self.material.clone(), Arc::clone(&self.keks));
        // In a task of its own: a caller that gives up must not keep what was written from
        // dropping the opened key.
        let change = tokio::spawn(async move {
            let result = material.set_enabled(tenant, id, enabled).await;
            // Also after an error: the value may have been written all the same.
            keks.forget(tenant, id);
            result
        });
        change
            .await
            .unwrap_or_else(|error| Err(fault("the change of state ended early").source(error)))
    }

    /// Reads the store once, at a row that does not exist.
    async fn probe(&self, _cx: &OpContext, _keks: &[Kek]) -> Result<Probe, Error> {
        self.material.reach().await?;
        Ok(Probe {
            detail: concat!("embedded ", env!("CARGO_PKG_VERSION")).into(),
            // It runs inside the gateway and asks nobody for leave.
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

/// A version as `create_key` and `rotate` write it; any other text names none.
fn version(key: &ProviderKeyRef) -> Result<u32, Error> {
    material::number(&key.version).ok_or_else(missing)
}

fn error(kind: ErrorKind, context: &'static str) -> Error {
    Error::new(kind, context).provider(ProviderKind::Local)
}

fn missing() -> Error {
    error(ErrorKind::KeyNotFound, "no such key or version")
}

fn fault(context: &'static str) -> Error {
    error(ErrorKind::Internal, context)
}
