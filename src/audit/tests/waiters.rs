//! The waiters of a commit: the log's thread wakes one, and that one the others.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::{Condvar, Mutex};

use super::*;

const WAITERS: usize = 256;

/// Who was woken, and how many by the log's thread.
#[derive(Default)]
struct Woken {
    waiters: Mutex<Vec<usize>>,
    changed: Condvar,
    by_log: AtomicUsize,
}

struct One {
    woken: Arc<Woken>,
    number: usize,
}

impl Wake for One {
    fn wake(self: Arc<Self>) {
        let by_log = std::thread::current().name() == Some("audit-log");
        self.woken.by_log.fetch_add(usize::from(by_log), Ordering::AcqRel);
        self.woken.waiters.lock().push(self.number);
        self.woken.changed.notify_all();
    }
}

type Append<'a> = Pin<Box<dyn Future<Output = Result<Receipt, Unavailable>> + 'a>>;

/// Many appends of one commit, which was synced, while the next commit is being synced.
struct Waiting<'a> {
    woken: Arc<Woken>,
    appends: Vec<Option<Append<'a>>>,
}

impl<'a> Waiting<'a> {
    fn poll(&mut self, number: usize) -> Poll<Result<Receipt, Unavailable>> {
        let woken = self.woken.clone();
        let waker = Waker::from(Arc::new(One { woken, number }));
        let append = self.appends[number].as_mut().unwrap();
        append.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// The appends, and one that was begun after them.
    fn of(log: &'a Log, disk: &TestDisk) -> (Self, Append<'a>) {
        disk.set(|disk| disk.gate_closed = true);
        let mut first: Append<'a> = Box::pin(unwrap_once(log, tenant(1)));
        assert!(futures::poll_once(&mut first).is_pending());
        disk.wait_at_gate();
        let appends = (0..WAITERS)
            .map(|_| Some(Box::pin(unwrap_once(log, tenant(1))) as Append<'a>))
            .collect();
        let mut all = Self {
            woken: Arc::default(),
            appends,
        };
        for number in 0..WAITERS {
            assert!(all.poll(number).is_pending());
        }
        disk.pass();
        let mut last: Append<'a> = Box::pin(unwrap_once(log, tenant(1)));
        assert!(futures::poll_once(&mut last).is_pending());
        disk.pass();
        (all, last)
    }

    fn woken(&self) -> Vec<usize> {
        self.woken.waiters.lock().clone()
    }

    fn until_all_woken(&self) {
        let mut waiters = self.woken.waiters.lock();
        while waiters.len() < WAITERS {
            let waited = self.woken.changed.wait_for(&mut waiters, Duration::from_secs(30));
            assert!(!waited.timed_out(), "{} of {WAITERS} were woken", waiters.len());
        }
    }
}

/// Polls once, without a waker.
mod futures {
    use super::*;

    pub(super) fn poll_once<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> Poll<T> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}

#[tokio::test]
async fn of_256_waiters_the_log_wakes_one_and_that_one_the_others() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let (mut all, last) = Waiting::of(&log, &bench.disk);
    let [one] = all.woken()[..] else {
        panic!("{} waiters were woken by the log", all.woken().len())
    };
    assert!(matches!(all.poll(one), Poll::Ready(Ok(_))));
    let mut woken = all.woken();
    woken.sort_unstable();
    assert_eq!(woken, (0..WAITERS).collect::<Vec<_>>(), "each is woken, and once");
    assert_eq!(all.woken.by_log.load(Ordering::Acquire), 1);
    for number in (0..WAITERS).filter(|number| *number != one) {
        let Poll::Ready(Ok(receipt)) = all.poll(number) else {
            panic!("waiter {number} has no receipt")
        };
        assert_eq!(receipt.sequence, 1 + number as u64);
    }
    bench.disk.set(|disk| disk.gate_closed = false);
    last.await.unwrap();
}

#[tokio::test]
async fn a_waiter_that_is_dropped_when_it_is_woken_wakes_the_others() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let (mut all, last) = Waiting::of(&log, &bench.disk);
    let one = all.woken()[0];
    all.appends[one] = None;
    assert_eq!(all.woken().len(), WAITERS);
    bench.disk.set(|disk| disk.gate_closed = false);
    last.await.unwrap();
}

#[tokio::test]
async fn a_waiter_that_does_nothing_when_it_is_woken_does_not_keep_the_others() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    let (all, last) = Waiting::of(&log, &bench.disk);
    assert_eq!(all.woken().len(), 1);
    bench.disk.set(|disk| disk.gate_closed = false);
    last.await.unwrap();
    all.until_all_woken();
}

#[tokio::test]
async fn a_waiter_that_is_cancelled_before_leaves_no_trace() {
    let bench = Bench::new();
    let Recovered { log, .. } = bench.open();
    bench.disk.set(|disk| disk.gate_closed = true);
    let mut appends: Vec<_> = (0..3).map(|_| Box::pin(unwrap_once(&log, tenant(1))) as Append<'_>).collect();
    assert!(futures::poll_once(&mut appends[0]).is_pending());
    bench.disk.wait_at_gate();
    assert!(appends[1..].iter_mut().all(|append| futures::poll_once(append).is_pending()));
    drop(appends.remove(1));
    bench.disk.set(|disk| disk.gate_closed = false);
    for (append, sequence) in appends.into_iter().zip([0, 2]) {
        assert_eq!(append.await.unwrap().sequence, sequence, "its record is written all the same");
    }
}
