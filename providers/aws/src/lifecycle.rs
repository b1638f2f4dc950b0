//! Keys made, adopted, looked up, rotated and switched.

use std::time::Duration;

use aws_sdk_kms::types::{KeyUsageType, Tag};
use claviger_provider::{Error, ErrorKind, Kek, KeyDescription, KeyId, KeySpec, OpContext, TenantId};
use tokio::time::{Instant, sleep};

use crate::errors::{CallError, fault};
use crate::keys::{Key, kms_spec, rotation_times};
use crate::names::{KeyArn, Named};
use crate::provider::AwsProvider;

/// The tags of a key that was made here.
pub(crate) const TENANT_TAG: &str = "claviger:tenant";
pub(crate) const KEY_TAG: &str = "claviger:key";
/// The most rotations of one page, and the most pages: as many versions as the gateway takes.
const PAGE: i32 = 1000;
const MAX_PAGES: usize = 10;
/// How long a rotation is waited for, which AWS carries out after its answer. Well below an
/// attempt of the pipeline's; what takes longer is seen at the next description.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(100);

impl AwsProvider {
    /// Makes a key for a logical key.
    pub(crate) async fn make(&self, cx: &OpContext, id: KeyId, spec: KeySpec) -> Result<Key, Error> {
        let operation = "create a key";
        let request = self
            .clients
            .kms
            .create_key()
            .key_spec(kms_spec(spec))
            .key_usage(KeyUsageType::EncryptDecrypt)
            .description(format!("Claviger key {id}"))
            .set_tags(Some(tags(cx.tenant, id)?));
        let answer = self.clients.call(|| request.clone().send()).await;
        let answer = answer.map_err(|failed| failed.into_error(operation))?;
        let metadata = answer
            .key_metadata()
            .ok_or_else(|| CallError::MalformedResponse("key").into_error(operation))?;
        let key = Key::of(metadata)?;
        if key.spec != spec || !key.arn.is_in(&self.region) {
            return Err(CallError::MalformedResponse("key").into_error(operation));
        }
        Ok(key)
    }

    /// A key, by whatever names it.
    async fn described(&self, name: &str, operation: &'static str) -> Result<Key, Error> {
        let request = self.clients.kms.describe_key().key_id(name);
        let answer = self.clients.call(|| request.clone().send()).await;
        let answer = answer.map_err(|failed| failed.into_error(operation))?;
        let key = Key::of(
            answer
                .key_metadata()
                .ok_or_else(|| CallError::MalformedResponse("key").into_error(operation))?,
        )?;
        if !key.arn.is_in(&self.region) {
            return Err(CallError::MalformedResponse("key").into_error(operation));
        }
        Ok(key)
    }

    /// A key of which we know the ARN.
    pub(crate) async fn look_up(&self, arn: &KeyArn, operation: &'static str) -> Result<Key, Error> {
        let key = self.described(arn.as_str(), operation).await?;
        self.same(Some(key.arn.as_str()), arn, operation)?;
        Ok(key)
    }

    /// When the key was rotated, oldest first.
    async fn rotations(&self, arn: &KeyArn, operation: &'static str) -> Result<Vec<i64>, Error> {
        let mut times = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self
                .clients
                .kms
                .list_key_rotations()
                .key_id(arn.as_str())
                .limit(PAGE)
                .set_marker(marker);
            let answer = self.clients.call(|| request.clone().send()).await;
            let answer = answer.map_err(|failed| failed.into_error(operation))?;
            times.extend(rotation_times(answer.rotations()));
            marker = answer.next_marker().filter(|_| answer.truncated()).map(str::to_owned);
            if marker.is_none() {
                times.sort_unstable();
                return Ok(times);
            }
        }
        Err(CallError::MalformedResponse("list of rotations").into_error(operation))
    }

    /// As [`Self::rotations`]; none where the service keeps no such history: of RSA keys, of
    /// keys in custom key stores.
    pub(crate) async fn history(&self, key: &Key, operation: &'static str) -> Result<Vec<i64>, Error> {
        match key.spec {
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => Ok(Vec::new()),
            KeySpec::Aes256 => match self.rotations(&key.arn, operation).await {
                Err(error) if error.kind == ErrorKind::Unsupported => Ok(Vec::new()),
                other => other,
            },
        }
    }

    /// Gives a symmetric key new material. AWS answers before it is done: a description
    /// without a new version says that it still goes on.
    pub(crate) async fn rotate_on_demand(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let operation = "rotate";
        let arn = self.arn(&kek.key)?;
        let key = self.look_up(&arn, operation).await?;
        key.usable()?;
        // Asked before anything is done: without this right, or for a key without a history,
        // nobody would ever learn of the rotation.
        let before = self.rotations(&arn, operation).await?;
        let request = self.clients.kms.rotate_key_on_demand().key_id(arn.as_str());
        let answer = self.clients.call(|| request.clone().send()).await;
        answer.map_err(|failed| failed.into_error(operation))?;
        let end = Instant::now() + PATIENCE.min(cx.remaining() / 2);
        loop {
            let now = self.rotations(&arn, operation).await?;
            if now.len() > before.len() || Instant::now() >= end {
                return Ok(key.describe(&now));
            }
            sleep(PAUSE).await;
        }
    }

    /// Enables or disables a key; AWS takes a repetition for a success.
    pub(crate) async fn switch(&self, arn: &KeyArn, enabled: bool) -> Result<(), Error> {
        // Whatever comes of it, the next wrap asks again.
        self.public_keys.forget(|key| key == arn);
        if enabled {
            let request = self.clients.kms.enable_key().key_id(arn.as_str());
            let answer = self.clients.call(|| request.clone().send()).await;
            answer.map(drop).map_err(|failed| failed.into_error("enable a key"))
        } else {
            let request = self.clients.kms.disable_key().key_id(arn.as_str());
            let answer = self.clients.call(|| request.clone().send()).await;
            answer.map(drop).map_err(|failed| failed.into_error("disable a key"))
        }
    }

    /// Adopts a key that somebody else made, once it is proven to be the tenant's.
    pub(crate) async fn adopt(&self, cx: &OpContext, name: &str, id: KeyId) -> Result<KeyDescription, Error> {
        let operation = "adopt a key";
        let named = Named::parse(name, &self.region).map_err(|hint| fault(ErrorKind::InvalidInput, operation).advice(hint.0))?;
        let key = self.described(named.as_str(), operation).await.map_err(|error| match error.kind {
            ErrorKind::KeyNotFound => {
                error.advice("There is no such key or alias in the connection's region, or the identity may not see it.")
            }
            _ => error,
        })?;
        if let Named::Arn(arn) = &named {
            self.same(Some(key.arn.as_str()), arn, operation)?;
        }
        key.usable()?;
        self.prove(cx, &key, id).await?;
        let rotations = self.history(&key, operation).await?;
        Ok(key.describe(&rotations))
    }
}

fn tags(tenant: TenantId, id: KeyId) -> Result<Vec<Tag>, Error> {
    let tag = |name: &str, value: String| {
        let tag = Tag::builder().tag_key(name).tag_value(value).build();
        tag.map_err(|_| fault(ErrorKind::Internal, "a tag without its parts"))
    };
    Ok(vec![tag(TENANT_TAG, tenant.to_string())?, tag(KEY_TAG, id.to_string())?])
}
