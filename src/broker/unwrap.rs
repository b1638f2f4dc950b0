//! Unwrap: from a wrapped key to the bytes, from the provider or from the cache.

use std::sync::Arc;

use claviger_provider::Secret;

use super::opening::UnsealedLeave;
use super::wrapping::ready;
use super::{Broker, Failure, Guarded, RequestContext, opening};
use crate::access::{Permit, op};
use crate::cache::{CacheKey, Found, Load, Rules};
use crate::envelope::{Context, Envelope};
use crate::keys::KeyEntry;

/// An unwrapped key.
#[derive(Debug)]
pub struct Unwrapped {
    /// The bytes.
    pub plaintext: Secret,
    /// The key's name.
    pub key: String,
    /// Our number of the version that opened it.
    pub version: u32,
    /// Whether it came from the cache.
    pub cached: bool,
}

impl Broker {
    /// Unwraps. The envelope's header must name the key that the permit is for.
    ///
    /// # Errors
    /// `ciphertext_rejected` for everything that is wrong with the blob;
    /// `permission_denied` when it is unsealed and there is no leave for that.
    pub async fn unwrap(
        &self,
        cx: &RequestContext,
        permit: Permit<op::Unwrap>,
        unsealed: UnsealedLeave<'_>,
        key: &Arc<KeyEntry>,
        envelope: &Envelope,
        context: &Context,
    ) -> Result<Guarded<Unwrapped>, Failure> {
        cx.permitted(&permit);
        let ready = ready(cx, key)?;
        let accepted = self.accept(cx, &ready, envelope, context, unsealed).await?;

        let load = Load {
            key: CacheKey::new(&ready.epoch_guard, envelope, &accepted.bound),
            rules: Rules::of(&ready.view.key, self.cache_defaults()),
            epoch_guard: &ready.epoch_guard,
            request_id: &cx.info().request_id,
            deadline: cx.info().deadline,
        };
        let found = self
            .cache()
            .get_or_load(load, async || {
                let opened = opening::open(cx, &ready.view, &ready.pipeline, envelope, &accepted.bound).await;
                let (opened, version) = opened.map_err(|mut failure| {
                    // Without a seal nobody vouches for the blob, so nothing of it is remembered.
                    failure.rejected_by_provider &= accepted.attested.is_some();
                    failure
                })?;
                Ok((opened.into_plaintext(), version))
            })
            .await?;
        let Found {
            plaintext,
            version,
            cached,
            coalesced_with,
        } = found;
        cx.note(|fields| {
            fields.key_version = Some(version);
            fields.cached = Some(cached);
            fields.coalesced_with = coalesced_with;
        });
        let answer = Unwrapped {
            plaintext,
            key: ready.view.key.name.clone(),
            version,
            cached,
        };
        Ok(Guarded::new(answer, vec![ready.epoch_guard]))
    }
}
