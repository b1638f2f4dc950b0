//! The gate: what has been recorded, and therefore may be answered.

use std::time::Instant;

use super::fields::Receipt;
use super::health::Unavailable;
use super::log::Log;
use super::record::Record;

/// A value whose record is durable. A face builds answers from these (and from
/// [`Unavailable`]) alone, so nothing is answered that was not recorded.
///
/// Two ways lead here: a receipt of the log, or [`CountedRight`] and
/// [`super::Counters`], for what is counted and not recorded one by one.
#[derive(Debug)]
#[must_use = "what was recorded is to be answered, or withheld"]
pub struct Recorded<T> {
    value: T,
    proof: Proof,
}

/// One item of a batch: its value, and the receipt that its `audit_index` names.
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

    /// The receipt that `Claviger-Audit-Index` names; none for what is counted, and none
    /// for a batch, where each item has its own.
    pub fn receipt(&self) -> Option<&Receipt> {
        match &self.proof {
            Proof::One(receipt) => Some(receipt),
            Proof::Several(_) | Proof::Counted => None,
        }
    }

    /// The value, to look at.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// The value, to hand over.
    pub fn into_value(self) -> T {
        self.value
    }

    /// The same proof for another form of the value (a rendered answer).
    pub fn map<U>(self, render: impl FnOnce(T) -> U) -> Recorded<U> {
        Recorded {
            value: render(self.value),
            proof: self.proof,
        }
    }

    /// Joins the items of a batch into one answer; `None` where there is no item, since
    /// that would be an answer without a record.
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

    /// The key or connection was cut off after the record and before the hand-over: drops
    /// the value, records that it was withheld (`record` says by whom it was asked for, as
    /// the outcome did; `code` is what is answered instead), and goes on with `instead`.
    ///
    /// # Errors
    /// [`Unavailable`]; the record follows.
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

/// The right to answer without a record of its own. [`super::open`] hands it out once; boot
/// gives it to the service endpoints (`/healthz`, `/readyz`, `/metrics`, the document) and
/// to nobody else. Authentication and the limiter have [`super::Counters`], which count.
#[derive(Debug)]
pub struct CountedRight(());

impl CountedRight {
    pub(super) fn new() -> Self {
        Self(())
    }

    /// An answer of a service endpoint.
    pub fn answer<T>(&self, value: T) -> Recorded<T> {
        Recorded::counted(value)
    }
}
