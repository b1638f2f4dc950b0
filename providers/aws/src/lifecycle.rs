//! Creates, looks up, rotates, enables and disables keys.

use std::collections::HashSet;
use std::time::Duration;

use aws_sdk_kms::types::{KeyMetadata, KeyUsageType, Tag};
use claviger_provider::kit::appearance::{Patience, until_found};
use claviger_provider::{Error, ErrorKind, Kek, KeyDescription, KeyId, KeyRequest, KeySpec, OpContext, Retry, TenantId};
use futures::StreamExt;
use tokio::time::{Instant, sleep};

use crate::client::{Kms, same_key};
use crate::errors::{CallError, denied, fault};
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
/// How many keys are asked for at once when one is searched.
const AT_ONCE: usize = 16;
const HASTY: &str = "An earlier attempt of this request may have created a KMS key that KMS does not show yet, and this one has too little time to wait \
     for it. Repeat it with more time, or in a minute.";
const FIND: &str = "An earlier attempt of this request may have created a KMS key. To find it, the connection's identity needs kms:ListKeys; or look for \
     the key whose description has the id in the audit record, adopt it, and use a new Idempotency-Key.";

/// What a key of the account is to a search.
enum Compared {
    /// It has the description that is searched.
    Made(Key),
    /// It has another one, or is not ours.
    Another(String),
    /// It is listed, and the server that was asked does not know it yet.
    NotYetKnown,
}

impl Kms {
    /// Creates a key for a logical key. Where the request is a repetition, the key that an earlier attempt
    /// created is returned instead. KMS takes neither a name nor an idempotency token for a new key, so another one is
    /// created only after a search for as long as KMS may need to show the first one.
    pub(crate) async fn create(&self, cx: &OpContext, request: &KeyRequest) -> Result<Key, Error> {
        let spec = request.spec;
        if request.repeated
            && let Some(key) = self.find_made_lately(cx, request).await?
        {
            return Ok(key);
        }
        let request = self
            .kms
            .create_key()
            .key_spec(kms_spec(spec))
            .key_usage(KeyUsageType::EncryptDecrypt)
            .description(description(request))
            .set_tags(Some(tags(cx.tenant, request.key_id)?));
        let response = self.call(cx, "CreateKey", || request.clone().send()).await?;
        let key = self.key(response.key_metadata(), "CreateKey")?;
        if key.spec != spec {
            return Err(CallError::MalformedResponse("key").into_error("CreateKey"));
        }
        Ok(key)
    }

    /// A key that was just created, once KMS finds it. The response to the creation has all that is needed, so it is
    /// not decisive whether the identity may describe keys, or whether the key is found in time.
    pub(crate) async fn found(&self, cx: &OpContext, created: Key) -> Key {
        let found = until_found(cx, || self.look_up(cx, &created.arn)).await;
        found.unwrap_or(created)
    }

    /// As [`Self::find_made`], of a request that may have been sent a moment ago.
    async fn find_made_lately(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<Key>, Error> {
        let (mut others, mut patience) = (HashSet::new(), Patience::of(cx));
        loop {
            let found = self.made_before(cx, &description(request), &mut others).await?;
            if found.is_some() {
                return Ok(found);
            }
            if !patience.pause().await {
                return match patience.is_whole() {
                    true => Ok(None),
                    // A second key would be the price of the haste.
                    false => Err(fault(ErrorKind::UpstreamUnavailable, "an earlier attempt's key may not show yet")
                        .retry(Retry::Backoff)
                        .advice(HASTY)),
                };
            }
        }
    }

    /// The key that was created for this request, if there is one.
    pub(crate) async fn find_made(&self, cx: &OpContext, request: &KeyRequest) -> Result<Option<Key>, Error> {
        self.made_before(cx, &description(request), &mut HashSet::new()).await
    }

    /// The key with this description, which contains the id that it was made under. KMS finds no key by
    /// its description or tags, so each of the account's is asked for, but for `others`, to which those are added that
    /// have another description, or are not ours.
    async fn made_before(&self, cx: &OpContext, description: &str, others: &mut HashSet<String>) -> Result<Option<Key>, Error> {
        let operation = "ListKeys";
        let mut marker = None;
        for _ in 0..MAX_PAGES {
            let request = self.kms.list_keys().limit(PAGE).set_marker(marker);
            let page = self.call(cx, operation, || request.clone().send()).await;
            let page = page.map_err(|error| match error.kind {
                ErrorKind::ProviderDenied => error.advice(FIND),
                _ => error,
            })?;
            let mut calls = Vec::new();
            for id in page.keys().iter().filter_map(|entry| entry.key_id()) {
                if !others.contains(id) {
                    calls.push(self.compared(cx, id.to_owned(), description));
                }
            }
            let mut compared = futures::stream::iter(calls).buffer_unordered(AT_ONCE);
            while let Some(key) = compared.next().await {
                match key? {
                    Compared::Made(key) => return Ok(Some(key)),
                    Compared::Another(id) => drop(others.insert(id)),
                    Compared::NotYetKnown => {}
                }
            }
            marker = page.next_marker().filter(|_| page.truncated()).map(str::to_owned);
            if marker.is_none() {
                return Ok(None);
            }
        }
        Err(fault(ErrorKind::Unsupported, "an account with too many keys to find one").advice(FIND))
    }

    /// Compares the description of the key of this id. What the identity may not describe is not ours.
    async fn compared(&self, cx: &OpContext, id: String, description: &str) -> Result<Compared, Error> {
        let request = self.kms.describe_key().key_id(&id);
        match self.try_call(cx, "DescribeKey", || request.clone().send()).await {
            Ok(response) => match response.key_metadata() {
                Some(metadata) if metadata.description() == Some(description) => {
                    self.key(Some(metadata), "DescribeKey").map(Compared::Made)
                }
                Some(_) | None => Ok(Compared::Another(id)),
            },
            Err(error) if denied(&error) => Ok(Compared::Another(id)),
            Err(error) if error.kind() == ErrorKind::KeyNotFound => Ok(Compared::NotYetKnown),
            Err(error) => Err(error.into_error("DescribeKey")),
        }
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

/// The description of a created key: the id that it is made under, which differs for a key that moved.
fn description(request: &KeyRequest) -> String {
    match request.made_as == request.key_id {
        true => format!("Claviger key {}", request.key_id),
        false => format!("Claviger key {}, made as {}", request.key_id, request.made_as),
    }
}

fn tags(tenant: TenantId, id: KeyId) -> Result<Vec<Tag>, Error> {
    let tag = |name: &str, value: String| {
        let tag = Tag::builder().tag_key(name).tag_value(value).build();
        tag.map_err(|_| fault(ErrorKind::Internal, "a tag without its parts"))
    };
    Ok(vec![tag(TENANT_TAG, tenant.to_string())?, tag(KEY_TAG, id.to_string())?])
}
