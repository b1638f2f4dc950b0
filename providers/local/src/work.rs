//! Work that takes milliseconds or seconds of CPU time: each job on a thread of its own, and within
//! bounds. The threads for blocking work can all be taken by what waits for a disk or a network.
//!
//! A job that runs cannot be stopped, so it keeps its place until it ends, also when its caller gave up
//! long before. Otherwise callers with short deadlines could start any number of jobs.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use claviger_provider::{Error, ErrorKind, Retry, TenantId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};

use crate::errors::{error, fault};

/// The bounds of one kind of work.
#[derive(Clone, Copy)]
struct Bounds {
    /// The kind in metrics.
    kind: &'static str,
    /// The most jobs that run at once.
    running: usize,
    /// The most jobs that run or wait.
    all: usize,
    /// As `all`, of one tenant, so that no tenant takes all places in the queue.
    of_tenant: usize,
    /// What a refused caller can do.
    advice: &'static str,
}

/// One kind of work. Jobs start in the order of arrival.
pub(crate) struct Work {
    bounds: Bounds,
    places: Arc<Semaphore>,
    queue: Arc<Mutex<Queue>>,
}

/// The jobs that run or wait.
#[derive(Default)]
struct Queue {
    all: usize,
    of_tenant: HashMap<TenantId, usize>,
}

impl Work {
    /// Generation of RSA keys: on half of the CPUs, so that requests go on.
    pub(crate) fn key_generation() -> Self {
        Self::within(Bounds {
            kind: "key_generation",
            running: (cpus() / 2).max(1),
            all: 64,
            of_tenant: 8,
            advice: "The gateway generates few RSA keys at once. Retry later, one key at a time.",
        })
    }

    /// Computations with private RSA keys: milliseconds each.
    pub(crate) fn private_key_operations() -> Self {
        Self::within(Bounds {
            kind: "private_key_operation",
            running: cpus(),
            all: 512,
            of_tenant: 128,
            advice: "Many unwraps with RSA keys are under way. Retry later, or use an AES key.",
        })
    }

    fn within(bounds: Bounds) -> Self {
        Self {
            places: Arc::new(Semaphore::new(bounds.running)),
            bounds,
            queue: Arc::default(),
        }
    }

    /// Runs a job and returns its result. If the caller gives up before the job starts, it never does.
    ///
    /// # Errors
    /// `RateLimited` if too many jobs, or too many of this tenant, run or wait.
    pub(crate) async fn run<T: Send + 'static>(&self, tenant: TenantId, job: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let turn = self.join(tenant)?;
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|closed| fault("no work is accepted").source(closed))?;
        let kind = self.bounds.kind;
        let (result, answer) = oneshot::channel();
        let started = std::thread::Builder::new().name(kind.to_owned()).spawn(move || {
            let _until_the_end = (turn, place);
            let _counted = Counted::new(kind);
            // Without a receiver nobody wants the result any more.
            let _ = result.send(job());
        });
        started.map_err(|error| fault("a thread could not be started").source(error))?;
        answer.await.map_err(|ended| fault("a computation ended early").source(ended))
    }

    fn join(&self, tenant: TenantId) -> Result<Turn, Error> {
        let mut queue = self.queue.lock();
        let of_tenant = queue.of_tenant.get(&tenant).copied().unwrap_or(0);
        if queue.all >= self.bounds.all || of_tenant >= self.bounds.of_tenant {
            return Err(error(ErrorKind::RateLimited, "too many jobs run or wait")
                .retry(Retry::After(Duration::from_secs(1)))
                .advice(self.bounds.advice));
        }
        queue.all += 1;
        queue.of_tenant.insert(tenant, of_tenant + 1);
        Ok(Turn {
            queue: Arc::clone(&self.queue),
            tenant,
        })
    }
}

fn cpus() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// A job that runs or waits.
struct Turn {
    queue: Arc<Mutex<Queue>>,
    tenant: TenantId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queue = self.queue.lock();
        queue.all = queue.all.saturating_sub(1);
        let left = queue.of_tenant.get(&self.tenant).map_or(0, |jobs| jobs.saturating_sub(1));
        if left == 0 {
            queue.of_tenant.remove(&self.tenant);
        } else {
            queue.of_tenant.insert(self.tenant, left);
        }
    }
}

/// Counts a running job in the metrics.
struct Counted(metrics::Gauge);

impl Counted {
    fn new(kind: &'static str) -> Self {
        let gauge = metrics::gauge!("claviger_embedded_jobs", "kind" => kind);
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use claviger_provider::{ErrorKind, TenantId};
    use tokio::task::JoinHandle;

    use super::{Bounds, Work};

    fn work(running: usize, all: usize, of_tenant: usize) -> Arc<Work> {
        Arc::new(Work::within(Bounds {
            kind: "test",
            running,
            all,
            of_tenant,
            advice: "Retry later.",
        }))
    }

    /// A job that runs until something is sent; returns when it has started.
    async fn blocker(work: &Arc<Work>, tenant: TenantId) -> (JoinHandle<()>, mpsc::Sender<()>) {
        let (end, ended) = mpsc::channel();
        let (start, started) = tokio::sync::oneshot::channel();
        let work = Arc::clone(work);
        let caller = tokio::spawn(async move {
            let job = move || {
                start.send(()).unwrap();
                ended.recv().unwrap();
            };
            work.run(tenant, job).await.unwrap();
        });
        started.await.unwrap();
        (caller, end)
    }

    /// A caller that waits for its turn.
    async fn waiting(work: &Arc<Work>, tenant: TenantId, ran: &Arc<AtomicUsize>) -> JoinHandle<()> {
        let before = work.queue.lock().all;
        let (work_of_caller, ran) = (Arc::clone(work), Arc::clone(ran));
        let caller = tokio::spawn(async move {
            let job = move || ran.fetch_add(1, Ordering::SeqCst);
            work_of_caller.run(tenant, job).await.unwrap();
        });
        while work.queue.lock().all == before {
            tokio::task::yield_now().await;
        }
        caller
    }

    #[tokio::test]
    async fn a_place_goes_with_the_job_and_not_with_its_caller() {
        let (work, tenant, ran) = (work(1, 9, 9), TenantId::random(), Arc::default());
        let (caller, end) = blocker(&work, tenant).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        let next = waiting(&work, tenant, &ran).await;
        assert_eq!((work.places.available_permits(), work.queue.lock().all), (0, 2));
        end.send(()).unwrap();
        next.await.unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_never_starts() {
        let (work, tenant, ran) = (work(1, 9, 9), TenantId::random(), Arc::default());
        let (_caller, end) = blocker(&work, tenant).await;
        for _ in 0..5 {
            let gone = waiting(&work, tenant, &ran).await;
            gone.abort();
            assert!(gone.await.unwrap_err().is_cancelled());
        }
        assert_eq!(work.queue.lock().all, 1, "they left the queue");
        let last = waiting(&work, tenant, &ran).await;
        end.send(()).unwrap();
        last.await.unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_no_tenant_fills_it() {
        let (work, ran) = (work(1, 3, 2), Arc::default());
        let (greedy, other, third) = (TenantId::random(), TenantId::random(), TenantId::random());
        let (_caller, end) = blocker(&work, greedy).await;
        let waits = waiting(&work, greedy, &ran).await;
        assert_eq!(work.run(greedy, || ()).await.unwrap_err().kind, ErrorKind::RateLimited);
        let others = waiting(&work, other, &ran).await;
        assert_eq!(work.run(third, || ()).await.unwrap_err().kind, ErrorKind::RateLimited);
        end.send(()).unwrap();
        waits.await.unwrap();
        others.await.unwrap();
        let empty = async {
            while work.queue.lock().all > 0 || !work.queue.lock().of_tenant.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), empty).await.unwrap();
        work.run(greedy, || ()).await.unwrap();
    }
}
