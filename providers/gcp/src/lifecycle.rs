//! Creates, adopts, describes, rotates, enables and disables keys.

use std::time::Duration;

use claviger_provider::kit::appearance::until_found;
use claviger_provider::{Error, ErrorKind, Kek, KeyDescription, KeyId, KeyRequest, KeySpec, KeyState, OpContext, TenantId};
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState as State;
use google_cloud_kms_v1::model::{CryptoKey, CryptoKeyVersion, CryptoKeyVersionTemplate};
use tokio::time::{Instant, sleep};

use crate::client::Client;
use crate::errors::{CallError, fault};
use crate::keys::{KEY_LABEL, Key, TENANT_LABEL, belongs_to, purpose};
use crate::names::{KeyName, VersionNumber};

/// The pause between two polls for the material of a new version.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The id at Google of a key that is created. Google refuses a second key with it.
fn id_of_made_key(key: KeyId) -> String {
    format!("claviger-{key}")
}

fn labels(tenant: TenantId, key: KeyId) -> [(String, String); 2] {
    [
        (TENANT_LABEL.to_owned(), tenant.to_string()),
        (KEY_LABEL.to_owned(), key.to_string()),
    ]
}

impl Client {
    /// Until when to wait for a version's material, which Google generates after its response.
    fn patience(&self, cx: &OpContext) -> Instant {
        Instant::now() + self.patience.min(cx.remaining() * 3 / 4)
    }

    /// A key by its name.
    pub(crate) async fn key(&self, cx: &OpContext, name: &KeyName, operation: &'static str) -> Result<Key, Error> {
        let key = self.api.get_key(cx, name).await;
        Key::of(&key.map_err(|error| error.into_error(operation))?, name)
    }

    /// All versions of a key, whatever their state.
    async fn versions(&self, cx: &OpContext, name: &KeyName, operation: &'static str) -> Result<Vec<CryptoKeyVersion>, Error> {
        let versions = self.api.list_versions(cx, name).await;
        versions.map_err(|error| error.into_error(operation))
    }

    /// Describes a key with all its versions.
    pub(crate) async fn described(&self, cx: &OpContext, name: &KeyName, operation: &'static str) -> Result<KeyDescription, Error> {
        let key = self.key(cx, name, operation).await?;
        key.describe(&self.versions(cx, name, operation).await?)
    }

    /// The version that wraps under a symmetric key none of whose versions was ever made the primary one; `None` for a
    /// key with a primary version, and where Google does not return it. It is remembered for a while.
    pub(crate) async fn version_without_primary(&self, cx: &OpContext, name: &KeyName) -> Option<VersionNumber> {
        let look_up = async {
            let key = self.key(cx, name, "encrypt").await.ok().filter(|key| !key.has_primary())?;
            let described = key.describe(&self.versions(cx, name, "encrypt").await.ok()?).ok()?;
            VersionNumber::parse(&described.versions.get(described.primary)?.key.version)
        };
        self.newest_versions.get_or(name.clone(), look_up).await
    }

    /// Creates a key for a logical key, and waits for its material for a while. Where the request is a
    /// repetition, a key of that id is the one that an earlier attempt created.
    pub(crate) async fn create(&self, cx: &OpContext, request: &KeyRequest) -> Result<KeyDescription, Error> {
        let spec = request.spec;
        let operation = "create a key";
        let until = self.patience(cx);
        let id_at_google = id_of_made_key(request.made_as);
        let name = self.name_of_made_key(request)?;
        let (purpose, algorithm) = purpose(spec);
        let template = CryptoKeyVersionTemplate::new()
            .set_protection_level(self.level.clone())
            .set_algorithm(algorithm);
        let key = CryptoKey::new()
            .set_purpose(purpose)
            .set_version_template(template)
            .set_labels(labels(cx.tenant, request.key_id));
        let created = match self.api.create_key(cx, &self.ring, &id_at_google, &key).await {
            Err(error) if request.repeated && error.kind() == ErrorKind::Conflict => {
                until_found(cx, || self.key(cx, &name, operation)).await?
            }
            created => Key::of(&created.map_err(|error| error.into_error(operation))?, &name)?,
        };
        if created.spec != spec {
            return Err(CallError::MalformedResponse("key").into_error(operation));
        }
        loop {
            let versions = until_found(cx, || self.versions(cx, &name, operation)).await?;
            let pending = versions.iter().all(|version| version.state == State::PendingGeneration);
            if !pending || Instant::now() >= until {
                return created.describe(&versions);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn name_of_made_key(&self, request: &KeyRequest) -> Result<KeyName, Error> {
        let name = self.ring.key(&id_of_made_key(request.made_as));
        name.ok_or_else(|| fault(ErrorKind::Internal, "the name of a new key"))
    }

    /// The key of the id that the request's key is created under, if there is one.
    pub(crate) async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<KeyDescription>, Error> {
        match self.described(cx, &self.name_of_made_key(request)?, "find a key").await {
            Err(error) if error.kind == ErrorKind::KeyNotFound => Ok(None),
            described => described.map(Some),
        }
    }

    /// Creates a new version of a key and makes it the primary one.
    pub(crate) async fn rotated(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let operation = "rotate";
        let until = self.patience(cx);
        let name = self.name(&kek.key)?;
        usable(&self.described(cx, &name, operation).await?)?;
        let created = self.api.create_version(cx, &name).await;
        let created = created.map_err(|error| error.into_error(operation))?;
        let version = name.version_of(&created.name);
        let version = version.ok_or_else(|| CallError::MalformedResponse("version").into_error(operation))?;
        // A version that is not ready in time appears in a later description. Google uses the
        // newest version of an asymmetric key; a symmetric key's primary version must be set.
        self.wait_for(cx, &name, version, created.state, until)
            .await
            .map_err(|error| error.into_error(operation))?;
        if kek.spec == KeySpec::Aes256 {
            let set = self.api.set_primary_version(cx, &name, version).await;
            set.map_err(|error| error.into_error(operation))?;
        }
        self.described(cx, &name, operation).await
    }

    async fn wait_for(
        &self,
        cx: &OpContext,
        name: &KeyName,
        version: VersionNumber,
        mut state: State,
        until: Instant,
    ) -> Result<(), CallError> {
        while state == State::PendingGeneration && Instant::now() < until {
            sleep(POLL_INTERVAL).await;
            state = self.api.get_version(cx, name, version).await?.state;
        }
        Ok(())
    }

    /// Enables all disabled versions of a key, or disables all enabled ones: Google has no such
    /// switch for the key itself. A disable usually reaches all of Google's servers within a
    /// minute, at worst within hours; the gateway's own takes effect immediately.
    pub(crate) async fn set_enabled(&self, cx: &OpContext, name: &KeyName, enabled: bool) -> Result<(), Error> {
        let operation = if enabled { "enable a key" } else { "disable a key" };
        // Whatever the outcome, the next wrap asks Google for the public key again.
        self.public_keys.forget(|(key, _)| key == name);
        let (from, to) = match enabled {
            true => (State::Disabled, State::Enabled),
            false => (State::Enabled, State::Disabled),
        };
        let versions = self.versions(cx, name, operation).await?;
        for version in versions.into_iter().filter(|version| version.state == from) {
            let changed = self.api.set_version_state(cx, &version.name, to.clone()).await;
            changed.map_err(|error| error.into_error(operation))?;
        }
        Ok(())
    }

    /// Adopts an existing key that is proven to be the tenant's.
    pub(crate) async fn adopt(&self, cx: &OpContext, name: &str) -> Result<KeyDescription, Error> {
        let operation = "adopt a key";
        let name = self.ring.adoptable(name);
        let name = name.map_err(|hint| fault(ErrorKind::InvalidInput, operation).advice(hint.0))?;
        let described = self.api.get_key(cx, &name).await.map_err(|error| error.into_error(operation))?;
        // Before this check nothing is said of the key but that there is one.
        if let Some(tenant) = cx.claimant() {
            belongs_to(&described, tenant)?;
        }
        let key = Key::of(&described, &name)?;
        let description = key.describe(&self.versions(cx, &name, operation).await?)?;
        usable(&description)?;
        if let Some(kek) = description.kek(KeyId::random()) {
            self.canary(cx, &whole(kek)).await.map_err(|error| match error.kind {
                ErrorKind::ProviderDenied => error.advice(
                    "Grant the connection's identity the permissions to wrap and unwrap with the key, as in the role that the connection's \
                     check prints. Then repeat the adoption, or the rotation to it.",
                ),
                _ => error,
            })?;
        }
        Ok(description)
    }
}

/// The key as a wrap names it: of an RSA key the version, which has no current one.
fn whole(mut kek: Kek) -> Kek {
    match kek.spec {
        KeySpec::Aes256 => kek.key.version.clear(),
        KeySpec::Rsa3072 | KeySpec::Rsa4096 => {}
    }
    kek
}

/// Fails unless a key can be used now.
///
/// # Errors
/// `KeyState`, with advice.
fn usable(key: &KeyDescription) -> Result<(), Error> {
    let refused = |advice| Err(fault(ErrorKind::KeyState, "a key that cannot be used now").advice(advice));
    match key.state {
        KeyState::Enabled => Ok(()),
        KeyState::Disabled => refused(
            "The key's primary version is disabled; its owner can enable it (`gcloud kms keys versions enable`). If it was disabled through \
             the gateway: `claviger keys enable --at-provider`.",
        ),
        KeyState::PendingDeletion => refused(
            "The key's primary version is scheduled for destruction; its owner can restore it (`gcloud kms keys versions restore`, then \
             `enable`) or create a new one (`gcloud kms keys versions create --primary`).",
        ),
        KeyState::Destroyed => {
            refused("The key's primary version is destroyed; its owner can create a new one (`gcloud kms keys versions create --primary`).")
        }
        KeyState::PendingImport => refused("The key version waits for its material; its owner can import it."),
        KeyState::Failed => refused(
            "Google could not make the key's primary version; its owner can create a new one (`gcloud kms keys versions create --primary`).",
        ),
        KeyState::DecryptOnly | KeyState::Unknown => {
            refused("Google reports a state of the key's primary version that this release does not know.")
        }
    }
}
