//! The handle through which records are written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout_at;

use claviger_provider::TenantId;

use super::action::Operation;
use super::health::{Condition, Health, Reason, Shared, Unavailable};
use super::options::Options;
use super::origin::{Origin, Receipt};
use super::queue::{Class, Job, JobResult, LogPosition, Message, Refusal};
use super::record::Record;
use super::stamp::Stamped;

/// The most deferred records: records that are kept although their callers were refused.
const MAX_DEFERRED: usize = 4096;

/// The log of one node. Cheap to clone; all clones write through the same thread.
///
/// Every method with a deadline returns by then. A record for which it returns `Err` is not
/// known to be durable; it may be durable all the same.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    origin: Origin,
    options: Options,
    messages: mpsc::UnboundedSender<Message>,
    /// The free bytes of the queue.
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

    /// The owner of the log.
    pub fn origin(&self) -> &Origin {
        &self.inner.origin
    }

    /// Begins a record. Operations without a tenant use [`TenantId::INSTALLATION`].
    pub fn entry(&self, tenant: TenantId, operation: impl Into<Operation>) -> Record {
        Record::new(&self.inner.origin, tenant, operation.into())
    }

    /// Makes one record durable.
    pub(super) fn append_one(&self, record: Record, class: Class, deadline: Instant) -> impl Future<Output = Result<Receipt, Unavailable>> {
        // Stamp before the first wait, so that the future contains bytes and not the large record.
        let stamped = self.stamp([record], class);
        async move {
            let pending = self.submit(stamped?, class, deadline).await?;
            let deferred = pending.deferred;
            let result = timeout_at(deadline.into(), pending.receipt()).await;
            result.unwrap_or_else(|_| Err(Unavailable::counted(Reason::Deadline, deferred)))
        }
    }

    /// Makes records durable with one sync: all or none.
    pub(super) async fn append(
        &self,
        records: impl IntoIterator<Item = Record>,
        class: Class,
        deadline: Instant,
    ) -> Result<Vec<Receipt>, Unavailable> {
        let pending = self.submit(self.stamp(records, class)?, class, deadline).await?;
        let deferred = pending.deferred;
        let result = timeout_at(deadline.into(), pending.receipts()).await;
        result.unwrap_or_else(|_| Err(Unavailable::counted(Reason::Deadline, deferred)))
    }

    /// Queues one record. The caller waits for the result itself.
    pub(super) async fn queue_one(&self, record: Record, class: Class, deadline: Instant) -> Result<Pending, Unavailable> {
        self.submit(self.stamp([record], class)?, class, deadline).await
    }

    /// Queues a deferred record without waiting.
    pub(super) fn queue_unheard(&self, record: Record, class: Class) -> Result<(), Unavailable> {
        let stamped = record.stamp().map_err(|_| Unavailable::counted(Reason::TooLarge, false))?;
        self.send_deferred(vec![stamped], class, None)
    }

    /// Makes bytes of records. Until they are queued, dropping them counts them as lost.
    fn stamp(&self, records: impl IntoIterator<Item = Record>, class: Class) -> Result<Unsent<'_>, Unavailable> {
        let records = records.into_iter();
        let mut unsent = Unsent {
            shared: &self.inner.shared,
            stamped: Vec::with_capacity(records.size_hint().0),
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
            return Err(Unavailable::counted(Reason::TooLarge, false));
        }
        Ok(unsent)
    }

    /// Queues records as soon as the queue has room. From then on they are written even if
    /// nobody waits for the result.
    async fn submit(&self, mut unsent: Unsent<'_>, class: Class, deadline: Instant) -> Result<Pending, Unavailable> {
        let stamped = std::mem::take(&mut unsent.stamped);
        let (result, pending) = oneshot::channel();
        let sent = match class.refusal {
            Refusal::Deferred => self.send_deferred(stamped, class, Some(result)),
            Refusal::Lost | Refusal::Harmless => match self.reserve_room(&stamped, deadline).await {
                Ok(permit) => self.send(stamped, class, Some(result), Some(permit)),
                Err(unavailable) => Err(unavailable),
            },
        };
        if let Err(unavailable) = sent {
            unsent.reason = unavailable.reason;
            return Err(unavailable);
        }
        unsent.lost = 0;
        Ok(Pending {
            origin: self.inner.origin.clone(),
            result: pending,
            deferred: class.refusal == Refusal::Deferred,
        })
    }

    /// Waits until the queue has room for the records.
    async fn reserve_room(&self, stamped: &[Stamped], deadline: Instant) -> Result<OwnedSemaphorePermit, Unavailable> {
        let bytes: usize = stamped.iter().map(Stamped::len).sum();
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.inner.options.queue_bytes);
        let room = self.inner.room.clone().acquire_many_owned(permits);
        match timeout_at(deadline.into(), room).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Unavailable::counted(Reason::Closed, false)),
            Err(_) => Err(Unavailable::counted(Reason::Deadline, false)),
        }
    }

    /// Queues deferred records, which need no room but are bounded in number.
    fn send_deferred(&self, records: Vec<Stamped>, class: Class, result: Option<oneshot::Sender<JobResult>>) -> Result<(), Unavailable> {
        let deferred = &self.inner.shared.deferred;
        let count = records.len();
        if deferred.fetch_add(count, Ordering::AcqRel) + count > MAX_DEFERRED {
            deferred.fetch_sub(count, Ordering::AcqRel);
            return Err(Unavailable::counted(Reason::Overload, false));
        }
        self.send(records, class, result, None)
    }

    fn send(
        &self,
        records: Vec<Stamped>,
        class: Class,
        result: Option<oneshot::Sender<JobResult>>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Unavailable> {
        let job = Job {
            positions: Vec::with_capacity(records.len()),
            records,
            class,
            result,
            permit,
        };
        let sent = self.inner.messages.send(Message::Append(job));
        sent.map_err(|_| Unavailable::counted(Reason::Closed, false))
    }

    /// The health of the log. If the log is not sound, this also makes it check whether it has
    /// recovered, so that it recovers without any traffic.
    pub fn health(&self) -> Health {
        let Inner { shared, options, .. } = &*self.inner;
        let ailing = match shared.condition() {
            Condition::DiskFull | Condition::WriteFailed | Condition::LogLost => true,
            Condition::Sound | Condition::Closed => false,
        };
        if ailing {
            self.check();
        }
        let queued = (options.queue_bytes as usize).saturating_sub(self.inner.room.available_permits());
        metrics::gauge!("claviger_audit_queue_bytes").set(queued as f64);
        shared.health(options.stall_after)
    }

    /// How many records are kept in memory although their callers were refused. They are written once
    /// the log can.
    pub fn deferred(&self) -> usize {
        self.inner.shared.deferred.load(Ordering::Acquire)
    }

    /// Makes the log compare its file with what it wrote, and bring back what was removed. To be
    /// called every second: a log with traffic does so by itself.
    pub fn check(&self) {
        if !self.inner.shared.check_queued.swap(true, Ordering::AcqRel) {
            // An error means that the log's thread has ended, which the health shows.
            let _ = self.inner.messages.send(Message::Check);
        }
    }

    /// Writes what is queued and the sidecar, and closes the file. Later appends are refused.
    /// Returns when the file is closed.
    pub async fn close(&self) {
        let (closed, wait) = oneshot::channel();
        if self.inner.messages.send(Message::Close(closed)).is_ok() {
            // An error means that the thread ended without an answer; the file is closed too.
            let _ = wait.await;
        }
    }
}

/// Records that are queued.
pub(super) struct Pending {
    origin: Origin,
    result: oneshot::Receiver<JobResult>,
    deferred: bool,
}

impl Pending {
    /// Waits until the records are durable.
    async fn receipts(self) -> Result<Vec<Receipt>, Unavailable> {
        self.written(|receipts| receipts.collect()).await
    }

    /// Waits until the one record is durable.
    pub(super) async fn receipt(self) -> Result<Receipt, Unavailable> {
        // One record gives one receipt; without it the log's thread must have ended.
        let receipt = self.written(|receipts| receipts.next()).await?;
        receipt.ok_or_else(|| Unavailable::counted(Reason::Closed, false))
    }

    /// Waits until the records are durable, and hands their receipts to `take`.
    async fn written<T>(self, take: impl FnOnce(&mut dyn Iterator<Item = Receipt>) -> T) -> Result<T, Unavailable> {
        let deferred = self.deferred;
        let written = match self.result.await {
            Ok(Ok(written)) => written,
            // Counted by the group commit.
            Ok(Err(reason)) => return Err(Unavailable { reason, deferred }),
            Err(_) => return Err(Unavailable::counted(Reason::Closed, false)),
        };
        let receipt = |(record, at): (&Stamped, &LogPosition)| Receipt {
            origin: self.origin.clone(),
            tenant: record.tenant,
            sequence: at.sequence,
            position: at.position,
        };
        Ok(take(&mut written.records.iter().zip(&written.positions).map(receipt)))
    }
}

/// Records that are not queued yet. Dropping them counts them as lost, also when the caller's
/// future is cancelled.
struct Unsent<'a> {
    shared: &'a Shared,
    stamped: Vec<Stamped>,
    /// Number of lost records.
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
