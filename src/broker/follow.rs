//! Follows what the owner of a key does to it at its provider. The key is described there, and what changed is
//! stored, when the provider refuses a call for the state of key or version, when a version is needed that is
//! stored as unusable, and every 5 minutes while the key is in use.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::{OpContext, ProviderKind, TenantId};

use super::at_provider::turn_at_provider;
use super::reach::Reach;
use super::rounds::check_all;
use super::{Broker, Code, Failure, RequestContext};
use crate::keys::{KeyEntry, KeyView};
use crate::store::model::KeyVersion;

/// The least time between two calls that requests make to ask for the state of the same provider key.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// The most keys that one round looks at, and the most of one tenant: with a round every 5 seconds, 30,000
/// keys and 4,800 of a tenant in 5 minutes.
const ROUND: usize = 500;
const ROUND_OF_TENANT: usize = 80;
/// Timeout of one question of a look. What it changes is never left half done.
const PATIENCE: Duration = Duration::from_secs(5);
/// The name of a look in place of a request id.
const LOOK: &str = "keys-in-use";
/// How many other provider keys of a key a look asks about beside that of the primary version: the newest. The
/// state of others is asked for once a call with them is refused.
const OTHER_PROVIDER_KEYS: usize = 3;

impl Broker {
    /// Asks the provider again for the state of a version that is stored as unusable at the provider, or that it
    /// refused to use, and stores what changed; where the primary version has the same provider key, also new
    /// versions. It asks at most once in [`ASK_EVERY`] for a provider key. Concurrent callers wait for the call
    /// under way. Returns whether it asked.
    ///
    /// # Errors
    /// `connection_severed`, `deadline_exceeded`, and what the provider, the log or the store reports.
    pub(super) async fn ask_anew(&self, cx: &RequestContext, key: &Arc<KeyEntry>, version: &KeyVersion) -> Result<bool, Failure> {
        let one_at_a_time = turn_at_provider(cx, key).await?;
        let reach = self.reach(key, version).await?;
        if !key.may_ask(reach.row.id, &version.provider_key, ASK_EVERY) {
            return Ok(false);
        }
        let moved = self.take_described(&cx.op_context(), key, version, &reach).await?;
        drop(one_at_a_time);
        if moved {
            self.keep_canary(cx, key).await;
        }
        Ok(true)
    }

    /// As [`Broker::ask_anew`], after a call with the version was refused with `key_state`. Without an answer the
    /// refusal stands. Returns whether the key was described, so that the call may be made once more.
    pub(super) async fn look_into(&self, cx: &RequestContext, key: &Arc<KeyEntry>, version: &KeyVersion) -> bool {
        match self.ask_anew(cx, key, version).await {
            Ok(asked) => asked,
            Err(failure) => {
                let (tenant, id, code) = (key.tenant(), key.id(), failure.code.as_str());
                tracing::debug!(%tenant, key = %id, code, "why the provider refused a call with a key could not be asked");
                false
            }
        }
    }

    /// Describes a version's provider key, and stores what changed. Returns whether there were new versions, or
    /// another primary version. The caller holds the turn at the provider.
    async fn take_described(&self, cx: &OpContext, key: &Arc<KeyEntry>, version: &KeyVersion, reach: &Reach) -> Result<bool, Failure> {
        let view = key.view()?;
        if is_of_primary(&view, version) {
            return self.take_versions_through(cx, key, &view, reach, None).await;
        }
        self.take_states(cx, key, version, reach).await?;
        Ok(false)
    }

    /// Looks at the keys that are in use, as many as a round has room for. Call it every 5 seconds.
    ///
    /// A look that fails is the tenant's own affair, and is logged; the next one comes when it is due.
    pub async fn look_at_keys_in_use(&self, now: Instant) {
        let due = self.directory().keys_to_look_at(now);
        let due = due.into_iter().map(|key| (key.tenant(), key));
        let looks = fairly(due, ROUND, ROUND_OF_TENANT).into_iter().map(async |key: Arc<KeyEntry>| {
            if let Err(failure) = Box::pin(self.look_at(&key, now)).await {
                let (tenant, id, code) = (key.tenant(), key.id(), failure.code.as_str());
                tracing::debug!(%tenant, key = %id, code, "a key in use could not be looked at");
            }
            Ok(())
        });
        let (Ok(()) | Err(_)) = check_all(looks).await;
    }

    /// Looks at the provider keys of a key. Not while it is disabled, its tenant suspended, or a connection
    /// severed.
    async fn look_at(&self, key: &Arc<KeyEntry>, now: Instant) -> Result<(), Failure> {
        // A change that is under way asks by itself. The next round tries again.
        let Ok(_one_at_a_time) = key.at_provider().try_lock() else {
            return Ok(());
        };
        // Whatever becomes of it: a provider that fails is not asked more often than one that answers.
        key.in_use().looked(now);
        let view = key.view()?;
        let primary = &view.key.primary;
        // Nobody but the gateway changes keys of the embedded provider.
        if !view.key.state.unwraps() || primary.provider == ProviderKind::Local {
            return Ok(());
        }
        self.take_versions_in_background(LOOK, key, PATIENCE, None).await?;
        let others = view.provider_keys().into_iter().filter(|version| !is_of_primary(&view, version));
        for version in others.filter(|version| version.connection.is_some()).take(OTHER_PROVIDER_KEYS) {
            let looked = async {
                let reach = self.reach(key, version).await?;
                let cx = self.background.operation(LOOK, key.tenant(), reach.connection.id(), PATIENCE);
                self.take_states(&cx, key, version, &reach).await
            };
            match looked.await {
                Err(failure) if failure.code != Code::ConnectionSevered => return Err(failure),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether a version's provider key is the one that the key wraps with.
fn is_of_primary(view: &KeyView, version: &KeyVersion) -> bool {
    let primary = &view.key.primary;
    version.connection_id() == primary.connection_id() && version.provider_key == primary.provider_key
}

/// At most `most` of these, and `of_tenant` of each tenant, taken in turns: however many one tenant has, the
/// others have theirs.
fn fairly<T>(due: impl Iterator<Item = (TenantId, T)>, most: usize, of_tenant: usize) -> Vec<T> {
    let mut tenants: HashMap<TenantId, VecDeque<T>> = HashMap::new();
    for (tenant, key) in due {
        let theirs = tenants.entry(tenant).or_default();
        if theirs.len() < of_tenant {
            theirs.push_back(key);
        }
    }
    let mut taken = Vec::new();
    let mut turns: VecDeque<VecDeque<T>> = tenants.into_values().collect();
    while taken.len() < most
        && let Some(mut theirs) = turns.pop_front()
    {
        taken.extend(theirs.pop_front());
        if !theirs.is_empty() {
            turns.push_back(theirs);
        }
    }
    taken
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests;
