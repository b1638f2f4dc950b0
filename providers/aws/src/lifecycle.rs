//! Creates, looks up, rotates, enables and disables keys.

use std::time::Duration;

use aws_sdk_kms::types::{KeyMetadata, KeyUsageType, Tag};
use claviger_provider::{Error, ErrorKind, Kek, KeyDescription, KeyId, KeySpec, OpContext, TenantId};
use tokio::time::{Instant, sleep};

use crate::client::{Kms, same_key};
use crate::errors::{CallError, fault};
use crate::keys::{Key, kms_spec, rotation_times};
use crate::names::KeyArn;

/// The tags of a key that the gateway created.
pub(crate) const TENANT_TAG: &str = "claviger:tenant";
pub(crate) const KEY_TAG: &str = "claviger:key";
/// The most rotations of one page, and the most pages: as many versions as the gateway takes.
const PAGE: i32 = 1000;
const MAX_PAGES: usize = 10;
/// How long to wait for a rotation, which AWS completes after its response. Well below an attempt
/// of the pipeline's; a rotation that takes longer is seen at the next description.
const ROTATION_WAIT: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

impl Kms {
    /// Creates a key for a logical key.
    pub(crate) async fn create(&self, cx: &OpContext, id: KeyId, spec: KeySpec) -> Result<Key, Error> {
        let request = self
            .kms
            .create_key()
            .key_spec(kms_spec(spec))
            .key_usage(KeyUsageType::EncryptDecrypt)
            .description(format!("Claviger key {id}"))
            .set_tags(Some(tags(cx.tenant, id)?));
        let response = self.call(cx, "CreateKey", || request.clone().send()).await?;
        let key = self.key(response.key_metadata(), "CreateKey")?;
        if key.spec != spec {
            return Err(CallError::MalformedResponse("key").into_error("CreateKey"));
        }
        Ok(key)
    }

    /// The key of a response, which must be in the connection's region.
    fn key(&self, metadata: Option<&KeyMetadata>, operation: &'static str) -> Result<Key, Error> {
        let malformed = || CallError::MalformedResponse("key").into_error(operation);
        let key = Key::of(metadata.ok_or_else(malformed)?)?;
        if key.arn.is_in(&self.region) { Ok(key) } else { Err(malformed()) }
    }

    /// The key of any name that KMS resolves.
    pub(crate) async fn described(&self, cx: &OpContext, name: &str) -> Result<Key, Error> {
        let request = self.kms.describe_key().key_id(name);
        let response = self.call(cx, "DescribeKey", || request.clone().send()).await?;
        self.key(response.key_metadata(), "DescribeKey")
    }

    /// The key of an ARN.
    pub(crate) async fn look_up(&self, cx: &OpContext, arn: &KeyArn) -> Result<Key, Error> {
        let key = self.described(cx, arn.as_str()).await?;
        same_key(Some(key.arn.as_str()), arn).map_err(|error| error.into_error("DescribeKey"))?;
        Ok(key)
    }

    /// The times of a key's rotations in Unix seconds, oldest first.
    async fn rotations(&self, cx: &OpContext, arn: &KeyArn) -> Result<Vec<i64>, Error> {
        let operation = "ListKeyRotations";
        let mut times = Vec::new();
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.kms.list_key_rotations().key_id(arn.as_str()).limit(PAGE).set_marker(marker);
            let response = self.call(cx, operation, || request.clone().send()).await?;
            times.extend(rotation_times(response.rotations()));
            marker = response.next_marker().filter(|_| response.truncated()).map(str::to_owned);
            if marker.is_none() {
                times.sort_unstable();
                return Ok(times);
            }
        }
        Err(CallError::MalformedResponse("list of rotations").into_error(operation))
    }

    /// As [`Self::rotations`]; empty for keys of which KMS keeps no history: RSA keys, and keys in
    /// custom key stores.
    pub(crate) async fn rotation_history(&self, cx: &OpContext, key: &Key) -> Result<Vec<i64>, Error> {
        match key.spec {
            KeySpec::Rsa3072 | KeySpec::Rsa4096 => Ok(Vec::new()),
            KeySpec::Aes256 => match self.rotations(cx, &key.arn).await {
                Err(error) if error.kind == ErrorKind::Unsupported => Ok(Vec::new()),
                result => result,
            },
        }
    }

    /// Gives a symmetric key new material. AWS responds before the rotation is done. A description
    /// without a new version means that the rotation is still in progress.
    pub(crate) async fn rotate_on_demand(&self, cx: &OpContext, kek: &Kek) -> Result<KeyDescription, Error> {
        let arn = self.arn(&kek.key)?;
        let key = self.look_up(cx, &arn).await?;
        key.usable()?;
        // Read the history before anything changes. Without the right to read it, or for a key
        // without a history, the gateway could never see the rotation.
        let before = self.rotations(cx, &arn).await?;
        let request = self.kms.rotate_key_on_demand().key_id(arn.as_str());
        self.call(cx, "RotateKeyOnDemand", || request.clone().send()).await?;
        let end = Instant::now() + ROTATION_WAIT.min(cx.remaining() / 2);
        loop {
            let now = self.rotations(cx, &arn).await?;
            if now.len() > before.len() || Instant::now() >= end {
                return Ok(key.describe(&now));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Enables or disables a key. At AWS a repetition succeeds.
    pub(crate) async fn set_enabled(&self, cx: &OpContext, arn: &KeyArn, enabled: bool) -> Result<(), Error> {
        // Drop the cached public key even if the call fails, so that the next wrap fetches it
        // again.
        self.public_keys.forget(|key| key == arn);
        if enabled {
            let request = self.kms.enable_key().key_id(arn.as_str());
            self.call(cx, "EnableKey", || request.clone().send()).await.map(drop)
        } else {
            let request = self.kms.disable_key().key_id(arn.as_str());
            self.call(cx, "DisableKey", || request.clone().send()).await.map(drop)
        }
    }
}

fn tags(tenant: TenantId, id: KeyId) -> Result<Vec<Tag>, Error> {
    let tag = |name: &str, value: String| {
        let tag = Tag::builder().tag_key(name).tag_value(value).build();
        tag.map_err(|_| fault(ErrorKind::Internal, "a tag without its parts"))
    };
    Ok(vec![tag(TENANT_TAG, tenant.to_string())?, tag(KEY_TAG, id.to_string())?])
}
