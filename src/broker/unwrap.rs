//! Unwrap: opens a wrapped key, with the provider or from the cache.

use claviger_provider::Secret;

use super::wrapping::ready;
use super::{Authorized, Broker, Failure, Guarded, op};
use crate::cache::{CacheKey, Found, Load, Rules};
use crate::envelope::{Context, Envelope};

/// An unwrapped key.
#[derive(Debug)]
pub struct Unwrapped {
    /// The plaintext.
    pub plaintext: Secret,
    /// The key's name.
    pub key: String,
    /// The number of the key's version that opened it.
    pub version: u32,
    /// Whether the plaintext came from the cache.
    pub cached: bool,
}

impl Broker {
    /// Unwraps an envelope, whose header must name the authorized key.
    ///
    /// # Errors
    /// `ciphertext_rejected` for everything that is wrong with the envelope; `permission_denied`
    /// when this installation cannot check its seal and the caller lacks `UnwrapUnsealed`.
    pub async fn unwrap(
        &self,
        authorized: Authorized<op::Unwrap>,
        envelope: &Envelope,
        context: &Context,
    ) -> Result<Guarded<Unwrapped>, Failure> {
        let cx = authorized.cx();
        let _turn = authorized.turn().await?;
        let ready = ready(authorized.object())?;
        let accepted = self.accept(cx, &ready, envelope, context).await?;

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
                let opened = self.open(cx, &ready, envelope, &accepted.bound).await;
                let (opened, version) = opened.map_err(|mut failure| {
                    // Nothing vouches for an unsealed envelope, so its rejection is not cached.
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
