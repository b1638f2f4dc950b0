//! How a fake is told to misbehave, and what it remembers.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// One way to misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The credential lacks the right.
    Denied,
    /// Throttled, with or without a time to wait.
    Throttled {
        /// The `Retry-After`, in milliseconds.
        #[serde(default)]
        retry_after_ms: Option<u64>,
    },
    /// Answers that it cannot now. Nothing was done.
    Unavailable,
    /// Takes the call and never answers. Nothing was done.
    Hang,
    /// Does what was asked, and the connection breaks before the answer.
    Reset,
    /// Unwraps to other bytes; other operations answer as usual.
    WrongBytes,
    /// Generates and unwraps keys that are a byte too short; other operations answer as usual.
    WrongLength,
    /// An answer that the adapter cannot read.
    Garbage,
    /// Waits at the gate until [`Faults::open_gate`], then answers as usual.
    Slow,
    /// Behaves as if the key did not exist.
    KeyMissing,
    /// Behaves as if the key were disabled.
    KeyDisabled,
    /// Does what was asked, and panics with the result in hand.
    Panic,
    /// A rotation that the service carries out behind its answer, which describes the key as
    /// it was; other operations answer as usual.
    Later,
}

/// A fault and where it strikes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The operation's name (`wrap_key`, ...); none: every operation.
    #[serde(default)]
    pub op: Option<String>,
    /// How it misbehaves.
    pub fault: Fault,
    /// How many calls it strikes before it is over; none: until cleared.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// The calls that arrived at a fake, whatever became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// How many of each operation.
    pub calls: BTreeMap<String, u64>,
    /// How many of them a fault struck.
    pub struck: u64,
    /// How many wait at the gate now.
    pub at_gate: u64,
    /// The most that were under way at once.
    pub most_at_once: u64,
}

impl Journal {
    /// All calls together.
    pub fn total(&self) -> u64 {
        self.calls.values().sum()
    }

    /// The calls of one operation.
    pub fn of(&self, op: &str) -> u64 {
        self.calls.get(op).copied().unwrap_or(0)
    }
}

/// The handle to a fake's behaviour, shared by the test and the fake.
#[derive(Default)]
pub struct Faults {
    plans: Mutex<Vec<Plan>>,
    journal: watch::Sender<Journal>,
    under_way: Mutex<u64>,
    /// Rises each time the gate lets everybody through.
    gate: watch::Sender<u64>,
}

impl Faults {
    /// Plans a fault. The earliest plan that fits a call strikes.
    pub fn plan(&self, plan: Plan) {
        self.plans.lock().push(plan);
    }

    /// Plans a fault for every call until [`Faults::clear`].
    pub fn always(&self, fault: Fault) {
        self.plan(Plan {
            op: None,
            fault,
            times: None,
        });
    }

    /// Plans a fault for the next `times` calls of any operation, which then succeed.
    pub fn next(&self, fault: Fault, times: NonZeroU32) {
        self.plan(Plan {
            op: None,
            fault,
            times: Some(times),
        });
    }

    /// Forgets all plans and opens the gate. Calls that hang go on hanging.
    pub fn clear(&self) {
        self.plans.lock().clear();
        self.open_gate();
    }

    /// Lets through everybody who waits at the gate now. Later ones wait again while
    /// [`Fault::Slow`] is planned.
    pub fn open_gate(&self) {
        self.gate.send_modify(|opened| *opened += 1);
    }

    /// What arrived so far.
    pub fn journal(&self) -> Journal {
        self.journal.borrow().clone()
    }

    /// Starts a new journal; what waits at the gate stays counted.
    pub fn reset_journal(&self) {
        self.journal.send_modify(|journal| {
            *journal = Journal {
                at_gate: journal.at_gate,
                ..Journal::default()
            };
        });
    }

    /// Waits until the journal is as wished, for instance until somebody is at the gate;
    /// gives `None` when it is not within `patience`.
    pub async fn wait_for(&self, wished: impl Fn(&Journal) -> bool, patience: Duration) -> Option<Journal> {
        let mut journal = self.journal.subscribe();
        let seen = tokio::time::timeout(patience, journal.wait_for(|journal| wished(journal))).await;
        seen.ok()?.ok().map(|journal| journal.clone())
    }

    /// Writes a call down and finds its fault.
    pub(crate) fn arrive(&self, op: &str) -> Option<Fault> {
        let fault = self.draw(op);
        let under_way = {
            let mut under_way = self.under_way.lock();
            *under_way += 1;
            *under_way
        };
        self.journal.send_modify(|journal| {
            *journal.calls.entry(op.to_owned()).or_default() += 1;
            journal.struck += u64::from(fault.is_some());
            journal.most_at_once = journal.most_at_once.max(under_way);
        });
        fault
    }

    pub(crate) fn leave(&self) {
        *self.under_way.lock() -= 1;
    }

    fn draw(&self, op: &str) -> Option<Fault> {
        let mut plans = self.plans.lock();
        let at = plans
            .iter()
            .position(|plan| plan.op.as_deref().is_none_or(|planned| planned == op))?;
        let plan = plans.get_mut(at)?;
        let fault = plan.fault;
        if let Some(times) = plan.times {
            match NonZeroU32::new(times.get() - 1) {
                left @ Some(_) => plan.times = left,
                None => drop(plans.remove(at)),
            }
        }
        Some(fault)
    }

    pub(crate) async fn wait_at_gate(&self) {
        struct Waiting<'a>(&'a watch::Sender<Journal>);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|journal| journal.at_gate -= 1);
            }
        }

        // Subscribed before it is counted, so that who saw the count and opens the gate
        // cannot be missed.
        let mut gate = self.gate.subscribe();
        self.journal.send_modify(|journal| journal.at_gate += 1);
        let _waiting = Waiting(&self.journal);
        // The sender lives as long as `self`, so this ends by the gate only.
        let _opened = gate.changed().await;
    }
}
