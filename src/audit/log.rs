//! The handle through which everybody writes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout_at;

use claviger_provider::TenantId;

use super::action::Operation;
use super::fields::{Kind, Number, Origin, Outcome, Receipt};
use super::health::{Condition, Health, Reason, Shared, Unavailable};
use super::intent::Intent;
use super::record::{Record, Stamped};
use super::recorded::Recorded;
use super::state_change::{Change, EmergencyRevocation};
use super::writer::{Answer, Class, Job, LogPosition, Message, Refusal, count_refusal};

/// How the log uses disk, memory and time.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of disk held back for cuts (disable, sever, revoke, suspend).
    pub reserve_bytes: u64,
    /// Ordinary records stop when the file system has less than this left beside the
    /// reserve, in bytes: room for the sidecar and for the file system's own needs.
    pub floor_bytes: u64,
    /// Bytes of records that may wait for the writer; further callers wait for room.
    pub queue_bytes: u32,
    /// The sidecar is renewed whenever that many bytes were written.
    pub snapshot_bytes: u64,
    /// After a failed write or sync, the time before the file is tried again.
    pub retry_after: Duration,
    /// A commit that takes longer makes the log [`Health::Stalled`].
    pub stall_after: Duration,
    /// Open a log although acknowledged records are gone from its end.
    pub accept_rollback: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reserve_bytes: 16 << 20,
            floor_bytes: 1 << 20,
            queue_bytes: 32 << 20,
            snapshot_bytes: 64 << 20,
            retry_after: Duration::from_secs(1),
            stall_after: Duration::from_secs(2),
            accept_rollback: false,
        }
    }
}

/// At most that many records are kept although their callers were refused.
const MOST_FOLLOWING: usize = 4096;

/// The log of one node. Cheap to clone; all clones write through the same thread.
///
/// Every method that takes a deadline answers by then. What it answers with `Err` is not
/// known to be durable, which is not the same as known to be absent.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    origin: Origin,
    options: Options,
    messages: mpsc::UnboundedSender<Message>,
    /// Bounds the queue, in bytes.
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Log {
    pub(super) fn new(origin: Origin, options: Options, shared: Arc<Shared>, messages: mpsc::UnboundedSender<Message>) -> Self {
        let room = Arc::new(Semaphore::new(options.queue_bytes as usize));
        Self {
            inner: Arc::new(Inner {
                origin,
                options,
                messages,
                room,
                shared,
            }),
        }
    }

    /// Whose log it is.
    pub fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// Begins a record. What has no tenant stands under [`TenantId::INSTALLATION`].
    pub fn entry(&self, tenant: TenantId, operation: impl Into<Operation>) -> Record {
        Record::new(&self.inner.origin, tenant, operation.into())
    }

    /// Makes an outcome durable and hands the value back as something that may be answered.
    ///
    /// # Errors
    /// [`Unavailable`]; the value is dropped then.
    pub fn record<T>(
        &self,
        record: Record,
        outcome: Outcome,
        value: T,
        deadline: Instant,
    ) -> impl Future<Output = Result<Recorded<T>, Unavailable>> {
        let class = Class {
            reserve: false,
            refusal: Refusal::Lost,
        };
        // Before the first wait, so that what waits is bytes and no record, which is large.
        let stamped = self.stamp([record.with_outcome(outcome)], class);
        async move {
            let receipt = self.append_one(stamped?, class, deadline).await?;
            Ok(Recorded::new(value, receipt))
        }
    }

    /// As [`Log::record`] for many at once: one sync, all or none, answered in order.
    ///
    /// # Errors
    /// [`Unavailable`]; all values are dropped then.
    pub async fn record_batch<T>(&self, entries: Vec<(Record, Outcome, T)>, deadline: Instant) -> Result<Vec<Recorded<T>>, Unavailable> {
        let class = Class {
            reserve: false,
            refusal: Refusal::Lost,
        };
        let (records, values): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .map(|(record, outcome, value)| (record.with_outcome(outcome), value))
            .unzip();
        let receipts = self.append(self.stamp(records, class)?, class, deadline).await?;
        Ok(values
            .into_iter()
            .zip(receipts)
            .map(|(value, receipt)| Recorded::new(value, receipt))
            .collect())
    }

    /// Makes an intent durable. The effect may be caused as soon as this returns `Ok`, and
    /// never before. For a cut the disk reserve may be used.
    ///
    /// # Errors
    /// [`Unavailable`]: the effect must not be caused.
    pub async fn intent(&self, mut record: Record, change: Change, deadline: Instant) -> Result<Intent, Unavailable> {
        record.kind = Kind::Intent;
        record.change = Some(change);
        let class = Class {
            reserve: change.revocation().is_some(),
            refusal: Refusal::Harmless,
        };
        let pending = self.enqueue(self.stamp([record.clone()], class)?, class, deadline).await?;
        // A caller that goes away now would leave an intent that nobody gives its outcome;
        // so the end of the wait is a task's, which outlives the caller.
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
            Ok(Err(_)) => Err(refused(Reason::Closed)),
            Err(_) => Err(refused(Reason::Deadline)),
        }
    }

    /// Records a cut that has taken effect without an intent, because no cut waits for a
    /// healthy log. The disk reserve may be used; a record that cannot be written now
    /// follows when the log is able to.
    ///
    /// # Errors
    /// [`Unavailable`]: answered with `effective_not_recorded`. While
    /// [`Unavailable::follows`] holds the record survives anything but the end of this
    /// process; against that the caller has the [`super::KillFile`].
    pub async fn record_revocation<T>(
        &self,
        mut record: Record,
        cut: EmergencyRevocation,
        outcome: Outcome,
        value: T,
        deadline: Instant,
    ) -> Result<Recorded<T>, Unavailable> {
        record.change = Some(cut.into());
        let class = Class {
            reserve: true,
            refusal: Refusal::Deferred,
        };
        let stamped = self.stamp([record.with_outcome(outcome)], class)?;
        let receipt = self.append_one(stamped, class, deadline).await?;
        Ok(Recorded::new(value, receipt))
    }

    /// The outcome of an intent; it follows even where it is refused.
    pub(super) async fn close_intent(&self, record: Record, deadline: Instant) -> Result<Receipt, Unavailable> {
        let class = class_of_outcome(&record);
        self.append_one(self.stamp([record], class)?, class, deadline).await
    }

    /// As [`Log::close_intent`] for those that cannot wait.
    pub(super) fn close_intent_unheard(&self, record: Record) {
        let class = class_of_outcome(&record);
        match record.stamp() {
            Ok(stamped) => {
                if let Err(error) = self.send_following(vec![stamped], class, None) {
                    tracing::error!(%error, "the outcome stays open until the next start");
                }
            }
            Err(error) => tracing::error!(%error, "the outcome stays open until the next start"),
        }
    }

    /// Records that the answers of these outcomes were not handed over; it follows even
    /// where it is refused.
    pub(super) async fn withhold(
        &self,
        record: Record,
        of: &[Receipt],
        code: &'static str,
        deadline: Instant,
    ) -> Result<Vec<Receipt>, Unavailable> {
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
        self.append(self.stamp(of.iter().map(withheld), class)?, class, deadline).await
    }

    /// Records sums; the caller keeps them where they are refused.
    pub(super) async fn append_sums(&self, records: Vec<Record>, deadline: Instant) -> Result<(), Unavailable> {
        let class = Class {
            reserve: false,
            refusal: Refusal::Harmless,
        };
        self.append(self.stamp(records, class)?, class, deadline).await.map(drop)
    }

    async fn append_one(&self, record: Unsent<'_>, class: Class, deadline: Instant) -> Result<Receipt, Unavailable> {
        let pending = self.enqueue(record, class, deadline).await?;
        let follows = pending.follows;
        let answered = timeout_at(deadline.into(), pending.receipt()).await;
        answered.unwrap_or_else(|_| Err(late(follows)))
    }

    async fn append(&self, records: Unsent<'_>, class: Class, deadline: Instant) -> Result<Vec<Receipt>, Unavailable> {
        let pending = self.enqueue(records, class, deadline).await?;
        let follows = pending.follows;
        let answered = timeout_at(deadline.into(), pending.receipts()).await;
        answered.unwrap_or_else(|_| Err(late(follows)))
    }

    /// Makes bytes of records. From here on they are sent, or counted as lost where they
    /// would be.
    fn stamp(&self, records: impl IntoIterator<Item = Record>, class: Class) -> Result<Unsent<'_>, Unavailable> {
        let mut unsent = Unsent {
            shared: &self.inner.shared,
            stamped: Vec::new(),
            lost: 0,
            reason: Reason::Deadline,
        };
        let mut too_large = false;
        for record in records {
            unsent.lost += u64::from(class.refusal != Refusal::Harmless);
            match record.stamp() {
                Ok(stamped) => unsent.stamped.push(stamped),
                Err(_) => too_large = true,
            }
        }
        if too_large {
            unsent.reason = Reason::TooLarge;
            return Err(refused(Reason::TooLarge));
        }
        Ok(unsent)
    }

    /// Hands records to the writer as soon as there is room for them; from then on they
    /// are written even if nobody waits for the answer.
    async fn enqueue(&self, mut unsent: Unsent<'_>, class: Class, deadline: Instant) -> Result<Pending, Unavailable> {
        let stamped = std::mem::take(&mut unsent.stamped);
        let mut lost = |reason| {
            unsent.reason = reason;
            refused(reason)
        };
        let (answer, answered) = oneshot::channel();
        match class.refusal {
            Refusal::Deferred => self
                .send_following(stamped, class, Some(answer))
                .map_err(|error| lost(error.reason))?,
            Refusal::Lost | Refusal::Harmless => {
                let bytes: usize = stamped.iter().map(Stamped::len).sum();
                let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.inner.options.queue_bytes);
                let room = self.inner.room.clone().acquire_many_owned(permits);
                let permit = match timeout_at(deadline.into(), room).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return Err(lost(Reason::Closed)),
                    Err(_) => return Err(lost(Reason::Deadline)),
                };
                let job = Job {
                    spots: Vec::with_capacity(stamped.len()),
                    records: stamped,
                    class,
                    answer: Some(answer),
                    permit: Some(permit),
                };
                let sent = self.inner.messages.send(Message::Append(job));
                sent.map_err(|_| lost(Reason::Closed))?;
            }
        }
        unsent.lost = 0;
        Ok(Pending {
            origin: self.inner.origin.clone(),
            answered,
            follows: class.refusal == Refusal::Deferred,
        })
    }

    fn send_following(&self, records: Vec<Stamped>, class: Class, answer: Option<oneshot::Sender<Answer>>) -> Result<(), Unavailable> {
        let following = &self.inner.shared.following;
        let count = records.len();
        if following.fetch_add(count, Ordering::AcqRel) + count > MOST_FOLLOWING {
            following.fetch_sub(count, Ordering::AcqRel);
            return Err(Unavailable {
                reason: Reason::Overload,
                follows: false,
            });
        }
        let job = Job {
            spots: Vec::with_capacity(records.len()),
            records,
            class,
            answer,
            permit: None,
        };
        self.inner.messages.send(Message::Append(job)).map_err(|_| Unavailable {
            reason: Reason::Closed,
            follows: false,
        })
    }

    /// How the log is. Asking also makes a log that is not sound look whether it can be
    /// again, so that it recovers without any traffic.
    pub fn health(&self) -> Health {
        let Inner {
            shared, messages, options, ..
        } = &*self.inner;
        let ailing = match shared.condition() {
            Condition::DiskFull | Condition::WriteFailed => true,
            Condition::Sound | Condition::Closed => false,
        };
        if ailing && !shared.check_asked.swap(true, Ordering::AcqRel) {
            // A writer that has ended shows in the health below.
            let _ = messages.send(Message::Check);
        }
        let waiting = (options.queue_bytes as usize).saturating_sub(self.inner.room.available_permits());
        metrics::gauge!("claviger_audit_queue_bytes").set(waiting as f64);
        shared.health(options.stall_after)
    }

    /// Writes what has queued, then the sidecar, and closes the file. Everything appended
    /// later is refused. Returns when the file is closed.
    pub async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self.inner.messages.send(Message::Close(answer)).is_ok() {
            // A writer that died while closing has closed the file as well.
            let _ = answered.await;
        }
    }
}

/// Records that are the writer's already.
struct Pending {
    origin: Origin,
    answered: oneshot::Receiver<Answer>,
    follows: bool,
}

impl Pending {
    async fn receipts(self) -> Result<Vec<Receipt>, Unavailable> {
        let follows = self.follows;
        let written = match self.answered.await {
            Ok(Ok(written)) => written,
            Ok(Err(reason)) => return Err(Unavailable { reason, follows }),
            Err(_) => return Err(refused(Reason::Closed)),
        };
        let receipt = |(record, spot): (&Stamped, &LogPosition)| Receipt {
            origin: self.origin.clone(),
            tenant: record.tenant,
            sequence: spot.sequence,
            position: spot.position,
        };
        Ok(written.records.iter().zip(&written.spots).map(receipt).collect())
    }

    async fn receipt(self) -> Result<Receipt, Unavailable> {
        // One record in, one receipt out; a writer that broke this has ended.
        self.receipts().await?.into_iter().next().ok_or_else(|| refused(Reason::Closed))
    }
}

/// A refusal before the record reached the writer.
fn refused(reason: Reason) -> Unavailable {
    count_refusal(reason);
    Unavailable { reason, follows: false }
}

/// The deadline passed after the record reached the writer.
fn late(follows: bool) -> Unavailable {
    count_refusal(Reason::Deadline);
    Unavailable {
        reason: Reason::Deadline,
        follows,
    }
}

/// The outcome of a cut may use the reserve, as its intent might.
fn class_of_outcome(record: &Record) -> Class {
    Class {
        reserve: record.change.is_some_and(|change| change.revocation().is_some()),
        refusal: Refusal::Deferred,
    }
}

/// Records that are not the writer's yet. Dropped so, they are counted as lost, however
/// their caller ended.
struct Unsent<'a> {
    shared: &'a Shared,
    stamped: Vec<Stamped>,
    /// How many to count.
    lost: u64,
    reason: Reason,
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        if self.lost > 0 {
            self.shared.add_gap(self.lost, self.reason);
        }
    }
}
