//! Fault injection, and the journal of calls.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A way in which the fake misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// The credential lacks the permission.
    Denied,
    /// The call is throttled.
    Throttled {
        /// `Retry-After` in milliseconds; none if absent.
        #[serde(default)]
        retry_after_ms: Option<u64>,
    },
    /// Responds that the service is unavailable. The call has no effect.
    Unavailable,
    /// Accepts no connection.
    Unreachable,
    /// Never responds. The call has no effect.
    Hang,
    /// Performs the call, then breaks the connection before the response.
    Reset,
    /// Unwraps to other bytes; other operations work as usual.
    WrongBytes,
    /// Generates and unwraps keys that are one byte too short; other operations work as usual.
    WrongLength,
    /// Responds with something that the provider cannot parse.
    Garbage,
    /// Waits at the gate until [`Faults::open_gate`], then works as usual.
    Slow,
    /// Behaves as if the key did not exist.
    KeyMissing,
    /// Behaves as if the key were disabled.
    KeyDisabled,
    /// Performs the call, then panics.
    Panic,
    /// Rotates asynchronously: the response describes the key as it was before. Other operations
    /// work as usual.
    Later,
    /// Responds that a key was enabled or disabled, and changes nothing. Other operations work as usual.
    OnlySaysSo,
}

/// A fault and the calls it applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The operation's name, such as `wrap_key`; every operation if absent.
    #[serde(default)]
    pub op: Option<String>,
    /// The fault.
    pub fault: Fault,
    /// For how many calls it applies; until cleared if absent.
    #[serde(default)]
    pub times: Option<NonZeroU32>,
}

/// The calls that a fake received, whatever their outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The number of calls by operation.
    pub calls: BTreeMap<String, u64>,
    /// The number of calls that got a fault.
    pub struck: u64,
    /// The number of calls that wait at the gate now.
    pub at_gate: u64,
    /// The highest number of concurrent calls.
    pub most_at_once: u64,
    /// The request id of the last call that arrived.
    #[serde(default)]
    pub last_request_id: String,
}

impl Journal {
    /// The number of all calls.
    pub fn total(&self) -> u64 {
        self.calls.values().sum()
    }

    /// The number of calls of one operation.
    pub fn of(&self, op: &str) -> u64 {
        self.calls.get(op).copied().unwrap_or(0)
    }
}

/// The faults and the journal of a fake, shared with the test.
#[derive(Default)]
pub struct Faults {
    plans: Mutex<Vec<Plan>>,
    journal: watch::Sender<Journal>,
    under_way: Mutex<u64>,
    /// The number of calls so far, for their request ids.
    requests: AtomicU64,
    /// Incremented each time the gate opens.
    gate: watch::Sender<u64>,
}

impl Faults {
    /// Plans a fault. The earliest plan that matches a call applies.
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

    /// Plans a fault for the next `times` calls of any operation.
    pub fn next(&self, fault: Fault, times: NonZeroU32) {
        self.plan(Plan {
            op: None,
            fault,
            times: Some(times),
        });
    }

    /// Removes all plans and opens the gate. Hanging calls stay hanging.
    pub fn clear(&self) {
        self.plans.lock().clear();
        self.open_gate();
    }

    /// Releases the calls that wait at the gate now. Later calls wait again while
    /// [`Fault::Slow`] is planned.
    pub fn open_gate(&self) {
        self.gate.send_modify(|opened| *opened += 1);
    }

    /// The calls so far.
    pub fn journal(&self) -> Journal {
        self.journal.borrow().clone()
    }

    /// Clears the journal, except for the count of waiting calls.
    pub fn reset_journal(&self) {
        self.journal.send_modify(|journal| {
            *journal = Journal {
                at_gate: journal.at_gate,
                ..Journal::default()
            };
        });
    }

    /// Waits until the journal satisfies a condition, such as a call waiting at the gate.
    /// `None` when that takes longer than `patience`.
    pub async fn wait_for(&self, wished: impl Fn(&Journal) -> bool, patience: Duration) -> Option<Journal> {
        let mut journal = self.journal.subscribe();
        let seen = tokio::time::timeout(patience, journal.wait_for(|journal| wished(journal))).await;
        seen.ok()?.ok().map(|journal| journal.clone())
    }

    /// Records a call, and returns its fault and its request id.
    pub(crate) fn arrive(&self, op: &str) -> (Option<Fault>, String) {
        let fault = self.draw(op);
        let request_id = format!("fake-{}", self.requests.fetch_add(1, Ordering::Relaxed));
        let under_way = {
            let mut under_way = self.under_way.lock();
            *under_way += 1;
            *under_way
        };
        self.journal.send_modify(|journal| {
            *journal.calls.entry(op.to_owned()).or_default() += 1;
            journal.struck += u64::from(fault.is_some());
            journal.most_at_once = journal.most_at_once.max(under_way);
            journal.last_request_id.clone_from(&request_id);
        });
        (fault, request_id)
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

        // Subscribe before counting: a test that sees the count and opens the gate then
        // releases this call.
        let mut gate = self.gate.subscribe();
        self.journal.send_modify(|journal| journal.at_gate += 1);
        let _waiting = Waiting(&self.journal);
        // The sender lives as long as `self`, so only the gate ends this.
        let _opened = gate.changed().await;
    }
}
