//! Values whose record is durable: the only ones from which a response can be built.

use std::time::Instant;

use super::class::{Class, Refusal};
use super::fields::{Kind, Outcome};
use super::health::Unavailable;
use super::log::Log;
use super::origin::Receipt;
use super::record::Record;
use super::scalar::Number;
use super::state_change::JournaledRevocation;

/// The class of an ordinary outcome.
const OUTCOME: Class = Class {
    reserve: false,
    refusal: Refusal::Lost,
};

/// The class of the outcome of a revocation without an intent.
const REVOCATION: Class = Class {
    reserve: true,
    refusal: Refusal::Deferred,
};

impl Log {
    /// Makes an outcome durable, and returns the value as one that may be answered.
    ///
    /// # Errors
    /// [`Unavailable`]; the value is dropped.
    pub fn record<T>(
        &self,
        record: Record,
        outcome: Outcome,
        value: T,
        deadline: Instant,
    ) -> impl Future<Output = Result<Recorded<T>, Unavailable>> {
        let receipt = self.append_one(record.with_outcome(outcome), OUTCOME, deadline);
        async move { Ok(Recorded::new(value, receipt.await?)) }
    }

    /// As [`Log::record`] for several outcomes: one sync, all or none, returned in order.
    ///
    /// # Errors
    /// [`Unavailable`]; all values are dropped.
    pub async fn record_batch<T>(&self, entries: Vec<(Record, Outcome, T)>, deadline: Instant) -> Result<Vec<Recorded<T>>, Unavailable> {
        let (records, values): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .map(|(record, outcome, value)| (record.with_outcome(outcome), value))
            .unzip();
        let receipts = self.append(records, OUTCOME, deadline).await?;
        Ok(values
            .into_iter()
            .zip(receipts)
            .map(|(value, receipt)| Recorded::new(value, receipt))
            .collect())
    }

    /// Records a revocation that took effect without an intent (a revocation does not wait for a
    /// healthy log), or one that a start found to be lifted since. The record may use the disk
    /// reserve. If it cannot be written now, it is deferred.
    ///
    /// # Errors
    /// [`Unavailable`], to be answered with `effective_not_recorded`. If it is
    /// [`Unavailable::deferred`], only the end of this process can lose the record; the
    /// [`super::KillFile`] covers that case.
    pub async fn record_revocation<T>(
        &self,
        mut record: Record,
        revocation: JournaledRevocation,
        outcome: Outcome,
        value: T,
        deadline: Instant,
    ) -> Result<Recorded<T>, Unavailable> {
        record.change = Some(revocation.into());
        let receipt = self.append_one(record.with_outcome(outcome), REVOCATION, deadline).await?;
        Ok(Recorded::new(value, receipt))
    }

    /// Records the request for a revocation that is in force already, and stored: it changed nothing. As
    /// [`Log::record_revocation`], the record may use the disk reserve, and is deferred if it cannot be written now.
    ///
    /// # Errors
    /// [`Unavailable`], to be answered with `effective_not_recorded`.
    pub async fn record_repeated<T>(
        &self,
        record: Record,
        outcome: Outcome,
        value: T,
        deadline: Instant,
    ) -> Result<Recorded<T>, Unavailable> {
        let receipt = self.append_one(record.with_outcome(outcome), REVOCATION, deadline).await?;
        Ok(Recorded::new(value, receipt))
    }

    /// Records that the responses of these outcomes were not sent. A refused record is
    /// deferred.
    async fn withhold(&self, record: Record, of: &[Receipt], code: &'static str, deadline: Instant) -> Result<Vec<Receipt>, Unavailable> {
        let withheld = |outcome: &Receipt| {
            let mut record = record.clone().with_outcome(Outcome::Failed(code));
            record.kind = Kind::Withheld;
            record.tenant = outcome.tenant;
            record.withholds = Some(Number::saturating(outcome.sequence));
            record
        };
        let class = Class {
            reserve: false,
            refusal: Refusal::Deferred,
        };
        self.append(of.iter().map(withheld), class, deadline).await
    }
}

/// A value whose record is durable. A protocol builds responses only from these values and
/// from [`Unavailable`], so nothing is answered that was not recorded.
///
/// It is made from a receipt of the log, or, for responses that are counted instead of
/// recorded, by [`CountedRight`] and [`super::Counters`].
#[derive(Debug)]
#[must_use = "a recorded value must be answered or withheld"]
pub struct Recorded<T> {
    value: T,
    proof: Proof,
}

/// An item of a batch: its value, and the receipt for its `audit_index`.
pub type Item<T> = (T, Option<Receipt>);

#[derive(Debug)]
enum Proof {
    One(Receipt),
    Several(Vec<Receipt>),
    Counted,
}

impl<T> Recorded<T> {
    pub(super) fn new(value: T, receipt: Receipt) -> Self {
        Self {
            value,
            proof: Proof::One(receipt),
        }
    }

    pub(super) fn counted(value: T) -> Self {
        Self {
            value,
            proof: Proof::Counted,
        }
    }

    /// The receipt for `Claviger-Audit-Index`. `None` for a counted response, and for a batch,
    /// whose items have one each.
    pub fn receipt(&self) -> Option<&Receipt> {
        match &self.proof {
            Proof::One(receipt) => Some(receipt),
            Proof::Several(_) | Proof::Counted => None,
        }
    }

    /// The recorded value.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Takes the value, to send it.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Converts the value, for instance into a response. The proof stays.
    pub fn map<U>(self, render: impl FnOnce(T) -> U) -> Recorded<U> {
        Recorded {
            value: render(self.value),
            proof: self.proof,
        }
    }

    /// Joins the items of a batch into one value. `None` for no items, since that would be a
    /// response without a record.
    pub fn join(items: Vec<Self>) -> Option<Recorded<Vec<Item<T>>>> {
        if items.is_empty() {
            return None;
        }
        let mut all = Vec::new();
        let mut value = Vec::with_capacity(items.len());
        for item in items {
            let receipt = item.receipt().cloned();
            match item.proof {
                Proof::One(receipt) => all.push(receipt),
                Proof::Several(receipts) => all.extend(receipts),
                Proof::Counted => {}
            }
            value.push((item.value, receipt));
        }
        Some(Recorded {
            value,
            proof: Proof::Several(all),
        })
    }

    /// Drops the value because its key or connection was revoked after the record was written,
    /// records that its response was withheld, and returns `instead`. `record` has the members
    /// of the outcome; `code` is the error code of the response.
    ///
    /// # Errors
    /// [`Unavailable`]; the record is deferred.
    pub async fn withhold<U>(
        self,
        log: &Log,
        record: Record,
        code: &'static str,
        instead: U,
        deadline: Instant,
    ) -> Result<Recorded<U>, Unavailable> {
        let Self { value, proof } = self;
        drop(value);
        let proof = match proof {
            Proof::One(receipt) => match log.withhold(record, std::slice::from_ref(&receipt), code, deadline).await?.pop() {
                Some(withheld) => Proof::One(withheld),
                None => Proof::One(receipt),
            },
            Proof::Several(receipts) => Proof::Several(log.withhold(record, &receipts, code, deadline).await?),
            Proof::Counted => Proof::Counted,
        };
        Ok(Recorded { value: instead, proof })
    }
}

/// The right to respond without a record. [`super::open`] makes one, which boot gives to the
/// service endpoints (`/healthz`, `/readyz`, `/metrics`, the OpenAPI document) and nothing
/// else. Authentication and the limiter have [`super::Counters`] instead.
#[derive(Debug)]
pub struct CountedRight(());

impl CountedRight {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// A response of a service endpoint.
    pub fn answer<T>(&self, value: T) -> Recorded<T> {
        Recorded::counted(value)
    }
}
