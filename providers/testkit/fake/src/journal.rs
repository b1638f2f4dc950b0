//! What was asked, in order.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most requests that are remembered; the oldest are forgotten first.
const MAX_ASKED: usize = 10_000;

/// One request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Counts from 1 since the fake was started.
    pub number: u64,
    /// The method.
    pub method: String,
    /// The header `Host`, or the authority of HTTP/2.
    pub host: String,
    /// The path as it was sent, percent-encoding included.
    pub path: String,
    /// The query as it was sent, without the question mark.
    pub query: String,
    /// Who asked, where the service found out; never a credential.
    pub caller: Option<String>,
    /// The body, if it was JSON.
    pub body: Value,
    /// The status of the answer; none while it is under way, or when there was no answer.
    pub status: Option<u16>,
}

/// Who asked. A service puts it among the extensions of its answer, and the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub String);

#[derive(Debug, Default)]
struct Held {
    last: u64,
    asked: VecDeque<Asked>,
}

/// The last 10,000 requests.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Held>);

impl Journal {
    /// What was asked, oldest first.
    pub fn all(&self) -> Vec<Asked> {
        self.0.lock().asked.iter().cloned().collect()
    }

    /// How many requests there were whose method is this and whose path contains these words.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let held = self.0.lock();
        held.asked
            .iter()
            .filter(|asked| asked.method == method && asked.path.contains(path))
            .count()
    }

    /// Forgets all; the numbers go on.
    pub fn clear(&self) {
        self.0.lock().asked.clear();
    }

    /// Writes a request down, and gives its number.
    pub(crate) fn begin(&self, mut asked: Asked) -> u64 {
        let mut held = self.0.lock();
        held.last += 1;
        asked.number = held.last;
        if held.asked.len() >= MAX_ASKED {
            held.asked.pop_front();
        }
        held.asked.push_back(asked);
        held.last
    }

    /// Adds how it ended.
    pub(crate) fn end(&self, number: u64, status: u16, caller: Option<Caller>) {
        let mut held = self.0.lock();
        if let Some(asked) = held.asked.iter_mut().rev().find(|asked| asked.number == number) {
            asked.status = Some(status);
            asked.caller = caller.map(|Caller(name)| name);
        }
    }
}
