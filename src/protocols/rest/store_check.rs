//! Whether the store answers, for `/readyz`: one question at a time, however many ask, and a report
//! in time even while the store is slow.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::Broker;

/// How long a result is reported without asking again.
const FRESH: Duration = Duration::from_millis(100);
/// How long a report waits for the store.
const PATIENCE: Duration = Duration::from_millis(50);
/// A store that has not answered for so long is failing, not slow.
const LONGEST: Duration = Duration::from_secs(5);

/// What is known of the store.
pub(super) struct StoreCheck {
    asked: Mutex<Asked>,
    answered: watch::Sender<Answered>,
}

#[derive(Default)]
struct Asked {
    /// When the question was asked that has no answer yet.
    pending: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Answered {
    at: Option<Instant>,
    ok: bool,
}

impl Default for StoreCheck {
    fn default() -> Self {
        Self {
            asked: Mutex::default(),
            // The store has just been opened.
            answered: watch::Sender::new(Answered { at: None, ok: true }),
        }
    }
}

impl StoreCheck {
    /// Whether the store answers. While it is slow, what it answered last.
    pub(super) async fn answers(self: &Arc<Self>, broker: &Arc<Broker>) -> bool {
        let mut answered = self.answered.subscribe();
        let last = *answered.borrow_and_update();
        if last.at.is_some_and(|at| at.elapsed() < FRESH) {
            return last.ok;
        }
        let asked = self.ask(broker);
        let next = tokio::time::timeout(PATIENCE, answered.changed()).await;
        if next.is_ok() {
            return answered.borrow().ok;
        }
        last.ok && asked.elapsed() < LONGEST
    }

    /// Asks the store, unless somebody waits for its answer. Returns when the question was asked.
    fn ask(self: &Arc<Self>, broker: &Arc<Broker>) -> Instant {
        let mut asked = self.asked.lock();
        if let Some(at) = asked.pending {
            return at;
        }
        let now = Instant::now();
        asked.pending = Some(now);
        let (check, broker) = (Arc::clone(self), Arc::clone(broker));
        tokio::spawn(async move {
            let ok = broker.store_answers().await;
            check.asked.lock().pending = None;
            let at = Some(Instant::now());
            check.answered.send_replace(Answered { at, ok });
        });
        now
    }
}
