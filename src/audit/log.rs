//! The handle through which records are written.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use claviger_provider::TenantId;

use super::action::Operation;
use super::class::{Class, Refusal};
use super::completion::{Given, Waiter};
use super::durability::Durability;
use super::health::{Condition, Health, Reason, Shared, Unavailable};
use super::options::Options;
use super::origin::{Origin, Receipt};
use super::queue::Queue;
use super::record::Record;
use super::stamp::Stamped;
use super::survey::{Survey, Task};

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
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

impl Log {
    pub(super) fn new(origin: Origin, options: Options, shared: Arc<Shared>, queue: Arc<Queue>) -> Self {
        Self {
            inner: Arc::new(Inner {
                origin,
                options,
                queue,
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

    /// What a record survives from its response on.
    pub fn durability(&self) -> Durability {
        self.inner.options.durability
    }

    /// Makes one record durable.
    pub(super) fn append_one(&self, record: Record, class: Class, deadline: Instant) -> impl Future<Output = Result<Receipt, Unavailable>> {
        // Stamp before the first wait, so that the future contains bytes and not the large record.
        let unsent = self.stamp_one(record, class);
        async move {
            let pending = self.submit_one(unsent?, class, deadline).await?;
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
        let unsent = self.stamp(records, class)?;
        if unsent.stamped.is_empty() {
            return Ok(Vec::new());
        }
        let tenants: Vec<TenantId> = unsent.stamped.iter().map(|stamped| stamped.about.tenant).collect();
        let mut given = Vec::with_capacity(tenants.len());
        let mut waiter = self.submit(unsent, class, deadline, |place| given.push(place)).await?;
        let deferred = class.refusal == Refusal::Deferred;
        if timeout_at(deadline.into(), &mut waiter).await.is_err() {
            return Err(Unavailable::counted(Reason::Deadline, deferred));
        }
        let places = tenants.into_iter().zip(given);
        places
            .map(|(tenant, given)| receipt(&self.inner.origin, tenant, &waiter, given, deferred))
            .collect()
    }

    /// Queues one record. The caller waits for the result itself.
    pub(super) async fn queue_one(&self, record: Record, class: Class, deadline: Instant) -> Result<Pending, Unavailable> {
        self.submit_one(self.stamp_one(record, class)?, class, deadline).await
    }

    /// Queues a deferred record without waiting.
    pub(super) fn queue_unheard(&self, record: Record, class: Class) -> Result<(), Unavailable> {
        let stamped = record.stamp().map_err(|_| Unavailable::counted(Reason::TooLarge, false))?;
        self.push_deferred(&[stamped], class, |_| ()).map(drop)
    }

    /// Makes bytes of a record. Until it is queued, dropping it counts it as lost.
    fn stamp_one(&self, record: Record, class: Class) -> Result<Unsent<'_, [Stamped; 1]>, Unavailable> {
        let lost = self.lost(1, class);
        match record.stamp() {
            Ok(stamped) => Ok(Unsent { stamped: [stamped], lost }),
            Err(_) => Err(lost.because(Unavailable::counted(Reason::TooLarge, false))),
        }
    }

    /// Makes bytes of records. Until they are queued, dropping them counts them as lost.
    fn stamp(&self, records: impl IntoIterator<Item = Record>, class: Class) -> Result<Unsent<'_, Vec<Stamped>>, Unavailable> {
        let stamped: Vec<_> = records.into_iter().map(Record::stamp).collect();
        let lost = self.lost(stamped.len(), class);
        match stamped.into_iter().collect() {
            Ok(stamped) => Ok(Unsent { stamped, lost }),
            Err(_) => Err(lost.because(Unavailable::counted(Reason::TooLarge, false))),
        }
    }

    fn lost(&self, records: usize, class: Class) -> Lost<'_> {
        Lost {
            shared: &self.inner.shared,
            records: if class.refusal == Refusal::Harmless { 0 } else { records as u64 },
            reason: Reason::Deadline,
        }
    }

    /// As [`Log::submit`] for one record.
    async fn submit_one(&self, unsent: Unsent<'_, [Stamped; 1]>, class: Class, deadline: Instant) -> Result<Pending, Unavailable> {
        let tenant = unsent.stamped[0].about.tenant;
        let mut given = None;
        let waiter = self.submit(unsent, class, deadline, |place| given = Some(place)).await?;
        // One record gets one place; without it the log's thread must have ended.
        let given = given.ok_or_else(|| Unavailable::counted(Reason::Closed, false))?;
        Ok(Pending {
            origin: self.inner.origin.clone(),
            tenant,
            waiter,
            given,
            deferred: class.refusal == Refusal::Deferred,
        })
    }

    /// Queues records as soon as the queue has room. From then on they are written even if
    /// nobody waits for the result.
    async fn submit<S: AsRef<[Stamped]>>(
        &self,
        unsent: Unsent<'_, S>,
        class: Class,
        deadline: Instant,
        given: impl FnMut(Given),
    ) -> Result<Waiter, Unavailable> {
        let Unsent { stamped, lost } = unsent;
        let stamped = stamped.as_ref();
        let pushed = match class.refusal {
            Refusal::Deferred => self.push_deferred(stamped, class, given),
            Refusal::Lost | Refusal::Harmless => match self.reserve(stamped, deadline).await {
                Ok(room) => self.push(stamped, class, room, given),
                Err(unavailable) => Err(unavailable),
            },
        };
        match pushed {
            Ok(waiter) => {
                lost.none();
                Ok(waiter)
            }
            Err(unavailable) => Err(lost.because(unavailable)),
        }
    }

    /// Waits until the queue has room for the records, and takes it.
    async fn reserve(&self, stamped: &[Stamped], deadline: Instant) -> Result<usize, Unavailable> {
        let queue = &self.inner.queue;
        let reserved = match queue.try_reserve(stamped) {
            Some(room) => return Ok(room),
            None => Box::pin(timeout_at(deadline.into(), queue.reserve(stamped))).await,
        };
        match reserved {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(Unavailable::counted(Reason::Closed, false)),
            Err(_) => Err(Unavailable::counted(Reason::Deadline, false)),
        }
    }

    /// Queues deferred records, which need no room but are bounded in number.
    fn push_deferred(&self, records: &[Stamped], class: Class, given: impl FnMut(Given)) -> Result<Waiter, Unavailable> {
        let deferred = &self.inner.shared.deferred;
        let count = records.len();
        if deferred.fetch_add(count, Ordering::AcqRel) + count > MAX_DEFERRED {
            deferred.fetch_sub(count, Ordering::AcqRel);
            return Err(Unavailable::counted(Reason::Overload, false));
        }
        self.push(records, class, 0, given)
    }

    fn push(&self, records: &[Stamped], class: Class, room: usize, given: impl FnMut(Given)) -> Result<Waiter, Unavailable> {
        let pushed = self.inner.queue.push(records, class, room, given);
        pushed.map_err(|_| Unavailable::counted(Reason::Closed, false))
    }

    /// The health of the log. If the log is not sound, this also makes it check whether it has
    /// recovered, so that it recovers without any traffic.
    pub fn health(&self) -> Health {
        self.condition();
        metrics::gauge!("claviger_audit_queue_bytes").set(self.inner.queue.taken_room() as f64);
        self.inner.shared.health(self.inner.options.stall_after)
    }

    /// Whether ordinary records may become durable: what was written last did, or is still being written. Every
    /// request asks, so it is [`Self::health`] without its clock and its metric.
    pub fn takes_records(&self) -> bool {
        matches!(self.condition(), Condition::Sound)
    }

    /// The log's condition. One that is not sound is looked at again.
    fn condition(&self) -> Condition {
        let condition = self.inner.shared.condition();
        match condition {
            Condition::DiskFull | Condition::WriteFailed | Condition::LogLost => self.check(),
            Condition::Sound | Condition::Closed => {}
        }
        condition
    }

    /// How long the disk takes ordinary records if the log goes on growing as in the last minutes, in whole
    /// seconds. `None` if it did not grow, or would last longer than 100 years.
    pub fn disk_lasts(&self) -> Option<Duration> {
        self.inner.shared.disk_lasts()
    }

    /// The position at which the last part ends that something else took from the log while this process runs;
    /// 0 if there is none. Records before it may be gone.
    pub fn lost_until(&self) -> u64 {
        self.inner.shared.lost_until()
    }

    /// How many records are kept in memory although their callers were refused. They are written once
    /// the log can.
    pub fn deferred(&self) -> usize {
        self.inner.shared.deferred.load(Ordering::Acquire)
    }

    /// Makes the log compare its file with what it wrote, and bring back what was removed. To be
    /// called every second: a log with traffic does so by itself.
    pub fn check(&self) {
        self.inner.queue.check();
    }

    /// The log at this moment; `None` if it has ended.
    pub async fn survey(&self) -> Option<Survey> {
        let (answer, wait) = oneshot::channel();
        self.inner.queue.ask(Task::Survey(answer));
        wait.await.ok()
    }

    /// Has the log go on without the files before that position. Returns whether their removal is
    /// recorded, so that they can be removed.
    pub(super) async fn forget(&self, position: u64) -> bool {
        let (answer, wait) = oneshot::channel();
        self.inner.queue.ask(Task::Forget(position, answer));
        wait.await.unwrap_or(false)
    }

    /// Writes what is queued and the sidecar, and closes the file. Later appends are refused.
    /// Returns when the file is closed.
    pub async fn close(&self) {
        // An error means that the thread ended without an answer; the file is closed too.
        let _ = self.inner.queue.close().await;
    }
}

/// A record that is queued.
pub(super) struct Pending {
    origin: Origin,
    tenant: TenantId,
    waiter: Waiter,
    given: Given,
    deferred: bool,
}

impl Pending {
    /// Waits until the record is durable.
    pub(super) async fn receipt(mut self) -> Result<Receipt, Unavailable> {
        (&mut self.waiter).await;
        receipt(&self.origin, self.tenant, &self.waiter, self.given, self.deferred)
    }
}

/// The receipt of a record whose commit is done.
fn receipt(origin: &Origin, tenant: TenantId, waiter: &Waiter, given: Given, deferred: bool) -> Result<Receipt, Unavailable> {
    match waiter.result(given) {
        Ok(at) => Ok(Receipt {
            origin: origin.clone(),
            tenant,
            sequence: at.sequence,
            position: at.position,
        }),
        // The log's thread ended without a result.
        Err(Reason::Closed) => Err(Unavailable::counted(Reason::Closed, false)),
        // Counted by the group commit.
        Err(reason) => Err(Unavailable { reason, deferred }),
    }
}

/// Records that are not queued yet.
struct Unsent<'a, S> {
    stamped: S,
    lost: Lost<'a>,
}

/// Counts records as lost when it is dropped: they were not queued, maybe because the caller's
/// future was cancelled.
struct Lost<'a> {
    shared: &'a Shared,
    records: u64,
    reason: Reason,
}

impl Lost<'_> {
    /// The records were refused for the reason of that error.
    fn because(mut self, unavailable: Unavailable) -> Unavailable {
        self.reason = unavailable.reason;
        unavailable
    }

    /// The records were queued.
    fn none(mut self) {
        self.records = 0;
    }
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if self.records > 0 {
            self.shared.add_gap(self.records, self.reason);
        }
    }
}
