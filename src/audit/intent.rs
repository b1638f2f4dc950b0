//! Intents: the durable announcement of an effect, and its one outcome.

use std::time::Instant;

use claviger_provider::TenantId;

use super::fields::{Number, Outcome, Position, Receipt};
use super::health::Unavailable;
use super::log::Log;
use super::record::{Placed, Record};
use super::recorded::Recorded;
use super::state_change::EmergencyRevocation;

/// A durable intent without its outcome yet.
///
/// It ends in [`Intent::resolve`]. Dropped before that (the task was cancelled or
/// panicked), it says so loudly and has the outcome `interrupted` written behind it.
#[derive(Debug)]
#[must_use = "an intent needs its outcome"]
pub struct Intent {
    log: Log,
    /// The outcome in the making.
    outcome: Record,
    receipt: Receipt,
    /// Whether the outcome is on its way to the log.
    resolved: bool,
}

impl Intent {
    pub(super) fn new(log: Log, record: Record, receipt: Receipt) -> Self {
        let outcome = outcome_of(record, receipt.sequence);
        Self {
            log,
            outcome,
            receipt,
            resolved: false,
        }
    }

    /// Where the intent stands: what the store keeps as `applied` in the transaction of
    /// the effect.
    pub fn position(&self) -> Position {
        self.receipt.position
    }

    /// The cut that it announced, if it is one.
    pub fn revocation(&self) -> Option<EmergencyRevocation> {
        self.outcome.change().and_then(|change| change.revocation())
    }

    /// Makes the outcome durable. It takes over what the intent said; `complete` adds what
    /// became known since (version, latency, the provider's request id).
    ///
    /// # Errors
    /// [`Unavailable`]; the outcome follows when the log is able to, or at the next start.
    pub async fn resolve<T>(
        mut self,
        outcome: Outcome,
        complete: impl FnOnce(&mut Record),
        value: T,
        deadline: Instant,
    ) -> Result<Recorded<T>, Unavailable> {
        complete(&mut self.outcome);
        let record = self.outcome.clone().with_outcome(outcome);
        // The log takes it before it first waits, so from here on nothing can lose it.
        self.resolved = true;
        let receipt = self.log.close_intent(record, deadline).await?;
        Ok(Recorded::new(value, receipt))
    }

    /// Ends an intent whose caller was answered `Err` before it was durable, and so has not
    /// begun the effect.
    pub(super) fn abandon(mut self) {
        self.resolved = true;
        self.log
            .close_intent_unheard(self.outcome.clone().with_outcome(Outcome::Failed("deadline_exceeded")));
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if !self.resolved {
            tracing::error!(intent = %self.receipt, "an intent was dropped without its outcome");
            metrics::counter!("claviger_audit_intents_dropped_total").increment(1);
            self.log
                .close_intent_unheard(self.outcome.clone().with_outcome(Outcome::Interrupted));
        }
    }
}

/// An intent that an earlier run left without outcome. Nothing is written for it until
/// boot has asked store and provider; a start that is refused leaves it open.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenIntent(pub(super) Placed);

impl OpenIntent {
    /// Where it stands.
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// What it announced.
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.0.record.tenant
    }

    /// Gives it the outcome that store and provider tell.
    ///
    /// # Errors
    /// [`Unavailable`]; the outcome follows when the log is able to, or at the next start.
    pub async fn resolve(self, log: &Log, outcome: Outcome, deadline: Instant) -> Result<Receipt, Unavailable> {
        let Placed { record, .. } = self.0;
        let intent = record.sequence();
        log.close_intent(outcome_of(record, intent).with_outcome(outcome), deadline).await
    }
}

fn outcome_of(mut record: Record, intent: u64) -> Record {
    record.intent = Some(Number::saturating(intent));
    record
}
