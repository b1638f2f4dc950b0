//! Follows what the owner of a key does to it at its provider. The key is described there, and what changed is
//! stored, when the provider refuses a call for the state of key or version, when a version is needed that is
//! stored as unusable, at a check of its connection, and every 5 minutes while the key is in use.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use claviger_provider::{ConnectionId, OpContext, ProviderKind};
use futures::StreamExt;

use super::at_provider::turn_at_provider;
use super::context::Behalf;
use super::reach::{Reach, may_wrap};
use super::{Broker, Code, Failure, RequestContext};
use crate::keys::{KeyEntry, KeyView, MayAsk};
use crate::store::model::{Key, KeyVersion};

/// The least time between two calls that requests make to ask for the state of the same provider key.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// The most keys that one round looks at, and the most of one tenant: with a round every 5 seconds, 30,000
/// keys and 4,800 of a tenant in 5 minutes.
const ROUND: usize = 500;
const ROUND_OF_TENANT: usize = 80;
/// How many keys a round looks at at once, and of one tenant: a provider that does not answer holds up the keys of
/// its own tenant alone.
const AT_ONCE: usize = 256;
const AT_ONCE_OF_TENANT: usize = 4;
/// How long a round begins looks. The keys that are left are first in the next one.
const ROUND_TIME: Duration = Duration::from_secs(5);
/// Timeout of one question of a look, and of all questions about one key. What a look changes is never left half
/// done.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_OF_KEY: Duration = Duration::from_secs(10);
/// The time that a check leaves for what follows its looks at keys.
const REST_OF_CHECK: Duration = Duration::from_secs(3);
/// The name of a look in place of a request id.
const LOOK: &str = "keys-in-use";
/// How many other provider keys of a key a look asks about beside that of the primary version: the newest. The
/// state of others is asked for once a call with them is refused.
const OTHER_PROVIDER_KEYS: usize = 3;

impl Broker {
    /// Asks the provider again for the state of a version that is stored as unusable at the provider, or that it
    /// refused to use, and stores what changed; where the primary version has the same provider key, also new
    /// versions. It asks at most once in [`ASK_EVERY`] for a provider key, counted from when the question was sent,
    /// also if its caller had no time for the answer: then a look follows within a minute or so. Concurrent callers wait
    /// for the call under way, and share its outcome. Returns whether the provider answered since this was called.
    ///
    /// # Errors
    /// `connection_severed`, `deadline_exceeded`, and what the provider, the log or the store reports.
    pub(super) async fn ask_anew(&self, cx: &RequestContext, key: &Arc<KeyEntry>, version: &KeyVersion) -> Result<bool, Failure> {
        let begin = Instant::now();
        let one_at_a_time = turn_at_provider(cx, key).await?;
        let reach = self.reach(key, version).await?;
        match key.may_ask(reach.row.id, &version.provider_key, ASK_EVERY) {
            MayAsk::Now => {}
            MayAsk::Asked(answered) => return Ok(answered.is_some_and(|answered| answered >= begin)),
        }
        let op = cx.op_context();
        let made = op.trace().made();
        let described = self.take_described(&op, key, version, &reach).await;
        if described.is_err() && cx.is_late() {
            if op.trace().made() == made {
                // The deadline ended before anything was sent.
                key.ask_again(reach.row.id, &version.provider_key);
            } else {
                // A question that was sent counts, also where its caller did not wait for the answer: otherwise callers
                // with short deadlines would ask with each request. A look, which waits longer, asks in their place.
                self.directory().note_use(key, version.provider, Instant::now());
                self.directory().look_soon(key);
            }
        }
        let moved = described?;
        key.answered(reach.row.id, &version.provider_key);
        drop(one_at_a_time);
        if moved {
            self.keep_canary(cx, key).await;
        }
        Ok(true)
    }

    /// As [`Broker::ask_anew`], after a call with the version was refused with `key_state`. Without an answer the
    /// refusal stands. Where the provider was asked too short a time ago, a look follows within a minute or so. Returns
    /// whether the key was described since, so that the call may be made once more.
    pub(super) async fn look_into(&self, cx: &RequestContext, key: &Arc<KeyEntry>, version: &KeyVersion) -> bool {
        match self.ask_anew(cx, key, version).await {
            Ok(answered) => {
                if !answered {
                    self.directory().look_soon(key);
                }
                answered
            }
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
        let end = Instant::now() + ROUND_TIME;
        let due = self.directory().keys_to_look_at(now, ROUND, ROUND_OF_TENANT);
        let looks = lanes(due).into_iter().map(async |lane: Vec<Arc<KeyEntry>>| {
            for key in lane {
                if Instant::now() >= end {
                    break;
                }
                if let Err(failure) = Box::pin(self.look_at(&key, now)).await {
                    let (tenant, id, code) = (key.tenant(), key.id(), failure.code.as_str());
                    tracing::debug!(%tenant, key = %id, code, "a key in use could not be looked at");
                }
            }
        });
        futures::stream::iter(looks).buffer_unordered(AT_ONCE).for_each(async |()| ()).await;
    }

    /// Looks at the provider keys of a key. Not while it is disabled, its tenant suspended, or a connection
    /// severed. Makes the canary that the primary version lacks.
    async fn look_at(&self, key: &Arc<KeyEntry>, now: Instant) -> Result<(), Failure> {
        // A change that is under way asks by itself. The next round tries again.
        if key.at_provider().try_lock().is_err() {
            return Ok(());
        }
        // Whatever becomes of it: a provider that fails is not asked more often than one that answers.
        self.directory().looked(key, now);
        if self.is_suspended(key.tenant()).await? {
            return Ok(());
        }
        let end = Instant::now() + PATIENCE_OF_KEY;
        // Nobody but the gateway changes keys of the embedded provider.
        let which = |version: &KeyVersion| version.provider != ProviderKind::Local;
        let asked = self.ask_each(Behalf::Gateway(LOOK), key, which, end).await?;
        let now = key.view()?;
        if asked && may_wrap(&now).is_ok() && now.key.primary.provider_state.wraps() {
            let left = end.saturating_duration_since(Instant::now());
            self.keep_canary_in_background(LOOK, key, left).await;
        }
        Ok(())
    }

    /// Looks at keys of a connection that is checked, as far as there is time, a few at once: one whose provider does
    /// not answer keeps the others from nothing. The first failure that is not about a key alone ends it: the report
    /// has it.
    pub(super) async fn look_at_checked(&self, cx: &RequestContext, connection: ConnectionId, keys: &[Key]) {
        let end = cx.info().deadline.checked_sub(REST_OF_CHECK).unwrap_or_else(Instant::now);
        let is_over = AtomicBool::new(false);
        let ids: Vec<_> = keys.iter().map(|key| (key.tenant, key.id)).collect();
        let looks = ids.into_iter().map(async |(tenant, id)| {
            if is_over.load(Ordering::Relaxed) || end.saturating_duration_since(Instant::now()) < PATIENCE {
                return;
            }
            let Ok(Some(entry)) = self.directory().key(tenant, id).await else {
                return;
            };
            let which = |version: &KeyVersion| version.connection_id() == Some(connection);
            if let Err(failure) = Box::pin(self.ask_each(Behalf::Request(cx), &entry, which, end)).await {
                let of_key = matches!(
                    failure.code,
                    Code::KeyState | Code::NotFound | Code::QuotaExceeded | Code::DeadlineExceeded
                );
                is_over.fetch_or(!of_key, Ordering::Relaxed);
            }
        });
        futures::stream::iter(looks)
            .buffer_unordered(AT_ONCE_OF_TENANT)
            .for_each(async |()| ())
            .await;
    }

    /// Asks about the provider keys of a key that `which` names: first about the one that it wraps with, then about
    /// the newest others, until `end`. Each question has a turn of its own, so that none of them keeps others from the
    /// key for longer than it takes. Not while the key is disabled. Returns whether all of them were answered: without
    /// that, nothing shows that the provider keys are the known ones.
    ///
    /// # Errors
    /// The first failure of a question; the others are asked nevertheless. A severed connection is none.
    pub(super) async fn ask_each(
        &self,
        behalf: Behalf<'_>,
        key: &Arc<KeyEntry>,
        which: impl Fn(&KeyVersion) -> bool,
        end: Instant,
    ) -> Result<bool, Failure> {
        let view = key.view()?;
        let asked = view.provider_keys().into_iter();
        let (primary, others): (Vec<_>, Vec<_>) = asked
            .filter(|version| version.connection.is_some() && which(version))
            .partition(|version| is_of_primary(&view, version));
        let mut questions: VecDeque<&KeyVersion> = primary.into_iter().chain(others.into_iter().take(OTHER_PROVIDER_KEYS)).collect();
        let mut result = Ok(true);
        while let Some(version) = questions.pop_front() {
            let is_usable = key.view()?.key.state.unwraps();
            // A change that is under way asks by itself.
            let Some(_one_at_a_time) = key.at_provider().try_lock().ok().filter(|_| is_usable) else {
                return result.map(|_| false);
            };
            // The questions that are left share what is left of the time.
            let left = u32::try_from(questions.len() + 1).unwrap_or(u32::MAX);
            let patience = PATIENCE.min(end.saturating_duration_since(Instant::now()) / left);
            match Box::pin(self.ask_one(behalf, key, version, patience)).await {
                Ok(()) => {}
                Err(failure) if failure.code == Code::ConnectionSevered => result = result.map(|_| false),
                Err(failure) => result = result.and(Err(failure)),
            }
        }
        result
    }

    async fn ask_one(&self, behalf: Behalf<'_>, key: &Arc<KeyEntry>, version: &KeyVersion, patience: Duration) -> Result<(), Failure> {
        let reach = self.reach(key, version).await?;
        let described = match behalf {
            Behalf::Request(cx) => {
                let mut op = cx.op_context();
                op.deadline = op.deadline.min(Instant::now() + patience);
                self.take_described(&op, key, version, &reach).await
            }
            Behalf::Gateway(name) => {
                let op = self.background.operation(name, key.tenant(), reach.connection.id(), patience);
                self.take_described(&op, key, version, &reach).await
            }
        };
        described.map(drop)
    }
}

/// The keys in lanes, in each of which one is looked at after the other: [`AT_ONCE_OF_TENANT`] of a tenant. First one
/// lane of every tenant.
fn lanes<T, K>(due: Vec<(T, Vec<K>)>) -> Vec<Vec<K>> {
    let mut lanes: [Vec<Vec<K>>; AT_ONCE_OF_TENANT] = Default::default();
    for (_, keys) in due {
        let mut of_tenant: [Vec<K>; AT_ONCE_OF_TENANT] = Default::default();
        for (at, key) in keys.into_iter().enumerate() {
            of_tenant[at % AT_ONCE_OF_TENANT].push(key);
        }
        for (lanes, lane) in lanes.iter_mut().zip(of_tenant) {
            lanes.push(lane);
        }
    }
    lanes.into_iter().flatten().filter(|lane| !lane.is_empty()).collect()
}

/// Whether a version's provider key is the one that the key wraps with.
fn is_of_primary(view: &KeyView, version: &KeyVersion) -> bool {
    let primary = &view.key.primary;
    version.connection_id() == primary.connection_id() && version.provider_key == primary.provider_key
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests;
