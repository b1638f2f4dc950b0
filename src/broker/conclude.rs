//! The last steps of every operation, in a fixed order: record the outcome, take the gates, compare the
//! epochs again, hand over the response. No use case can respond without them.

use std::time::{Duration, Instant};

use futures::future::try_join_all;

use super::context::Effect;
use super::context::Noted;
use super::{Broker, Code, Failure, Guarded, RequestContext};
use crate::access::Credential;
use crate::audit::{Authn, Decision, Number, Outcome, Receipt, Record, Recorded, Source, Text, Unavailable};
use crate::keys::{EpochGuard, with_gates_held};

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

    fn new(revocation: bool, error: &Unavailable) -> Self {
        tracing::error!(%error, revocation, "the outcome could not be recorded");
        let failure = if revocation {
            Failure::new(
                Code::EffectiveNotRecorded,
                "The change took effect. Its audit record could not be written yet and follows.",
            )
        } else {
            Failure::new(
                Code::AuditUnavailable,
                "The audit log cannot record, and without a record nothing is answered.",
            )
        };
        Self {
            failure: failure.advice("Ask the operator to check the disk of the audit log; /readyz shows its state."),
        }
    }
}

/// How a protocol renders a recorded outcome: the value, or the failure to answer.
pub type Render<'a, T, R> = &'a (dyn Fn(Result<T, &Failure>, Option<&Receipt>) -> R + Send + Sync);

impl Broker {
    /// Records the outcome of an operation and renders its answer under the gates.
    ///
    /// # Errors
    /// [`Unrecorded`] when the log could not take the outcome: the value is gone then.
    pub async fn conclude<T, R>(
        &self,
        cx: &RequestContext,
        result: Result<Guarded<T>, Failure>,
        render: Render<'_, T, R>,
    ) -> Result<Recorded<R>, Unrecorded>
    where
        T: Send,
        R: Send,
    {
        let (epoch_guards, value) = still_holds(result);
        let recorded = self.record(cx, value).await?;
        let mut waiting = Some(recorded);
        let handed_over = with_gates_held(&epoch_guards, || waiting.take().map(|recorded| show(recorded, render)));
        if let Ok(Some(shown)) = handed_over {
            return Ok(shown);
        }
        match waiting {
            Some(recorded) => Ok(show(self.withhold(cx, &epoch_guards, recorded).await?, render)),
            // The gates were held but nothing was handed over: impossible, so answer nothing.
            None => Err(Unrecorded {
                failure: Failure::internal(&"an outcome was rendered twice"),
            }),
        }
    }

    /// As [`Broker::conclude`] for all items of a batch, with one sync and one hand-over.
    /// `join` makes the batch's answer of the rendered items.
    ///
    /// # Errors
    /// As [`Broker::conclude`].
    pub async fn conclude_batch<T, R, B>(
        &self,
        items: Vec<(RequestContext, Result<Guarded<T>, Failure>)>,
        render: Render<'_, T, R>,
        join: impl FnOnce(Vec<R>) -> B + Send,
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
            let (epoch_guards, value) = still_holds(result);
            entries.push((self.outcome_entry(&cx, &value), outcome(&value), value));
            deadline = deadline.max(cx.info().deadline);
            all_guards.push(epoch_guards);
            contexts.push(cx);
        }
        let mut recorded = self
            .log
            .record_batch(entries, deadline)
            .await
            .map_err(|error| Unrecorded::new(false, &error))?;
        loop {
            // All items' guards in one list, with the index of each guard's item.
            let owners: Vec<usize> = all_guards
                .iter()
                .enumerate()
                .flat_map(|(item, epoch_guards)| epoch_guards.iter().map(move |_| item))
                .collect();
            let flat: Vec<EpochGuard> = all_guards.drain(..).flatten().collect();
            let mut waiting = Some(recorded);
            let handed_over = with_gates_held(&flat, || {
                Recorded::join(waiting.take().into_iter().flatten().map(|item| show(item, render)).collect())
            });
            let moved = match handed_over {
                Ok(Some(shown)) => return Ok(shown.map(|items| join(items.into_iter().map(|(item, _)| item).collect()))),
                // `Broker::batch` refuses a batch without items.
                Ok(None) => {
                    return Err(Unrecorded {
                        failure: Failure::internal(&"a batch without items"),
                    });
                }
                Err(moved) => moved,
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
                        Some(epoch_guards) => self.withhold(cx, &epoch_guards, item).await,
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
        let outcome = outcome(&value);
        // A revocation is in force although its record could not be written.
        let stands = value.as_ref().is_err_and(|failure| failure.code == Code::EffectiveNotRecorded);
        match cx.take_effect() {
            Some(Effect::Announced(intent)) => {
                let revocation = intent.revocation().is_some();
                let given_up = value.as_ref().is_err_and(|failure| failure.given_up);
                // Neither done nor undone: nobody waited for the provider's response.
                let outcome = if given_up && intent.is_at_provider() {
                    Outcome::Interrupted
                } else {
                    outcome
                };
                let complete = |record: &mut Record| {
                    fill(record, cx, cx.noted());
                    fill_calls(record, cx);
                };
                intent
                    .resolve(outcome, complete, value, deadline)
                    .await
                    .map_err(|error| Unrecorded::new(revocation, &error))
            }
            Some(Effect::Unannounced(revocation)) => {
                let entry = self.outcome_entry(cx, &value);
                let recorded = self.log.record_revocation(entry, revocation, outcome, value, deadline).await;
                recorded.map_err(|error| Unrecorded::new(true, &error))
            }
            None => {
                let recorded = self.log.record(self.outcome_entry(cx, &value), outcome, value, deadline).await;
                recorded.map_err(|error| Unrecorded::new(stands, &error))
            }
        }
    }

    /// A key or connection changed between record and hand-over: records that the answer was
    /// withheld, and answers the failure.
    async fn withhold<T>(
        &self,
        cx: &RequestContext,
        epoch_guards: &[EpochGuard],
        recorded: Recorded<Result<T, Failure>>,
    ) -> Result<Recorded<Result<T, Failure>>, Unrecorded> {
        let failure = stale(epoch_guards);
        let code = failure.code.as_str();
        let withheld = recorded
            .withhold(&self.log, self.entry(cx), code, Err(failure), record_deadline(cx))
            .await;
        withheld.map_err(|error| Unrecorded::new(false, &error))
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

/// Compares the epochs before the record, so that a change while the answer was made is recorded
/// as a failure. Later changes are found under the gates.
fn still_holds<T>(result: Result<Guarded<T>, Failure>) -> (Vec<EpochGuard>, Result<T, Failure>) {
    match result {
        Ok(Guarded { value, epoch_guards }) => match with_gates_held(&epoch_guards, || ()) {
            Ok(()) => (epoch_guards, Ok(value)),
            Err(_) => (Vec::new(), Err(stale(&epoch_guards))),
        },
        Err(failure) => (Vec::new(), Err(failure)),
    }
}

fn show<T, R>(recorded: Recorded<Result<T, Failure>>, render: Render<'_, T, R>) -> Recorded<R> {
    let receipt = recorded.receipt().cloned();
    recorded.map(|value| match value {
        Ok(value) => render(Ok(value), receipt.as_ref()),
        Err(failure) => render(Err(&failure), receipt.as_ref()),
    })
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

/// Why an answer is not handed over.
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
    record.item = fields.item.map(Number::from);
}

/// Moves the calls to providers into the outcome's record, so that each is in one record only.
fn fill_calls(record: &mut Record, cx: &RequestContext) {
    let calls = cx.take_calls();
    record.set_provider_calls(calls.calls, calls.omitted.into());
}
