//! Intents: an effect is durably announced before it is caused, and gets exactly one outcome.

use std::time::Instant;

use claviger_provider::TenantId;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::class::{Class, Refusal};
use super::fields::{Kind, Outcome};
use super::health::{Reason, Unavailable};
use super::log::Log;
use super::origin::{Position, Receipt};
use super::record::{Placed, Record};
use super::recorded::Recorded;
use super::scalar::Number;
use super::state_change::{JournaledRevocation, StateChange};

impl Log {
    /// Makes an intent durable. The effect may be caused once this returns `Ok`, never before.
    /// The intent of a revocation may use the disk reserve.
    ///
    /// # Errors
    /// [`Unavailable`]: the effect must not be caused.
    pub async fn intent(&self, mut record: Record, change: StateChange, deadline: Instant) -> Result<Intent, Unavailable> {
        record.kind = Kind::Intent;
        record.change = Some(change);
        let class = Class {
            reserve: change.revocation().is_some(),
            refusal: Refusal::Harmless,
        };
        let pending = self.queue_one(record.clone(), class, deadline).await?;
        // If the caller is cancelled now, the outcome of the intent must still be written. So a
        // separate task, which continues without the caller, waits for the receipt.
        let (hand_over, handed_over) = oneshot::channel();
        let log = self.clone();
        tokio::spawn(async move {
            let begun = pending.receipt().await.map(|receipt| Intent::new(log, record, receipt));
            if let Err(Ok(unheard)) = hand_over.send(begun) {
                unheard.abandon();
            }
        });
        match timeout_at(deadline.into(), handed_over).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(_)) => Err(Unavailable::counted(Reason::Closed, false)),
            Err(_) => Err(Unavailable::counted(Reason::Deadline, false)),
        }
    }

    /// Records the outcome of an intent. A refused outcome is deferred.
    async fn close_intent(&self, record: Record, deadline: Instant) -> Result<Receipt, Unavailable> {
        let class = class_of_outcome(&record);
        self.append_one(record, class, deadline).await
    }

    /// As [`Log::close_intent`], without waiting for the result.
    fn close_intent_unheard(&self, record: Record) {
        let class = class_of_outcome(&record);
        if let Err(error) = self.queue_unheard(record, class) {
            tracing::error!(%error, "the outcome of an intent is not recorded before the next start");
        }
    }
}

/// A durable intent that has no outcome yet.
///
/// [`Intent::resolve`] gives it one. If the value is dropped instead (its task was cancelled
/// or panicked), an error is logged and the outcome `interrupted` is written.
#[derive(Debug)]
#[must_use = "an intent needs its outcome"]
pub struct Intent {
    log: Log,
    /// The outcome so far, with the members of the intent.
    outcome: Record,
    receipt: Receipt,
    /// Whether the outcome was handed to the log.
    resolved: bool,
}

impl Intent {
    fn new(log: Log, record: Record, receipt: Receipt) -> Self {
        let outcome = outcome_of(record, receipt.sequence);
        Self {
            log,
            outcome,
            receipt,
            resolved: false,
        }
    }

    /// The intent's offset in the file, which the store keeps as `applied` in the transaction
    /// of the effect.
    pub fn position(&self) -> Position {
        self.receipt.position
    }

    /// The announced revocation; `None` for other changes.
    pub fn revocation(&self) -> Option<JournaledRevocation> {
        self.outcome.change().and_then(|change| change.revocation())
    }

    /// The announced change.
    pub fn change(&self) -> Option<StateChange> {
        self.outcome.change()
    }

    /// Whether the announced effect is caused at a provider.
    pub fn is_at_provider(&self) -> bool {
        self.outcome.change().is_some_and(|change| change.at_provider)
    }

    /// Makes the outcome durable. It has the intent's members; `complete` adds what has become
    /// known since (version, latency, provider calls).
    ///
    /// # Errors
    /// [`Unavailable`]; the outcome is deferred, or written at the next start.
    pub async fn resolve<T>(
        mut self,
        outcome: Outcome,
        complete: impl FnOnce(&mut Record),
        value: T,
        deadline: Instant,
    ) -> Result<Recorded<T>, Unavailable> {
        complete(&mut self.outcome);
        let record = self.outcome.clone().with_outcome(outcome);
        // The log queues the record before it first waits, so it cannot get lost from here on.
        self.resolved = true;
        let receipt = self.log.close_intent(record, deadline).await?;
        Ok(Recorded::new(value, receipt))
    }

    /// Closes an intent whose caller got `Err` before the intent was durable, and therefore did not begin
    /// the effect.
    fn abandon(mut self) {
        self.resolved = true;
        self.log
            .close_intent_unheard(self.outcome.clone().with_outcome(Outcome::Failed("deadline_exceeded")));
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if !self.resolved {
            tracing::error!(intent = self.receipt.index(), "an intent was dropped without its outcome");
            metrics::counter!("claviger_audit_intents_dropped_total").increment(1);
            self.log
                .close_intent_unheard(self.outcome.clone().with_outcome(Outcome::Interrupted));
        }
    }
}

/// An intent that an earlier run left without an outcome. Nothing is written for it until the
/// start has compared store and provider; a refused start leaves it open.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenIntent(pub(super) Placed);

impl OpenIntent {
    /// The intent's offset in the file.
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// The intent.
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// The tenant whose log it is part of.
    pub fn tenant(&self) -> TenantId {
        self.0.record.tenant
    }

    /// Records the outcome that store and provider show.
    ///
    /// # Errors
    /// [`Unavailable`]; the outcome is deferred, or written at the next start.
    pub async fn resolve(self, log: &Log, outcome: Outcome, deadline: Instant) -> Result<Receipt, Unavailable> {
        let Placed { record, .. } = self.0;
        let intent = record.sequence();
        log.close_intent(outcome_of(record, intent).with_outcome(outcome), deadline).await
    }
}

/// The outcome of that intent so far.
fn outcome_of(mut record: Record, intent: u64) -> Record {
    record.intent = Some(Number::saturating(intent));
    record
}

/// The outcome of a revocation may use the disk reserve, as its intent may.
fn class_of_outcome(record: &Record) -> Class {
    Class {
        reserve: record.change.is_some_and(|change| change.revocation().is_some()),
        refusal: Refusal::Deferred,
    }
}
