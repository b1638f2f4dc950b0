//! Keys made, adopted, looked up, rotated and switched.

use std::time::Duration;

use claviger_provider::{Error, ErrorKind, Kek, KeyDescription, KeyId, KeySpec, OpContext, TenantId};
use google_cloud_kms_v1::model::crypto_key_version::CryptoKeyVersionState as State;
use google_cloud_kms_v1::model::{CryptoKey, CryptoKeyVersion, CryptoKeyVersionTemplate};
use google_cloud_wkt::FieldMask;
use tokio::time::{Instant, sleep};

use crate::errors::{CallError, fault};
use crate::keys::{KEY_LABEL, Key, TENANT_LABEL, purpose};
use crate::names::{KeyName, Number};
use crate::provider::GcpProvider;

/// The most versions of one page, and the most pages: as many as the gateway takes.
const PAGE: i32 = 1000;
const MAX_PAGES: usize = 10;
const TICK: Duration = Duration::from_millis(50);

/// The id of the key that is made for a logical key: a second one would be refused.
pub(crate) fn made(key: KeyId) -> String {
    format!("claviger-{key}")
}

fn labels(tenant: TenantId, key: KeyId) -> [(String, String); 2] {
    [
        (TENANT_LABEL.to_owned(), tenant.to_string()),
        (KEY_LABEL.to_owned(), key.to_string()),
    ]
}

impl GcpProvider {
    /// Until when a version's material is waited for, which Google makes after its answer.
    fn patience(&self, cx: &OpContext) -> Instant {
        Instant::now() + self.patience.min(cx.remaining() * 3 / 4)
    }

    /// A key by its name.
    pub(crate) async fn look_up(&self, name: &KeyName, operation: &'static str) -> Result<Key, Error> {
        let answer = self.kms.call(|kms| kms.get_crypto_key().set_name(name.as_str()).send()).await;
        Key::of(&answer.map_err(|failed| failed.into_error(operation))?, name)
    }

    /// All versions of a key, whatever their state.
    async fn versions(&self, name: &KeyName, operation: &'static str) -> Result<Vec<CryptoKeyVersion>, Error> {
        let mut all = Vec::new();
        let mut token = String::new();
        for _ in 0..MAX_PAGES {
            let list = |kms: &google_cloud_kms_v1::client::KeyManagementService| {
                let list = kms.list_crypto_key_versions().set_parent(name.as_str()).set_page_size(PAGE);
                list.set_page_token(token.as_str()).send()
            };
            let answer = self.kms.call(list).await.map_err(|failed| failed.into_error(operation))?;
            all.extend(answer.crypto_key_versions);
            token = answer.next_page_token;
            if token.is_empty() {
                return Ok(all);
            }
        }
        Err(CallError::MalformedResponse("list of versions").into_error(operation))
    }

    /// A key as it is now.
    pub(crate) async fn described(&self, name: &KeyName, operation: &'static str) -> Result<KeyDescription, Error> {
        let key = self.look_up(name, operation).await?;
        key.describe(&self.versions(name, operation).await?)
    }

    /// Makes a key for a logical key, and waits a while for its material.
    pub(crate) async fn make(&self, cx: &OpContext, id: KeyId, spec: KeySpec) -> Result<KeyDescription, Error> {
        let operation = "create a key";
        let until = self.patience(cx);
        let id_there = made(id);
        let name = self
            .ring
            .key(&id_there)
            .ok_or_else(|| fault(ErrorKind::Internal, "a key's own name"))?;
        let (purpose, algorithm) = purpose(spec);
        let template = CryptoKeyVersionTemplate::new()
            .set_protection_level(self.level.clone())
            .set_algorithm(algorithm);
        let key = CryptoKey::new()
            .set_purpose(purpose)
            .set_version_template(template)
            .set_labels(labels(cx.tenant, id));
        let create = |kms: &google_cloud_kms_v1::client::KeyManagementService| {
            let create = kms.create_crypto_key().set_parent(self.ring.as_str());
            create.set_crypto_key_id(id_there.as_str()).set_crypto_key(key.clone()).send()
        };
        let made = self.kms.call(create).await.map_err(|failed| failed.into_error(operation))?;
        let made = Key::of(&made, &name)?;
        if made.spec != spec {
            return Err(CallError::MalformedResponse("key").into_error(operation));
        }
        loop {
            let versions = self.versions(&name, operation).await?;
            let waiting = versions.iter().all(|version| version.state == State::PendingGeneration);
            if !waiting || Instant::now() >= until {
                return made.describe(&versions);
            }
            sleep(TICK).await;
        }
    }

    /// Gives a key a new version, and makes it the one that is used.
    pub(crate) async fn rotate_in_place(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let operation = "rotate";
        let until = self.patience(cx);
        let name = self.name(&kek.key)?;
        let key = self.look_up(&name, operation).await?;
        let before = key.describe(&self.versions(&name, operation).await?)?;
        usable(&before)?;
        let create = |kms: &google_cloud_kms_v1::client::KeyManagementService| {
            let create = kms.create_crypto_key_version().set_parent(name.as_str());
            create.set_crypto_key_version(CryptoKeyVersion::new()).send()
        };
        let version = self.kms.call(create).await.map_err(|failed| failed.into_error(operation))?;
        let number = name.number_of(&version.name);
        let number = number.ok_or_else(|| CallError::MalformedResponse("version").into_error(operation))?;
        // What is not there in time is seen at a later description: of an asymmetric key that is
        // all; a symmetric one's primary version is set first, since it is used at once then.
        self.wait_for(&name, number, version.state, until).await?;
        if kek.spec == KeySpec::Aes256 {
            let update = |kms: &google_cloud_kms_v1::client::KeyManagementService| {
                let update = kms.update_crypto_key_primary_version().set_name(name.as_str());
                update.set_crypto_key_version_id(number.to_string()).send()
            };
            self.kms.call(update).await.map_err(|failed| failed.into_error(operation))?;
        }
        self.described(&name, operation).await
    }

    async fn wait_for(&self, name: &KeyName, number: Number, mut state: State, until: Instant) -> Result<(), Error> {
        while state == State::PendingGeneration && Instant::now() < until {
            sleep(TICK).await;
            let whole = name.version(number);
            let get = self
                .kms
                .call(|kms| kms.get_crypto_key_version().set_name(whole.as_str()).send())
                .await;
            state = get.map_err(|failed| failed.into_error("rotate"))?.state;
        }
        Ok(())
    }

    /// Enables all versions of a key that are disabled, or disables all that are enabled: Google
    /// has no such switch for the key itself. A disable reaches all of its servers within a minute
    /// as a rule, and in hours at the worst; the gateway's own holds at once.
    pub(crate) async fn switch(&self, name: &KeyName, enabled: bool) -> Result<(), Error> {
        let operation = if enabled { "enable a key" } else { "disable a key" };
        // Whatever comes of it, the next wrap asks again.
        self.public_keys.forget(|(key, _)| key == name);
        let (from, to) = match enabled {
            true => (State::Disabled, State::Enabled),
            false => (State::Enabled, State::Disabled),
        };
        let versions = self.versions(name, operation).await?;
        for version in versions.into_iter().filter(|version| version.state == from) {
            let changed = CryptoKeyVersion::new().set_name(version.name).set_state(to.clone());
            let update = |kms: &google_cloud_kms_v1::client::KeyManagementService| {
                let update = kms.update_crypto_key_version().set_crypto_key_version(changed.clone());
                update.set_update_mask(FieldMask::default().set_paths(["state"])).send()
            };
            self.kms.call(update).await.map_err(|failed| failed.into_error(operation))?;
        }
        Ok(())
    }

    /// Adopts a key that somebody else made, once it is proven to be the tenant's.
    pub(crate) async fn adopt(&self, cx: &OpContext, name: &str) -> Result<KeyDescription, Error> {
        let operation = "adopt a key";
        let name = self.ring.named(name);
        let name = name.map_err(|hint| fault(ErrorKind::InvalidInput, operation).advice(hint.0))?;
        let key = self.look_up(&name, operation).await?;
        if let Some(tenant) = cx.claimant() {
            key.belongs_to(tenant)?;
        }
        let description = key.describe(&self.versions(&name, operation).await?)?;
        usable(&description)?;
        Ok(description)
    }
}

/// Whether a key can be used now.
///
/// # Errors
/// `KeyState`, with what to do.
fn usable(key: &KeyDescription) -> Result<(), Error> {
    let refused = |advice| Err(fault(ErrorKind::KeyState, "a key that cannot be used now").advice(advice));
    match key.state {
        claviger_provider::KeyState::Enabled => Ok(()),
        claviger_provider::KeyState::Disabled => {
            refused("The key's primary version is disabled; its owner can enable it (`gcloud kms keys versions enable`).")
        }
        claviger_provider::KeyState::PendingDeletion | claviger_provider::KeyState::Destroyed => refused(
            "The key's primary version is destroyed or waits for it; its owner can restore it (`gcloud kms keys versions restore`) or make \
             a new one (`gcloud kms keys versions create --primary`).",
        ),
        claviger_provider::KeyState::PendingImport => refused("The key's version waits for its material; its owner can import it."),
    }
}
