//! Turns of revocations: each tenant has one under way at a time, at a bounded rate, so that no flood
//! of one tenant's keeps the store from another's.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use claviger_provider::TenantId;
use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{sleep_until, timeout, timeout_at};

/// Revocations of the operator that are under way at once. They take turns among themselves only.
const OPERATOR: usize = 4;
/// Time between two revocations of a tenant, once it has made [`BURST`] of them.
const PACE: Duration = Duration::from_millis(10);
/// Revocations that a tenant may make at once, one after the other.
const BURST: u32 = 200;
/// How long a revocation has its turn. One that takes longer waits for a provider, and has taken effect here,
/// or for a slow disk. As many as have places are over within a deadline.
const TURN: Duration = Duration::from_millis(100);
/// Lanes that are remembered before the idle ones are forgotten.
const REMEMBERED: usize = 1024;

/// The lanes of all tenants.
#[derive(Default)]
pub(super) struct Lanes(DashMap<TenantId, Arc<Lane>>);

impl Lanes {
    /// A tenant's lane; with [`TenantId::INSTALLATION`] the operator's.
    pub(super) fn of(&self, tenant: TenantId) -> Arc<Lane> {
        if self.0.len() > REMEMBERED {
            self.0.retain(|_, lane| Arc::strong_count(lane) > 1 || lane.paced());
        }
        let turns = if tenant == TenantId::INSTALLATION { OPERATOR } else { 1 };
        Arc::clone(&self.0.entry(tenant).or_insert_with(|| Arc::new(Lane::new(turns))))
    }
}

/// Where the revocations of one tenant take turns, in the order in which they came.
pub struct Lane {
    turns: Semaphore,
    /// The time at which a tenant that kept to the pace would have made as many as it has made.
    due: Mutex<Instant>,
}

impl Lane {
    fn new(turns: usize) -> Self {
        Self {
            turns: Semaphore::new(turns),
            due: Mutex::new(Instant::now()),
        }
    }

    /// Runs a revocation when it is its turn; `None` if that is not before the deadline.
    pub(super) async fn run<T>(&self, deadline: Instant, revocation: impl Future<Output = T>) -> Option<T> {
        let turn = timeout_at(deadline.into(), self.turns.acquire()).await.ok()?.ok()?;
        let begin = self.next();
        if begin > deadline {
            return None;
        }
        sleep_until(begin.into()).await;
        let mut revocation = pin!(revocation);
        match timeout(TURN, revocation.as_mut()).await {
            Ok(done) => Some(done),
            Err(_) => {
                drop(turn);
                Some(revocation.await)
            }
        }
    }

    /// When the next one may begin.
    fn next(&self) -> Instant {
        let now = Instant::now();
        let mut due = self.due.lock();
        *due = (*due).max(now) + PACE;
        let ahead = PACE * BURST;
        due.checked_sub(ahead).map_or(now, |begin| begin.max(now))
    }

    /// Whether its pace still has an effect.
    fn paced(&self) -> bool {
        *self.due.lock() > Instant::now()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::future::pending;

    use claviger_provider::TenantId;
    use futures::poll;
    use tokio::sync::oneshot;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_tenants_revocations_take_turns_and_no_other_tenants_waits() {
        let lanes = Lanes::default();
        let (one, other) = (TenantId::random(), TenantId::random());
        let (go, gone) = oneshot::channel::<()>();
        let lane = lanes.of(one);
        let mut first = pin!(lane.run(soon(), gone));
        assert!(poll!(first.as_mut()).is_pending());
        let again = lanes.of(one);
        let mut second = pin!(again.run(soon(), async {}));
        assert!(poll!(second.as_mut()).is_pending());
        assert_eq!(lanes.of(other).run(soon(), async { 1 }).await, Some(1));
        go.send(()).unwrap();
        first.await.unwrap().unwrap();
        second.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_for_a_provider_gives_its_turn_away() {
        let lane = Lane::new(1);
        let slow = lane.run(soon(), pending::<()>());
        let next = lane.run(soon(), async { 2 });
        let next = tokio::select! { biased; _ = slow => None, next = next => next };
        assert_eq!(next, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_for_a_provider_keep_no_other_past_its_deadline() {
        let lane = Lane::new(1);
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut slow: Vec<_> = (0..63).map(|_| Box::pin(lane.run(soon(), pending::<()>()))).collect();
        for slow in &mut slow {
            assert!(poll!(slow.as_mut()).is_pending());
        }
        let next = lane.run(deadline, async { 2 });
        let next = tokio::select! { biased; _ = futures::future::join_all(slow) => None, next = next => next };
        assert_eq!(next, Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn none_begins_after_its_deadline() {
        let lane = Lane::new(1);
        let slow = lane.run(soon(), pending::<()>());
        let late = lane.run(Instant::now() + Duration::from_millis(1), async {});
        let late = tokio::select! { biased; _ = slow => Some(()), late = late => late };
        assert_eq!(late, None);
    }

    #[test]
    fn after_a_burst_they_keep_a_pace() {
        let lane = Lane::new(1);
        let begun = Instant::now();
        for _ in 0..BURST {
            assert!(lane.next() <= Instant::now());
        }
        for _ in 0..100 {
            lane.next();
        }
        assert!(lane.next() >= begun + 99 * PACE);
        assert!(lane.paced());
    }
}
