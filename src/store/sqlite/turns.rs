//! Turns at the database's connections: a revocation's first, and each tenant's in rotation.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use claviger_provider::TenantId;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::store::StoreError;
use crate::store::transaction::Priority;

/// How long a call waits for its turn.
const PATIENCE: Duration = Duration::from_secs(8);
/// The most calls of one tenant that wait, of each priority.
const WAITING: usize = 256;
/// The most calls that wait where all tenants' count as one's: what looks up credentials, of which the
/// admission of requests lets fewer in. As many may come at once, when a suspend has made them unknown.
const WAITING_TOGETHER: usize = 4096;

/// As many turns at a time as there are connections.
pub(super) struct Turns(Mutex<State>);

struct State {
    free: usize,
    /// The most calls of one tenant that wait, of each priority.
    waiting: usize,
    revocations: Queue,
    others: Queue,
}

/// Calls that wait, by tenant: the first of each, then the second of each.
#[derive(Default)]
struct Queue {
    tenants: HashMap<TenantId, VecDeque<oneshot::Sender<Turn>>>,
    /// The tenants that have a call waiting, each once.
    next: VecDeque<TenantId>,
}

/// A turn; it ends when this is dropped.
pub(super) struct Turn(Option<Arc<Turns>>);

impl Turns {
    pub(super) fn new(connections: usize) -> Arc<Self> {
        Self::with(connections, WAITING)
    }

    /// For calls whose tenants are not known, which all count as one's.
    pub(super) fn together(connections: usize) -> Arc<Self> {
        Self::with(connections, WAITING_TOGETHER)
    }

    fn with(connections: usize, waiting: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: connections,
            waiting,
            revocations: Queue::default(),
            others: Queue::default(),
        })))
    }

    /// Waits for a turn of this tenant, [`PATIENCE`] at most.
    ///
    /// # Errors
    /// [`StoreError::Busy`].
    pub(super) async fn take(self: &Arc<Self>, tenant: TenantId, priority: Priority) -> Result<Turn, StoreError> {
        let waiting = {
            let mut state = self.0.lock();
            // While a turn is free, nobody waits.
            if state.free > 0 {
                state.free -= 1;
                return Ok(Turn(Some(Arc::clone(self))));
            }
            let most = state.waiting;
            state.queue(priority).push(tenant, most)?
        };
        match timeout(PATIENCE, waiting).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(StoreError::Busy),
        }
    }

    /// Gives a turn that ended to the next call.
    fn pass_on(self: Arc<Self>) {
        let mut turn = Turn(Some(Arc::clone(&self)));
        loop {
            let next = {
                let mut state = self.0.lock();
                let next = state.revocations.pop().or_else(|| state.others.pop());
                if next.is_none() {
                    state.free += 1;
                    turn.0 = None;
                    return;
                }
                next
            };
            match next.map(|next| next.send(turn)) {
                // The call has given up meanwhile.
                Some(Err(back)) => turn = back,
                Some(Ok(())) | None => return,
            }
        }
    }
}

impl State {
    const fn queue(&mut self, priority: Priority) -> &mut Queue {
        match priority {
            Priority::Revocation => &mut self.revocations,
            Priority::Ordinary => &mut self.others,
        }
    }
}

impl Queue {
    fn push(&mut self, tenant: TenantId, most: usize) -> Result<oneshot::Receiver<Turn>, StoreError> {
        let waiting = self.tenants.entry(tenant).or_default();
        if waiting.len() >= most {
            waiting.retain(|call| !call.is_closed());
        }
        if waiting.len() >= most {
            return Err(StoreError::Busy);
        }
        // A tenant whose calls have all given up is in the rotation still.
        if waiting.is_empty() && !self.next.contains(&tenant) {
            self.next.push_back(tenant);
        }
        let (call, receiver) = oneshot::channel();
        waiting.push_back(call);
        Ok(receiver)
    }

    /// The next call, which may have given up.
    fn pop(&mut self) -> Option<oneshot::Sender<Turn>> {
        loop {
            let tenant = self.next.pop_front()?;
            let Some(waiting) = self.tenants.get_mut(&tenant) else { continue };
            let call = waiting.pop_front();
            if waiting.is_empty() {
                self.tenants.remove(&tenant);
            } else {
                self.next.push_back(tenant);
            }
            if call.is_some() {
                return call;
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use std::pin::pin;

    use futures::{FutureExt, poll};

    use super::*;

    /// Calls that wait, in the order in which they get their turns.
    async fn order(turns: &Arc<Turns>, calls: &[(TenantId, Priority)]) -> Vec<usize> {
        let held = turns.take(TenantId::random(), Priority::Ordinary).await.unwrap();
        let mut waiting: Vec<_> = calls
            .iter()
            .map(|(tenant, priority)| Box::pin(turns.take(*tenant, *priority)))
            .collect();
        for call in &mut waiting {
            assert!(poll!(call.as_mut()).is_pending());
        }
        drop(held);
        let mut order = Vec::new();
        while order.len() < calls.len() {
            let at = (0..calls.len()).find(|at| !order.contains(at) && waiting[*at].as_mut().now_or_never().is_some());
            order.push(at.unwrap());
        }
        order
    }

    #[tokio::test]
    async fn revocations_are_first_and_tenants_alternate() {
        use Priority::{Ordinary, Revocation};
        let (many, few) = (TenantId::random(), TenantId::random());
        let calls = [
            (many, Ordinary),
            (many, Ordinary),
            (many, Ordinary),
            (few, Ordinary),
            (many, Revocation),
            (many, Revocation),
            (few, Revocation),
        ];
        let turns = Turns::new(1);
        assert_eq!(order(&turns, &calls).await, [4, 6, 5, 0, 3, 1, 2]);
        // All turns are back.
        assert_eq!(order(&turns, &calls[..2]).await, [0, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gives_up_in_the_end_and_leaves_its_turn_to_others() {
        let turns = Turns::new(1);
        let tenant = TenantId::random();
        let held = turns.take(tenant, Priority::Ordinary).await.unwrap();
        assert!(matches!(turns.take(tenant, Priority::Ordinary).await, Err(StoreError::Busy)));
        let mut next = pin!(turns.take(tenant, Priority::Ordinary));
        assert!(poll!(next.as_mut()).is_pending());
        drop(held);
        drop(next.await.unwrap());
        assert!(turns.take(tenant, Priority::Ordinary).now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_tenant_that_floods_is_refused_and_no_other() {
        let turns = Turns::new(1);
        let (many, few) = (TenantId::random(), TenantId::random());
        let held = turns.take(many, Priority::Ordinary).await.unwrap();
        let mut flood: Vec<_> = (0..WAITING).map(|_| Box::pin(turns.take(many, Priority::Ordinary))).collect();
        for call in &mut flood {
            assert!(poll!(call.as_mut()).is_pending());
        }
        assert!(turns.take(many, Priority::Ordinary).now_or_never().unwrap().is_err());
        let mut other = pin!(turns.take(few, Priority::Ordinary));
        let mut urgent = pin!(turns.take(many, Priority::Revocation));
        assert!(poll!(other.as_mut()).is_pending());
        assert!(poll!(urgent.as_mut()).is_pending());
        // Those that have left hold no place.
        flood.truncate(1);
        assert!(turns.take(many, Priority::Ordinary).now_or_never().is_none());
        drop(held);
        drop(urgent.await.unwrap());
        drop(flood);
        drop(other.await.unwrap());
    }
}
