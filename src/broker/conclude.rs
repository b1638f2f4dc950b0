//! The last steps of every operation, in a fixed order: record the outcome, take the gates of credential,
//! keys and connections, compare the epochs again, hand over the response. No use case can respond without them.

use std::time::{Duration, Instant};

use futures::future::{join, try_join_all};

use super::context::Effect;
use super::context::Noted;
use super::in_force::Closed;
use super::write_ahead::warn_of_orphan;
use super::{Broker, Code, Failure, Guarded, RequestContext};
use crate::access::{Credential, Ended};
use crate::audit::{Authn, Decision, EmergencyRevocation, Number, Outcome, Position, Receipt, Record, Recorded, Source, Text, Unavailable};
use crate::keys::EpochGuard;
use crate::store::Change;

/// The least time that a record may take, even past the request's deadline: an operation that
/// missed its deadline is recorded too.
const RECORD_TIME: Duration = Duration::from_secs(3);

/// Proof that the log could not record an outcome, with the failure to answer instead.
pub struct Unrecorded {
    failure: Failure,
}

impl Unrecorded {
    /// Recording panicked: nothing is known of the outcome.
    pub fn after_panic() -> Self {
        Self {
            failure: Failure::internal(&"recording an outcome panicked"),
        }
    }

    /// The failure to answer without a record.
    pub const fn failure(&self) -> &Failure {
        &self.failure
    }

    /// `code` says what became of the operation: [`Code::AuditUnavailable`], unless it was a revocation,
    /// which took effect.
    fn new(code: Code, error: &Unavailable) -> Self {
        tracing::error!(%error, code = code.as_str(), "the outcome could not be recorded");
        let check_disk = "Ask the operator to check the disk of the audit log; /readyz shows its state.";
        let (detail, advice) = match code {
            Code::EffectiveInMemoryOnly => (
                "The change took effect, but no disk could take it: neither the store, nor the audit log, nor the kill file. It ends \
                 when the gateway ends. The gateway tries again every second.",
                "Do not stop the gateway. Ask the operator to check its disk; /readyz shows when the change is durable. A repeated \
                 request tries at once.",
            ),
            Code::EffectiveNotRecorded => (
                "The change took effect. Its audit record could not be written yet and follows.",
                check_disk,
            ),
            _ => ("The audit log cannot record, and without a record nothing is answered.", check_disk),
        };
        Self {
            failure: Failure::new(code, detail).advice(advice),
        }
    }
}

/// How a protocol renders a recorded outcome: the value, or the failure to answer.
pub type Render<'a, T, R> = &'a (dyn Fn(Result<T, &Failure>, Option<&Receipt>) -> R + Send + Sync);

/// Is told, under the gates, on what the answer depends that is handed over: the ids of credential, tenants, keys and
/// connections. Must not block.
pub type HandOver<'a> = &'a mut (dyn FnMut(&mut dyn Iterator<Item = [u8; 16]>) + Send);

impl Broker {
    /// Records the outcome of an operation and renders its answer under the gates. That of a revocation waits until no
    /// answer can arrive any more that was handed over before it.
    ///
    /// # Errors
    /// [`Unrecorded`] when the log could not take the outcome: the value is gone then.
    pub async fn conclude<T, R>(
        &self,
        cx: &RequestContext,
        result: Result<Guarded<T>, Failure>,
        render: Render<'_, T, R>,
        hand_over: HandOver<'_>,
    ) -> Result<Recorded<R>, Unrecorded>
    where
        T: Send,
        R: Send,
    {
        let (epoch_guards, value) = self.still_holds(cx, result);
        let recorded = match cx.revoked() {
            None => self.record(cx, value).await?,
            Some(id) => Box::pin(join(self.record(cx, value), (self.recall)(id))).await.0?,
        };
        let mut waiting = Some(recorded);
        let handed_over = self.while_all_hold(cx, &epoch_guards, || {
            hand_over(&mut depends_on(cx, &epoch_guards));
            waiting.take().map(|recorded| show(recorded, render))
        });
        let closed = match handed_over {
            Ok(Some(shown)) => return Ok(shown),
            Ok(None) => None,
            Err(closed) => Some(closed),
        };
        match (waiting, closed) {
            (Some(recorded), Some(closed)) => {
                let failure = why_closed(closed, &epoch_guards);
                Ok(show(Box::pin(self.withhold(cx, failure, recorded)).await?, render))
            }
            // The gates were held but nothing was handed over: impossible, so answer nothing.
            (_, _) => Err(Unrecorded {
                failure: Failure::internal(&"an outcome was rendered twice"),
            }),
        }
    }

    /// As [`Broker::conclude`] for all items of a batch, with one sync and one hand-over.
    /// `join` makes the batch's answer of the rendered items. `refuse` makes it where the credential
    /// has ended, which all items have in common.
    ///
    /// # Errors
    /// As [`Broker::conclude`].
    pub async fn conclude_batch<T, R, B>(
        &self,
        items: Vec<(RequestContext, Result<Guarded<T>, Failure>)>,
        render: Render<'_, T, R>,
        join: impl FnOnce(Vec<R>) -> B + Send,
        refuse: impl FnOnce(&Failure) -> B + Send,
        hand_over: HandOver<'_>,
    ) -> Result<Recorded<B>, Unrecorded>
    where
        T: Send,
        R: Send,
    {
        let mut all_guards = Vec::with_capacity(items.len());
        let mut contexts = Vec::with_capacity(items.len());
        let mut entries = Vec::with_capacity(items.len());
        let mut deadline = Instant::now() + RECORD_TIME;
        for (cx, result) in items {
            let (epoch_guards, value) = self.still_holds(&cx, result);
            entries.push((self.outcome_entry(&cx, &value), outcome(&value), value));
            deadline = deadline.max(cx.info().deadline);
            all_guards.push(epoch_guards);
            contexts.push(cx);
        }
        let mut recorded = self
            .log
            .record_batch(entries, deadline)
            .await
            .map_err(|error| Unrecorded::new(Code::AuditUnavailable, &error))?;
        loop {
            // All items' guards in one list, with the index of each guard's item.
            let owners: Vec<usize> = all_guards
                .iter()
                .enumerate()
                .flat_map(|(item, epoch_guards)| epoch_guards.iter().map(move |_| item))
                .collect();
            let flat: Vec<EpochGuard> = all_guards.drain(..).flatten().collect();
            let mut waiting = Some(recorded);
            // The items share the caller, and are all operations of one kind.
            let strictest = contexts.iter().find(|cx| !cx.may_answer_suspended()).or_else(|| contexts.first());
            let Some(of_all) = strictest else { return Err(no_items()) };
            let handed_over = self.while_all_hold(of_all, &flat, || {
                hand_over(&mut depends_on(of_all, &flat));
                Recorded::join(waiting.take().into_iter().flatten().map(|item| show(item, render)).collect())
            });
            let moved = match handed_over {
                Ok(Some(shown)) => return Ok(shown.map(|items| join(items.into_iter().map(|(item, _)| item).collect()))),
                Ok(None) => return Err(no_items()),
                Err(Closed::Credential(ended)) => {
                    let items = contexts.iter().zip(waiting.unwrap_or_default());
                    return Box::pin(self.withhold_all(ended, items.collect(), refuse)).await;
                }
                Err(Closed::Epochs(moved)) => moved,
            };
            let withheld: std::collections::BTreeSet<usize> = moved.iter().map(|at| owners[*at]).collect();
            all_guards = (0..contexts.len()).map(|_| Vec::new()).collect();
            for (epoch_guard, owner) in flat.into_iter().zip(&owners) {
                all_guards[*owner].push(epoch_guard);
            }
            // Concurrently, so that the records share a sync.
            let items = waiting.unwrap_or_default().into_iter().zip(&mut all_guards).zip(&contexts);
            let next = items.enumerate().map(|(at, ((item, epoch_guards), cx))| {
                let moved = withheld.contains(&at).then(|| std::mem::take(epoch_guards));
                async move {
                    match moved {
                        Some(epoch_guards) => self.withhold(cx, stale(&epoch_guards), item).await,
                        None => Ok(item),
                    }
                }
            });
            recorded = try_join_all(next).await?;
        }
    }

    /// Makes an outcome durable: that of an announced effect, of an unannounced revocation, or
    /// of an operation that changes nothing.
    async fn record<T>(&self, cx: &RequestContext, value: Result<T, Failure>) -> Result<Recorded<Result<T, Failure>>, Unrecorded> {
        let deadline = record_deadline(cx);
        let outcome = match cx.unfinished() {
            Some(code) if value.is_ok() => Outcome::Failed(code.as_str()),
            Some(_) | None => outcome(&value),
        };
        // A revocation is in force although its record could not be written.
        let stands = match &value {
            Err(failure) if matches!(failure.code, Code::EffectiveNotRecorded | Code::EffectiveInMemoryOnly) => failure.code,
            Ok(_) | Err(_) => Code::AuditUnavailable,
        };
        match cx.take_effect() {
            Some(Effect::Announced(intent)) => {
                // The log has the intent of a revocation, so the next start applies it.
                let code = match intent.revocation() {
                    Some(_) => Code::EffectiveNotRecorded,
                    None => Code::AuditUnavailable,
                };
                // Neither done nor undone: the provider's response did not arrive, or the store failed in its commit.
                let at_provider = intent.is_at_provider() && cx.provider_outcome_unknown();
                let is_unknown = match &value {
                    Ok(_) => at_provider && cx.unfinished().is_some(),
                    Err(failure) => at_provider || failure.outcome_unknown,
                };
                let outcome = if is_unknown {
                    if let Some(change) = intent.change() {
                        warn_of_orphan(&change);
                    }
                    Outcome::Interrupted
                } else {
                    outcome
                };
                // What the store has of a revocation is not known here.
                let is_settled = at_provider && is_unknown && cx.is_noted() && intent.revocation().is_none();
                let position = intent.position();
                let complete = |record: &mut Record| {
                    fill(record, cx, cx.noted());
                    fill_calls(record, cx);
                };
                let recorded = intent.resolve(outcome, complete, value, deadline).await;
                let recorded = recorded.map_err(|error| Unrecorded::new(code, &error))?;
                if is_settled {
                    self.mark_interrupted(cx, position).await;
                }
                Ok(recorded)
            }
            Some(Effect::Unannounced(revocation, _)) => {
                let entry = self.outcome_entry(cx, &value);
                // Of one that failed it is not known whether the store has it.
                let is_stored = value.is_ok();
                let recorded = self.log.record_revocation(entry, revocation, outcome, value, deadline).await;
                recorded
                    .inspect(|_| {
                        self.unstored.note_recorded(cx.tenant(), revocation.revocation, None);
                        if is_stored {
                            self.unstored.release_slot(cx.tenant(), revocation);
                        }
                    })
                    .map_err(|error| self.revocation_unrecorded(cx, revocation.revocation, &error))
            }
            Some(Effect::Repeated) => {
                let recorded = self
                    .log
                    .record_repeated(self.outcome_entry(cx, &value), outcome, value, deadline)
                    .await;
                recorded.map_err(|error| Unrecorded::new(Code::EffectiveNotRecorded, &error))
            }
            None => {
                let recorded = self.log.record(self.outcome_entry(cx, &value), outcome, value, deadline).await;
                recorded.map_err(|error| Unrecorded::new(stands, &error))
            }
        }
    }

    /// Marks a change whose result only its provider knows, after its outcome was recorded. The store has noted what
    /// is to be found out. The next start would hold each unmarked one in memory, and a tenant's own provider can
    /// interrupt as many as it likes.
    async fn mark_interrupted(&self, cx: &RequestContext, Position(intent): Position) {
        if let Err(error) = self.store.mark_applied(cx.tenant(), &Change::announced(intent)).await {
            tracing::warn!(%error, "an interrupted change is left to the next start");
        }
    }

    /// Why a revocation that took effect without an intent is not answered as done.
    fn revocation_unrecorded(&self, cx: &RequestContext, revocation: EmergencyRevocation, error: &Unavailable) -> Unrecorded {
        if error.deferred() {
            self.unstored.note_deferred(cx.tenant(), revocation);
        }
        let code = if self.unstored.is_in_memory_only(cx.tenant(), revocation) {
            Code::EffectiveInMemoryOnly
        } else {
            Code::EffectiveNotRecorded
        };
        Unrecorded::new(code, error)
    }

    /// A key, a connection or the credential changed between record and hand-over: records that the
    /// answer was withheld, and answers the failure. An answer that says the same already is no secret.
    async fn withhold<T>(
        &self,
        cx: &RequestContext,
        failure: Failure,
        recorded: Recorded<Result<T, Failure>>,
    ) -> Result<Recorded<Result<T, Failure>>, Unrecorded> {
        let code = failure.code.as_str();
        if recorded.value().as_ref().is_err_and(|before| before.code == failure.code) {
            return Ok(recorded);
        }
        let withheld = recorded
            .withhold(&self.log, self.entry(cx), code, Err(failure), record_deadline(cx))
            .await;
        withheld.map_err(|error| Unrecorded::new(Code::AuditUnavailable, &error))
    }

    /// Withholds every item of a batch whose caller's credential has ended, and answers the whole batch
    /// as `refuse` says.
    async fn withhold_all<T: Send, B>(
        &self,
        ended: Ended,
        items: Vec<(&RequestContext, Recorded<Result<T, Failure>>)>,
        refuse: impl FnOnce(&Failure) -> B + Send,
    ) -> Result<Recorded<B>, Unrecorded> {
        let failure = Failure::from(ended);
        // Concurrently, so that the records share a sync.
        let withheld = items.into_iter().map(|(cx, item)| self.withhold(cx, failure.clone(), item));
        let withheld = Recorded::join(try_join_all(withheld).await?).ok_or_else(no_items)?;
        Ok(withheld.map(|_| refuse(&failure)))
    }

    /// Compares the epochs and looks at the credential before the record, so that a change while the
    /// answer was made is recorded as a failure. Later changes are found under the gates, and so is the
    /// end of a credential where there is an effect or a failure: that is what happened, so it is what
    /// is recorded.
    fn still_holds<T>(&self, cx: &RequestContext, result: Result<Guarded<T>, Failure>) -> (Vec<EpochGuard>, Result<T, Failure>) {
        match result {
            Ok(Guarded { value, epoch_guards }) => match self.while_all_hold(cx, &epoch_guards, || ()) {
                Ok(()) => (epoch_guards, Ok(value)),
                Err(Closed::Credential(_)) if cx.has_effect() => (epoch_guards, Ok(value)),
                Err(closed) => (Vec::new(), Err(why_closed(closed, &epoch_guards))),
            },
            Err(failure) => (Vec::new(), Err(failure)),
        }
    }

    /// A record of this operation, with all that is known so far.
    pub(super) fn entry(&self, cx: &RequestContext) -> Record {
        let noted = cx.noted();
        let mut record = self.log.entry(cx.tenant(), noted.subject.action());
        fill(&mut record, cx, noted);
        record
    }

    /// The record of this operation's outcome.
    fn outcome_entry<T>(&self, cx: &RequestContext, value: &Result<T, Failure>) -> Record {
        let mut record = self.entry(cx);
        fill_calls(&mut record, cx);
        if is_denied(value) {
            record.decision = Some(Decision::Deny);
        }
        record
    }
}

fn show<T, R>(recorded: Recorded<Result<T, Failure>>, render: Render<'_, T, R>) -> Recorded<R> {
    let receipt = recorded.receipt().cloned();
    recorded.map(|value| match value {
        Ok(value) => render(Ok(value), receipt.as_ref()),
        Err(failure) => render(Err(&failure), receipt.as_ref()),
    })
}

/// The ids of what an answer depends on.
fn depends_on(cx: &RequestContext, epoch_guards: &[EpochGuard]) -> impl Iterator<Item = [u8; 16]> {
    cx.caller().depends_on().chain(epoch_guards.iter().flat_map(EpochGuard::ids))
}

fn record_deadline(cx: &RequestContext) -> Instant {
    cx.info().deadline.max(Instant::now() + RECORD_TIME)
}

fn outcome<T>(value: &Result<T, Failure>) -> Outcome {
    match value {
        Ok(_) => Outcome::Success,
        Err(failure) if is_denied(value) => Outcome::Denied(failure.code.as_str()),
        Err(failure) => Outcome::Failed(failure.code.as_str()),
    }
}

fn is_denied<T>(value: &Result<T, Failure>) -> bool {
    value.as_ref().is_err_and(|failure| failure.code == Code::PermissionDenied)
}

/// `Broker::batch` refuses a batch without items.
fn no_items() -> Unrecorded {
    Unrecorded {
        failure: Failure::internal(&"a batch without items"),
    }
}

/// Why an answer is not handed over.
fn why_closed(closed: Closed, epoch_guards: &[EpochGuard]) -> Failure {
    match closed {
        Closed::Credential(ended) => ended.into(),
        Closed::Epochs(_) => stale(epoch_guards),
    }
}

/// What has changed of the guarded keys and connections.
fn stale(epoch_guards: &[EpochGuard]) -> Failure {
    for epoch_guard in epoch_guards {
        let (key, connection) = epoch_guard.now();
        match key {
            Err(gone) => return gone.into(),
            Ok(view) if !view.key.state.unwraps() => {
                return Failure::new(
                    Code::KeyDisabled,
                    "The key was disabled before the response was sent, so nothing was returned.",
                );
            }
            Ok(_) => {}
        }
        if connection.severed {
            return Failure::new(
                Code::ConnectionSevered,
                "The key's connection was severed before the response was sent, so nothing was returned.",
            );
        }
    }
    Failure::new(
        Code::KeyState,
        "The key changed before the response was sent, so nothing was returned.",
    )
    .advice("Repeat the request.")
}

/// Writes caller, request and operation into a record.
fn fill(record: &mut Record, cx: &RequestContext, noted: Noted) {
    let Noted { subject, fields } = noted;
    subject.fill(record);
    let (caller, info) = (cx.caller(), cx.info());
    record.authn = Some(match caller.credential() {
        Credential::Token(id) => {
            record.token_id = Some(id);
            record.principal = Some(caller.principal());
            Authn::ApiToken
        }
        Credential::Configuration => Authn::Configuration,
    });
    record.source = caller.source().map(Source::address);
    record.request_id = Some(info.request_id.clone());
    record.client_request_id.clone_from(&info.client_request_id);
    record.justification.clone_from(&info.justification);
    record.latency_us = Some(Number::from(cx.elapsed()));
    record.key_version = fields.key_version.map(Number::from);
    record.dek_id = fields.dek_id;
    record.provider_key_material = fields.provider_key_material.map(Text::new);
    record.provider_request_id = fields.provider_request_id.map(Text::new);
    record.context_hash = fields.context_hash;
    record.wrapped_sha256 = fields.wrapped_sha256;
    record.rewrap = fields.rewrap;
    record.inside_provider = fields.inside_provider;
    record.cached = fields.cached;
    record.coalesced_with = fields.coalesced_with.map(Text::new);
    record.network = fields.network;
    record.item = fields.item.map(Number::from);
}

/// Moves the calls to providers into the outcome's record, so that each is in one record only.
fn fill_calls(record: &mut Record, cx: &RequestContext) {
    let calls = cx.take_calls();
    record.set_provider_calls(calls.calls, calls.omitted.into());
}

#[cfg(test)]
mod tests;
