//! Canaries: one for each version of a key, kept with it, to prove later that other network settings of its
//! connection lead to the same provider key.
//!
//! A canary is a wrapped key that nobody got: a random data key that the version's provider wrapped. Its
//! plaintext is not kept. What unwraps it has the provider key, or reaches who has: the commitment in the
//! envelope shows whether the right data key came back. It is made once, soon after its version, and never
//! replaced, so it was made through the settings of that time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::Secret;

use super::context::Behalf;
use super::lost_versions::obstacle;
use super::{Broker, Failure, RequestContext};
use crate::envelope::{Context, DataKeyLength, Pending};
use crate::keys::KeyEntry;
use crate::store::canary_name;
use crate::store::model::{Connection, KeyVersion, VersionCanary};

/// The longest that a request waits for a canary.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection's settings that canaries are for: those that callers of the API can change, and the token of an HSM,
/// which another one replaces.
const PROVEN: [&str; 4] = ["address", "ca", "proxy", "token"];

impl Broker {
    /// Makes a canary of a key's primary version and keeps it. Without one, only the operator can change
    /// the network settings of the version's connection, so a failure is logged and no failure of the request.
    pub(super) async fn keep_canary(&self, cx: &RequestContext, key: &Arc<KeyEntry>) {
        // The change itself is done, and must be answered before the deadline.
        let rest = cx.info().deadline.saturating_duration_since(Instant::now());
        self.keep_canary_for(Behalf::Request(cx), key, rest / 2).await;
    }

    /// As [`Broker::keep_canary`], of a version that was learned without a request, for `name`.
    pub(super) async fn keep_canary_in_background(&self, name: &str, key: &Arc<KeyEntry>, most: Duration) {
        self.keep_canary_for(Behalf::Gateway(name), key, most).await;
    }

    async fn keep_canary_for(&self, behalf: Behalf<'_>, key: &Arc<KeyEntry>, most: Duration) {
        let patience = PATIENCE.min(most);
        // Boxed, since it is rare and would be part of every future that makes one.
        let made = tokio::time::timeout(patience, Box::pin(self.make_canary(behalf, key, patience)));
        let why = match made.await {
            Ok(Ok(())) => return,
            Ok(Err(failure)) => failure.code.as_str(),
            Err(_) => "the provider takes too long",
        };
        let (tenant, id) = (key.tenant(), key.id());
        match behalf {
            Behalf::Request(_) => {
                tracing::info!(%tenant, key = %id, why, "no canary was made of the key's primary version; a check of its connection makes it");
            }
            // The next look tries again.
            Behalf::Gateway(_) => tracing::debug!(%tenant, key = %id, why, "no canary was made of the key's primary version"),
        }
    }

    async fn make_canary(&self, behalf: Behalf<'_>, key: &Arc<KeyEntry>, patience: Duration) -> Result<(), Failure> {
        let ready = self.ready_here(key).await?;
        if let Some(failure) = obstacle(&ready.view) {
            return Err(failure);
        }
        let primary = canary_name(key.tenant(), key.id(), ready.view.key.primary.number);
        if !self.takes_canaries(&ready.connection) || self.store.get(&primary).await?.is_some() {
            return Ok(());
        }
        let pending = Pending::new(ready.origin(None, self.now()), DataKeyLength::B32, &Context::default());
        let length = DataKeyLength::B32.bytes();
        let draft = pending.commit(Secret::random(length)).map_err(|error| Failure::internal(&error))?;
        let (dek, context) = (draft.data_key(), draft.context());
        let wrapped = match behalf {
            Behalf::Request(cx) => ready.wrap_key_once(behalf, self, &cx.op_context(), dek, context).await?,
            Behalf::Gateway(name) => {
                let op = self.background.operation(name, key.tenant(), ready.connection.id, patience);
                ready.wrap_key_once(behalf, self, &op, dek, context).await?
            }
        };
        let view = key.view()?;
        let version = view.matching_through(ready.connection.id, ready.provider(), &wrapped.key);
        // A version that came meanwhile gets its row, and then its canary, by whoever finds it. An older one than the
        // primary may be another key's.
        let Some(version) = version.filter(|version| version.number >= ready.view.key.primary.number) else {
            return Ok(());
        };
        let secrets = self.directory().secrets(key.tenant()).await?;
        let envelope = draft.finish(ready.provider(), &wrapped, secrets.seal_key());
        let envelope = envelope.map_err(super::wrapping::unfit)?;
        let name = canary_name(key.tenant(), key.id(), version.number);
        let canary = Secret::copy_from(envelope.as_text().as_bytes());
        // Refused if there is one: the first one stays.
        self.store.insert(vec![(name, canary)]).await?;
        Ok(())
    }

    /// Makes the canaries that the primary versions of a connection lack, as far as there is time.
    pub(super) async fn keep_missing_canaries(&self, cx: &RequestContext, connection: &Connection, most: usize) -> Result<(), Failure> {
        if !self.takes_canaries(connection) {
            return Ok(());
        }
        let versions = self.store.canaries(cx.tenant(), connection.id, MOST).await?;
        let missing = versions
            .into_iter()
            .filter(|version| version.is_primary && version.canary.is_none());
        for version in missing.take(most) {
            if cx.info().deadline.saturating_duration_since(Instant::now()) < PATIENCE {
                break;
            }
            let Some(entry) = self.directory().key(cx.tenant(), version.key).await? else {
                continue;
            };
            if version.version.provider.reuses_names() {
                // A canary of another key under the same name would prove that key.
                let which = |other: &KeyVersion| other.connection == version.version.connection;
                let asked = self.ask_each(Behalf::Request(cx), &entry, which, Instant::now() + PATIENCE).await;
                if !matches!(asked, Ok(true)) {
                    continue;
                }
            }
            self.keep_canary(cx, &entry).await;
        }
        Ok(())
    }

    /// Whether network settings of the connection could change that canaries must open through.
    pub(super) fn takes_canaries(&self, connection: &Connection) -> bool {
        let factory = self.directory().factories().get(connection.provider);
        factory.is_some_and(|factory| factory.network_settings().iter().any(|name| PROVEN.contains(name)))
    }
}

/// The most versions of a connection whose canaries are tried: what one request has time for.
pub(super) const MOST: u32 = 10_000;

/// How a message names a version.
pub(super) fn named(version: &VersionCanary) -> String {
    format!("version {} of the key `{}`", version.version.number, version.name)
}
