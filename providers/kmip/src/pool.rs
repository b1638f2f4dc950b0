//! The open connections of one provider: a bounded number, each used by one call at a time.
//!
//! A call takes a connection out, and gives it back only after a complete response. A call that ends otherwise, such
//! as by its deadline, drops the connection, and so closes it: the response that may still arrive meets nobody. Idle
//! connections and those of calls are never more than there are places.

use std::sync::{Arc, Weak};
use std::time::Duration;

use claviger_provider::egress::pool::{Attempt, Connections, POOL_IDLE, PoolHealth};
use claviger_provider::{ProviderKind, SeverSwitch};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(5);

/// The connections of one provider.
pub(crate) struct Pool<C> {
    places: Semaphore,
    /// The places among them for calls that change something.
    changes: Semaphore,
    idle: Arc<Mutex<Idle<C>>>,
    health: Arc<PoolHealth>,
    switch: SeverSwitch,
}

struct Idle<C> {
    /// The most recently used one last.
    connections: Vec<Resting<C>>,
    /// Whether a task looks at them.
    swept: bool,
}

struct Resting<C> {
    connection: C,
    generation: u64,
    since: Instant,
}

/// A call's place among those that may have a connection.
pub(crate) struct Place<'a, C> {
    pool: &'a Pool<C>,
    attempt: Attempt,
    _permit: SemaphorePermit<'a>,
    _change: Option<SemaphorePermit<'a>>,
}

impl<C: Send + 'static> Pool<C> {
    /// With at most this many connections at once, for calls that have this time.
    pub(crate) fn new(size: usize, timeout: Duration, switch: SeverSwitch) -> Self {
        let idle = Idle {
            connections: Vec::new(),
            swept: false,
        };
        Self {
            places: Semaphore::new(size),
            // They have no budget: a server whose creations hang leaves places for data keys.
            changes: Semaphore::new((size / 4).max(1)),
            idle: Arc::new(Mutex::new(idle)),
            health: PoolHealth::new(ProviderKind::Kmip, timeout),
            switch,
        }
    }

    /// Waits for a place, of those for changes if the call `changes` something. Callers are served in the order in which
    /// they came; a caller that goes away loses its turn.
    pub(crate) async fn place(&self, changes: bool) -> Option<Place<'_, C>> {
        // The semaphores are never closed.
        let change = match changes {
            true => Some(self.changes.acquire().await.ok()?),
            false => None,
        };
        let permit = self.places.acquire().await.ok()?;
        Some(Place {
            pool: self,
            attempt: self.health.attempt(&self.switch),
            _permit: permit,
            _change: change,
        })
    }
}

impl<C: Send + 'static> Place<'_, C> {
    /// Takes an idle connection, if there is one that is to be used.
    pub(crate) fn take(&self) -> Option<C> {
        let Connections::Pooled(generation) = self.attempt.connections() else {
            return None;
        };
        let mut idle = self.pool.idle.lock();
        // Those of an earlier generation were given up.
        idle.connections
            .retain(|resting| resting.generation == generation && resting.since.elapsed() < POOL_IDLE);
        idle.connections.pop().map(|resting| resting.connection)
    }

    /// Closes idle connections, the least recently used first, until the call can open one.
    pub(crate) fn make_room(&self) {
        let mut idle = self.pool.idle.lock();
        // Each of the other places taken may have a connection.
        let surplus = idle.connections.len().saturating_sub(self.pool.places.available_permits());
        idle.connections.drain(..surplus);
    }

    /// Ends the call with a response: the connection serves others.
    pub(crate) fn give_back(self, connection: C) {
        if let Connections::Pooled(generation) = self.attempt.connections() {
            let mut idle = self.pool.idle.lock();
            let since = Instant::now();
            idle.connections.push(Resting {
                connection,
                generation,
                since,
            });
            if !idle.swept {
                idle.swept = true;
                tokio::spawn(sweep(Arc::downgrade(&self.pool.idle)));
            }
        }
        self.attempt.end();
    }

    /// Ends the call without a connection that others can use.
    pub(crate) fn end(self) {
        self.attempt.end();
    }

    /// Ends the call that was not made.
    pub(crate) fn withdraw(self) {
        self.attempt.withdraw();
    }

    /// Ends the call whose response did not arrive in time.
    pub(crate) fn time_out(self) {
        self.attempt.time_out();
    }
}

/// Closes connections that were idle for [`POOL_IDLE`]: their buffers may hold data keys. Ends when there are none,
/// or no pool any more.
async fn sweep<C>(pool: Weak<Mutex<Idle<C>>>) {
    loop {
        sleep(SWEEP).await;
        let Some(idle) = pool.upgrade() else { return };
        let mut idle = idle.lock();
        idle.connections.retain(|resting| resting.since.elapsed() < POOL_IDLE);
        if idle.connections.is_empty() {
            idle.swept = false;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use std::sync::Arc;
    use std::time::Duration;

    use claviger_provider::SeverSwitch;
    use claviger_provider::egress::pool::POOL_IDLE;
    use tokio::time::{advance, timeout};

    use super::Pool;

    const TIME: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_used_by_one_call_at_a_time() {
        let pool = Pool::new(2, TIME, SeverSwitch::default());
        let (first, second) = (pool.place(false).await.unwrap(), pool.place(false).await.unwrap());
        assert!(first.take().is_none() && second.take().is_none());
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, pool.place(false)).await.is_err(), "there are two places");
        first.give_back(1);
        let third = pool.place(false).await.unwrap();
        assert_eq!((third.take(), third.take()), (Some(1), None));
        second.end();
        // A call that is dropped takes its connection with it.
        drop(third);
        assert_eq!(pool.place(false).await.unwrap().take(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_have_a_quarter_of_the_places() {
        let pool = Pool::<u8>::new(8, TIME, SeverSwitch::default());
        let first = pool.place(true).await.unwrap();
        let _second = pool.place(true).await.unwrap();
        let moment = Duration::from_millis(1);
        assert!(timeout(moment, pool.place(true)).await.is_err());
        let _others = [pool.place(false).await.unwrap(), pool.place(false).await.unwrap()];
        first.end();
        assert!(timeout(moment, pool.place(true)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_takes_the_place_of_the_longest_idle_one() {
        let (pool, old, new) = (Pool::new(3, TIME, SeverSwitch::default()), Arc::new(()), Arc::new(()));
        let (first, second) = (pool.place(false).await.unwrap(), pool.place(false).await.unwrap());
        first.give_back(Arc::clone(&old));
        second.give_back(Arc::clone(&new));
        let open = || (Arc::strong_count(&old) - 1, Arc::strong_count(&new) - 1);
        let third = pool.place(false).await.unwrap();
        third.make_room();
        assert_eq!(open(), (1, 1));
        let fourth = pool.place(false).await.unwrap();
        fourth.make_room();
        assert_eq!(open(), (0, 1));
        assert!(fourth.take().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_without_a_call() {
        let (pool, connection) = (Pool::new(1, TIME, SeverSwitch::default()), Arc::new(()));
        pool.place(false).await.unwrap().give_back(Arc::clone(&connection));
        advance(POOL_IDLE - Duration::from_secs(6)).await;
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&connection), 2);
        tokio::time::sleep(Duration::from_secs(12)).await;
        assert_eq!(Arc::strong_count(&connection), 1);
        // And those of a pool that is gone, at once.
        pool.place(false).await.unwrap().give_back(Arc::clone(&connection));
        drop(pool);
        assert_eq!(Arc::strong_count(&connection), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_timeout_the_open_connections_are_given_up() {
        let pool = Pool::new(3, TIME, SeverSwitch::default());
        let (first, second) = (pool.place(false).await.unwrap(), pool.place(false).await.unwrap());
        first.give_back(1);
        second.time_out();
        assert_eq!(pool.place(false).await.unwrap().take(), None);
    }
}
