//! Unwrap: opens a wrapped key, with the provider or from the cache.

use claviger_provider::Secret;

use super::opening::{Refusals, Through};
use super::reach::permitted;
use super::{Authorized, Broker, Failure, Guarded, RequestContext, op, opening};
use crate::cache::{CacheKey, Found, Load, Rules};
use crate::envelope::{Context, Envelope};
use crate::keys::EpochGuard;
use crate::store::model::KeyState;

/// An unwrapped key.
#[derive(Debug)]
pub struct Unwrapped {
    /// The plaintext.
    pub plaintext: Secret,
    /// The key's name.
    pub key: String,
    /// Number of the key version that unwrapped it.
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
        let (cx, entry) = (authorized.cx(), authorized.object());
        let view = entry.view()?;
        permitted(&view, KeyState::unwraps)?;
        let accepted = self.accept(cx, &view.key, envelope, context).await?;
        let view = self.openable(cx, entry, view, envelope).await?;
        let members = self.all_members(entry, &view, envelope).await?;
        let mut refusals = Refusals::default();
        for (recipient, version) in opening::usable(&view, envelope) {
            authorized.names(version);
            let tried = async {
                let _turn = authorized.turn(version).await?;
                let reach = self.reach(entry, version).await?;
                let epoch_guard = reach.epoch_guard(entry, &view);
                let load = Load {
                    key: CacheKey::new(&epoch_guard, envelope, &accepted.bound),
                    rules: match members.is_empty() {
                        true => Rules::of(view.key.cache, version.custody, self.cache_defaults()),
                        // An entry ends with one connection, and the response depends on several.
                        false => Rules::OFF,
                    },
                    epoch_guard: &epoch_guard,
                    request_id: cx.info().request_id.as_str(),
                    deadline: cx.info().deadline,
                };
                let load_one = async || {
                    let through = Through {
                        entry,
                        version,
                        reach: &reach,
                    };
                    let opened = self.open_through(cx, &through, recipient, envelope, &accepted.bound).await;
                    let opened = opened.map_err(|mut failure| {
                        // Anybody can make envelopes without a valid seal, so their rejections are
                        // not cached.
                        failure.rejected_by_provider &= accepted.attested.is_some();
                        // What failed when this request's time was over may work for one that has more.
                        failure.of_request_alone |= cx.is_late();
                        failure
                    })?;
                    Ok((opened.into_plaintext(), version.number))
                };
                let found = self.cache().get_or_load(load, load_one).await?;
                Ok((found, epoch_guard))
            };
            match tried.await {
                Ok((found, epoch_guard)) => {
                    let answer = answer(cx, found, view.key.name.clone(), epoch_guard);
                    return Ok(members.into_iter().fold(answer, Guarded::and_guard));
                }
                Err(failure) => refusals.note(failure),
            }
        }
        Err(refusals.into_failure())
    }
}

fn answer(cx: &RequestContext, found: Found, key: String, epoch_guard: EpochGuard) -> Guarded<Unwrapped> {
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
        key,
        version,
        cached,
    };
    Guarded::new(answer, vec![epoch_guard])
}
